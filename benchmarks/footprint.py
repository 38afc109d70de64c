"""What a session, a message and a request cost on each store: `python -m benchmarks.footprint`.

Bytes: sessions without messages, then with messages of two lengths; the growth of the file, the
tables or the server's memory. Processor time: of `agent-sessions serve` with one worker, and of the
store's server, while 32 connections append, read the latest 20 messages, and list 10 sessions.
The result is the table of `agent_cores.session.cli.figures`, by which `agent-sessions plan` counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import psutil

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.cli.bench import library_micros, measured
from agent_cores.session.cli.figures import Micros, StoreFigures
from agent_cores.session.client import SessionClient
from benchmarks.environments import clean_environment
from benchmarks.machine import facts

SHORT, LONG = 200, 1_000
"""Bytes of the two kinds of messages."""
MESSAGES = 20
CONNECTIONS = 32
USER = "ann"


class Running(NamedTuple):
    """A store's server: a URL of an empty store, its process, and how many bytes that takes."""

    url: str
    pid: int | None
    size: Callable[[], int]


@contextmanager
def sqlite() -> Iterator[Running]:
    """A file in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="footprint-"))
    file = folder / "sessions.db"
    try:
        yield Running(f"sqlite:///{file}", None, lambda: file.stat().st_size)
    finally:
        shutil.rmtree(folder)


@contextmanager
def valkey() -> Iterator[Running]:
    """A server without persistence."""
    from tests.servers.redis import RedisServer

    with RedisServer() as server:

        def size() -> int:
            with server.client() as client:
                return int(client.info("memory")["used_memory"])

        yield Running(server.url, _pid(server), size)


@contextmanager
def postgres() -> Iterator[Running]:
    """A server as its wheel configures it."""
    from tests.servers.postgres import PostgresServer

    with PostgresServer() as server:

        def size() -> int:
            return int(server.sql("SELECT pg_database_size('postgres')"))

        yield Running(server.url(), _pid(server), size)


@contextmanager
def mariadb() -> Iterator[Running]:
    """A server as the tests configure it."""
    from tests.servers.mariadb import MariaDBServer

    with MariaDBServer() as server:
        database = server.new_database()

        def size() -> int:
            files = (server.folder / "data" / database).glob("*.ibd")
            return sum(file.stat().st_size for file in files)

        yield Running(server.url(database), _pid(server), size)


STORES = {"sqlite": sqlite, "redis": valkey, "postgres": postgres, "mysql": mariadb}


def _pid(server: Any) -> int:  # noqa: ANN401 - of several classes
    return int(server._process.pid)  # noqa: SLF001 - the tests' own


def main() -> None:
    """Measure each store, and print what was found as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--sessions", type=int, default=3_000)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each kind of request")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name in arguments.only:
        sizes = [_bytes(name, length, arguments.sessions) for length in (SHORT, LONG)]
        with STORES[name]() as store:
            library = asyncio.run(_library(store, arguments.seconds))
            costs = asyncio.run(_costs(store, arguments.seconds))
        figures = _figures(sizes, library, costs)
        found[name] = msgspec.structs.asdict(figures)
        print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps({"machine": facts(), "stores": found}, indent=1))


def _bytes(name: str, length: int, sessions: int) -> tuple[float, float]:
    """The bytes of a session without messages, and what each message adds to it."""
    with STORES[name]() as store:
        empty, bare, full = asyncio.run(_fill(store, length, sessions))
    return (bare - empty) / sessions, (full - bare) / (sessions * MESSAGES)


async def _fill(store: Running, length: int, sessions: int) -> tuple[int, int, int]:
    settings = SessionSettings(cleanup_interval=0, timeout=60)
    sizes: list[int] = []

    async def weigh() -> None:
        sizes.append(store.size())

    async with SessionManager(store.url, settings=settings) as manager:
        await weigh()
        names = [f"session-{n:08}" for n in range(sessions)]
        await _all(
            names, lambda name: manager.create_session(f"{USER}-{name[-5:]}", session_id=name)
        )
    async with SessionManager(store.url, settings=settings):  # its file is written by closing
        await weigh()
    async with SessionManager(store.url, settings=settings) as manager:
        text = _text(length)
        for _ in range(MESSAGES):
            await _all(
                names, lambda name: manager.add_message(name, f"{USER}-{name[-5:]}", "user", text)
            )
    async with SessionManager(store.url, settings=settings):
        await weigh()
    empty, bare, full = sizes
    return empty, bare, full


async def _all(names: list[str], call: Callable[[str], Awaitable[object]]) -> None:
    for first in range(0, len(names), 500):
        await asyncio.gather(*map(call, names[first : first + 500]))


def _text(length: int) -> str:
    words = "how do I get from the station to the old town and what should I see there first "
    return (words * (length // len(words) + 1))[:length]


async def _library(store: Running, seconds: float) -> Micros:
    """What `agent-sessions bench` says: microseconds of the library."""
    settings = SessionSettings(cleanup_interval=0)
    async with SessionManager(store.url, settings=settings) as manager:
        text = _text(SHORT)
        rates = await measured(manager, USER, [CONNECTIONS], seconds=seconds, text=text)
    found = library_micros(rates)
    assert found is not None
    return found


async def _costs(store: Running, seconds: float) -> dict[str, tuple[float, float]]:
    """Microseconds of service and store for each kind of request."""
    folder = Path(tempfile.mkdtemp(prefix="footprint-"))
    service, address, key = _serve(folder, store.url)
    try:
        async with SessionClient(address, key, pool_size=CONNECTIONS) as client:
            names = [await client.create_session(USER) for _ in range(200)]
            for name in names:
                await client.add_messages(
                    name, USER, [{"role": "user", "content": _text(SHORT)}] * MESSAGES
                )
            turn = cycle(names)
            kinds: dict[str, Callable[[], Awaitable[object]]] = {
                "append": lambda: client.add_message(next(turn), USER, "user", _text(SHORT)),
                "read": lambda: client.get_session_messages(next(turn), USER, limit=MESSAGES),
                "list": lambda: client.list_user_sessions(USER, limit=10),
            }
            return {
                kind: await _cost(call, seconds, service.pid, store.pid)
                for kind, call in kinds.items()
            }
    finally:
        service.terminate()
        service.wait()
        shutil.rmtree(folder)


async def _cost(
    call: Callable[[], Awaitable[object]], seconds: float, service: int, store: int | None
) -> tuple[float, float]:
    count = 0

    async def caller(until: float) -> None:
        nonlocal count
        while monotonic() < until:
            await call()
            count += 1

    async def load(length: float) -> None:
        until = monotonic() + length
        await asyncio.gather(*(caller(until) for _ in range(CONNECTIONS)))

    await load(0.5)
    before, count = (processor_time(service), processor_time(store)), 0
    await load(seconds)
    after = processor_time(service), processor_time(store)
    one, other = ((late - early) / count * 1e6 for early, late in zip(before, after, strict=True))
    return one, other


def processor_time(pid: int | None) -> float:
    """Seconds of processor time of a process and of those that it started."""
    if pid is None:
        return 0.0
    total = 0.0
    top = psutil.Process(pid)
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _serve(folder: Path, url: str) -> tuple[subprocess.Popen[str], str, str]:
    """A service with one worker; its address and its key."""
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_cores.session.cli", "serve", "--port", "0"],
        env=clean_environment({"SESSION_STORAGE_URL": url}),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    log.close()
    assert process.stdout is not None
    printed = ""
    while not (address := re.search(r"http://\S+?(?=;)", printed)) or "KEY=" not in printed:
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        printed += line
    key = re.search(r"AGENT_SESSIONS_KEY=(\S+)", printed)
    assert key is not None
    return process, address[0], key[1]


def _figures(
    sizes: list[tuple[float, float]], library: Micros, costs: dict[str, tuple[float, float]]
) -> StoreFigures:
    """Split what a message takes into what each one takes, and what each byte of it does."""
    session = sum(size for size, _ in sizes) / len(sizes)
    short, long = (message for _, message in sizes)
    of_a_byte = (long - short) / (LONG - SHORT)
    http = {kind: float(round(max(cost[0] - library[kind], 0))) for kind, cost in costs.items()}
    store = {kind: float(round(cost[1])) for kind, cost in costs.items()}
    return StoreFigures(
        session_bytes=round(session),
        message_bytes=round(short - of_a_byte * SHORT),
        text_factor=round(of_a_byte, 2),
        library_micros={kind: float(round(micros)) for kind, micros in library.items()},
        http_micros=http,
        store_micros=store,
    )


if __name__ == "__main__":
    os.environ.pop("SESSION_STORAGE_URL", None)
    main()
