"""``agent-sessions bench``: how many calls a second a store or a service does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import cycle
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from agent_cores.session.cli.latencies import Latencies
from agent_cores.session.cli.opening import Json, Opened, Where, with_sessions
from agent_cores.session.cli.output import note, say, say_json, table
from agent_cores.session.errors import ConfigurationError, SessionNotFoundError
from agent_cores.session.inputs import whole_number

if TYPE_CHECKING:
    from agent_cores.session.manager import SessionManager

NAMESPACE = "agent-sessions-bench"
_SESSIONS = 200
_MESSAGES, _LISTED = 20, 10
_MOST_CALLERS = 1_000
_MOST_SECONDS = 600
_LIFE_HOURS = 1.0
"""If the removal fails, the sweeper removes what is left."""
_WARM_UP = 0.1
_COLUMNS = ("OPERATION", "CALLERS", "PER SECOND", "MEDIAN", "99 %", "CPU")
Several = Annotated[list[int] | None, Parameter(negative=(), consume_multiple=True)]
Call = Callable[[], Awaitable[object]]


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: calls per second, their latency in milliseconds, their processor time.

    ``micros`` of processor time are this process's, for a call: what the library costs. Of a
    service it is unknown.
    """

    operation: str
    callers: int
    per_second: float
    median_ms: float
    p99_ms: float
    micros: float | None


def bench(
    *,
    where: Where | None = None,
    seconds: float = 2.0,
    callers: Several = None,
    message_bytes: int = 200,
    as_json: Json = False,
) -> None:
    """Measure appends, reads and listings on a store or a service, under full load.

    It works in sessions of a user and a namespace of its own, and removes them at its end.

    Parameters
    ----------
    seconds
        How long each of the measurements takes.
    callers
        How many callers there are at the same time; several numbers are measured one after another.
    message_bytes
        The length of a message.
    as_json
        Print one line of JSON, which plan --figures reads.
    """
    where = where or Where()
    if where.as_operator is not None:
        raise ConfigurationError("bench measures what users do: give --user, or nobody")
    if where.user is None:
        where = replace(where, user=f"bench-{secrets.token_hex(4)}")
    if where.namespace is None and where.server is None:
        where = replace(where, namespace=NAMESPACE)
    many = [whole_number(n, "callers", 1, _MOST_CALLERS) for n in callers or (1, 16, 100)]
    text = _text(whole_number(message_bytes, "message_bytes", 1, 100_000))
    if not 0 < seconds <= _MOST_SECONDS:
        raise ConfigurationError(f"--seconds must be more than 0, and at most {_MOST_SECONDS}")

    async def use(opened: Opened) -> tuple[str, list[Rate]]:
        local = opened.where.server is None
        rates = await measured(
            opened.verbs, opened.user_id, many, seconds=seconds, text=text, counts_cpu=local
        )
        return _store_of(opened), rates

    store, rates = with_sessions(where, use)
    if as_json:
        say_json(
            {
                "store": store,
                "message_bytes": message_bytes,
                "seconds": seconds,
                "rates": rates,
                "library_micros": library_micros(rates),
            }
        )
        return
    for line in table(_COLUMNS, map(_row, rates)):
        say(line)


async def measured(
    verbs: SessionManager,
    user_id: str,
    callers: list[int],
    *,
    seconds: float,
    text: str,
    counts_cpu: bool = True,
) -> list[Rate]:
    """Measure each operation with each number of callers, in sessions that are removed."""
    message = {"role": "user", "content": text}
    stem = f"bench-{secrets.token_hex(8)}"
    names = [f"{stem}-{number}" for number in range(_SESSIONS)]

    async def fill(name: str) -> None:
        await verbs.create_session(user_id, session_id=name, ttl_hours=_LIFE_HOURS)
        await verbs.add_messages(name, user_id, [message] * _MESSAGES)

    await fill(names[0])  # alone: who may not write learns it from one request
    try:
        await asyncio.gather(*map(fill, names[1:]))
        turn = cycle(names)
        calls: dict[str, Call] = {
            "append": lambda: verbs.add_message(next(turn), user_id, "user", text),
            "read": lambda: verbs.get_session_messages(next(turn), user_id, limit=_MESSAGES),
            "list": lambda: verbs.list_user_sessions(user_id, limit=_LISTED),
        }
        return [
            await _rate(operation, call, many, seconds, counts_cpu=counts_cpu)
            for operation, call in calls.items()
            for many in callers
        ]
    finally:
        await asyncio.shield(_remove(verbs, user_id, names))


def library_micros(rates: list[Rate]) -> dict[str, float] | None:
    """Return what an operation costs with the most callers, as in a busy service."""
    busiest = {rate.operation: rate.micros for rate in sorted(rates, key=lambda one: one.callers)}
    found = {name: micros for name, micros in busiest.items() if micros is not None}
    return found or None


async def _rate(
    operation: str, call: Call, callers: int, seconds: float, *, counts_cpu: bool
) -> Rate:
    latencies = Latencies()

    async def caller(until: float) -> None:
        ended = 0.0
        while ended < until:
            started = perf_counter()
            await call()
            ended = perf_counter()
            latencies.add(ended - started)

    async def load(length: float) -> None:
        until = perf_counter() + length
        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(caller(until))

    await _unwrapped(load(_WARM_UP))
    latencies = Latencies()
    started, spent = perf_counter(), process_time()
    await _unwrapped(load(seconds))
    took, spent = perf_counter() - started, process_time() - spent
    count = latencies.count
    return Rate(
        operation=operation,
        callers=callers,
        per_second=round(count / took, 1),
        median_ms=round(latencies.percentile(0.5) * 1e3, 3),
        p99_ms=round(latencies.percentile(0.99) * 1e3, 3),
        micros=round(spent / count * 1e6, 1) if counts_cpu else None,
    )


async def _unwrapped(work: Awaitable[None]) -> None:
    """Raise the first error of a group of tasks as it is."""
    try:
        await work
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _remove(verbs: SessionManager, user_id: str, names: list[str]) -> None:
    outcomes = await asyncio.gather(
        *(verbs.delete_session(name, user_id) for name in names), return_exceptions=True
    )
    failed = [one for one in outcomes if isinstance(one, Exception)]
    left = sum(not isinstance(one, SessionNotFoundError) for one in failed)
    if left:
        note(f"agent-sessions: {left} sessions of {user_id} are left; they expire within the hour")


def _store_of(opened: Opened) -> str:
    """Return what ``plan`` calls the store: the folder of its provider."""
    if opened.where.server is not None:
        return "service"
    return type(opened.verbs.runtime.storage).__module__.split(".")[-2]


def _text(length: int) -> str:
    words = "how do I get from the station to the old town "
    return (words * (length // len(words) + 1))[:length]


def _row(rate: Rate) -> tuple[str, ...]:
    return (
        rate.operation,
        str(rate.callers),
        f"{rate.per_second:,.0f}",
        f"{rate.median_ms:.2f} ms",
        f"{rate.p99_ms:.2f} ms",
        "-" if rate.micros is None else f"{rate.micros:.0f} us",
    )
