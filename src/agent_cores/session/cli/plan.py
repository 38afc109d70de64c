"""``agent-sessions plan``: nodes, memory and cores for a load, with the arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import Parameter

from agent_cores.session.cli.figures import FIGURES
from agent_cores.session.cli.opening import Json  # noqa: TC001 - cyclopts reads it
from agent_cores.session.cli.output import say, say_json
from agent_cores.session.cli.planning import (
    GIGABYTE,
    MEGABYTE,
    WORKER_MB,
    Load,
    Node,
    plan_for,
)
from agent_cores.session.errors import ConfigurationError, InvalidInputError
from agent_cores.session.inputs import whole_number
from agent_cores.session.models.values import UNREADABLE

if TYPE_CHECKING:
    from agent_cores.session.cli.figures import StoreFigures

Store = Literal["sqlite", "redis", "postgres", "mysql"]
Several = Annotated[list[Store] | None, Parameter(negative=(), consume_multiple=True)]
_MOST = 10**12
_LEAST_MEMORY = WORKER_MB * MEGABYTE / GIGABYTE


class Measured(msgspec.Struct):
    """What ``bench --json`` prints, as far as it is used here."""

    store: str
    library_micros: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1e9)]] | None


def plan(
    *,
    sessions: int,
    messages: int = 20,
    message_bytes: int = 400,
    requests: float,
    appends: float = 0.5,
    reads: float = 0.4,
    store: Several = None,
    node_cores: int = 4,
    node_memory: float = 16,
    figures: str | None = None,
    as_json: Json = False,
) -> None:
    """Say which machines a load needs on each store, and how that was counted.

    Parameters
    ----------
    sessions
        How many sessions are stored at the same time.
    messages
        How many messages a session has, on average.
    message_bytes
        How long a message is, on average.
    requests
        How many requests come in the busiest second.
    appends
        The part of the requests that append a message.
    reads
        The part of them that read the latest messages; the rest list sessions.
    store
        Only these stores.
    node_cores
        The cores of a machine.
    node_memory
        The memory of a machine, in GB.
    figures
        A file with what bench --json printed on your machine, in place of the processor time that
        was measured for this release.
    as_json
        Print one line of JSON.
    """
    load = _load(sessions, messages, message_bytes, requests, (appends, reads))
    if not _LEAST_MEMORY <= node_memory <= _MOST:
        raise InvalidInputError("node_memory", f"is at least {_LEAST_MEMORY:g} GB, for a worker")
    node = Node(whole_number(node_cores, "node_cores", 1, _MOST), int(node_memory * GIGABYTE))
    known = dict(FIGURES) if figures is None else _with(_read(figures))
    plans = [plan_for(name, load, node, known[name]) for name in store or known]
    if as_json:
        say_json(plans)
        return
    say(
        f"{load.sessions:,} sessions of {load.messages} messages of {load.message_bytes} bytes;"
        f" {load.append:g} appends, {load.read:g} reads and {load.list:g} listings a second"
    )
    for one in plans:
        say("")
        say(one.store)
        for line in one.lines:
            say(f"  {line}")


def _load(
    sessions: int, messages: int, message_bytes: int, requests: float, parts: tuple[float, float]
) -> Load:
    appends, reads = parts
    if not (appends >= 0 and reads >= 0 and appends + reads <= 1):
        raise InvalidInputError("appends", "with --reads at most 1, the rest being listings")
    if not 0 <= requests <= _MOST:
        raise InvalidInputError("requests", "a number that is not negative")
    return Load(
        sessions=whole_number(sessions, "sessions", 0, _MOST),
        messages=whole_number(messages, "messages", 0, _MOST),
        message_bytes=whole_number(message_bytes, "message_bytes", 0, _MOST),
        append=round(requests * appends, 1),
        read=round(requests * reads, 1),
        list=max(0.0, round(requests * (1 - appends - reads), 1)),
    )


def _read(path: str) -> Measured:
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Measured)
    except UNREADABLE as error:
        raise ConfigurationError(f"{path} is not what bench --json prints: {error}") from error


def _with(measured: Measured) -> dict[str, StoreFigures]:
    """Return the figures with those of one store replaced."""
    held, micros = FIGURES.get(measured.store), measured.library_micros
    if held is None or micros is None or micros.keys() != held.library_micros.keys():
        raise ConfigurationError(
            "--figures needs a bench of a storage: that of a service measures the network too"
        )
    return {**FIGURES, measured.store: msgspec.structs.replace(held, library_micros=micros)}
