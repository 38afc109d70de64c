"""The figures that this project promises, each compared with what this run measured.

A figure whose numbers are missing is neither met nor missed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.adapter_catalogue import (
    ADK_ON_POSTGRES,
    ADK_ON_SQLITE,
    LANGGRAPH_ON_POSTGRES,
    LANGGRAPH_ON_SQLITE,
    LANGGRAPH_POSTGRES,
    LANGGRAPH_SQLITE,
    OPENAI_ON_POSTGRES,
    OPENAI_ON_REDIS,
    OPENAI_ON_SQLITE,
)
from benchmarks.catalogue import (
    ADK_MEMORY,
    ADK_MYSQL,
    ADK_POSTGRES,
    ADK_SERVER,
    ADK_SQLITE,
    ANY_LOOP_MEMORY,
    ANY_LOOP_SQLITE,
    BY_ID,
    IMPORT,
    LIMIT_HTTP,
    LIMIT_MYSQL,
    LIMIT_POSTGRES,
    LIMIT_REDIS,
    LIMIT_SQLITE,
    LLAMA_INDEX_REDIS,
    OPENAI_POSTGRES,
    OPENAI_REDIS,
    OPENAI_SQLITE,
    OPERATOR,
    OURS_MEMORY,
    OURS_MYSQL,
    OURS_POSTGRES,
    OURS_REDIS,
    OURS_SQLITE,
    SERVICE_MEMORY,
    SERVICE_SQLITE,
)
from benchmarks.crash import Crashes
from benchmarks.entries import Contender
from benchmarks.import_time import PACKAGE
from benchmarks.over_http import CONNECTIONS
from benchmarks.records import Settings
from benchmarks.rounds import Measurement, Results
from benchmarks.rows import best
from benchmarks.workloads.depth import case_of as depth_case

MANY = 100
"""The number of callers at which ours is compared with the best of the others."""
OVER_HTTP = ("http", "http-create")
"""The workloads over HTTP, which have one caller per connection."""

RATES: tuple[tuple[str, Contender, Contender, float], ...] = (
    ("append", OURS_SQLITE, LIMIT_SQLITE, 0.8),
    ("append", OURS_SQLITE, OPENAI_SQLITE, 6.0),
    ("append", OURS_SQLITE, ADK_SQLITE, 40.0),
    ("append", OURS_MEMORY, ADK_MEMORY, 2.5),
    ("append", OURS_REDIS, LIMIT_REDIS, 0.6),
    ("append", OURS_REDIS, OPENAI_REDIS, 12.0),
    ("append", OURS_REDIS, LLAMA_INDEX_REDIS, 2.5),
    ("read", OURS_REDIS, OPENAI_REDIS, 1.5),
    ("append", OURS_POSTGRES, LIMIT_POSTGRES, 0.55),
    ("append", OURS_POSTGRES, OPENAI_POSTGRES, 30.0),
    ("append", OURS_POSTGRES, ADK_POSTGRES, 30.0),
    ("read", OURS_POSTGRES, OPENAI_POSTGRES, 2.0),
    ("append", OURS_MYSQL, LIMIT_MYSQL, 0.35),
    ("append", OURS_MYSQL, ADK_MYSQL, 30.0),
    ("create", OURS_SQLITE, LIMIT_SQLITE, 0.35),
    ("create", OURS_POSTGRES, LIMIT_POSTGRES, 0.35),
    ("create", OURS_MYSQL, LIMIT_MYSQL, 0.35),
    ("append", OPENAI_ON_SQLITE, OPENAI_SQLITE, 5.0),
    ("append", OPENAI_ON_REDIS, OPENAI_REDIS, 5.0),
    ("append", OPENAI_ON_POSTGRES, OPENAI_POSTGRES, 5.0),
    ("append", ADK_ON_SQLITE, ADK_SQLITE, 5.0),
    ("append", ADK_ON_POSTGRES, ADK_POSTGRES, 5.0),
    ("append", LANGGRAPH_ON_SQLITE, LANGGRAPH_SQLITE, 5.0),
    ("append", LANGGRAPH_ON_POSTGRES, LANGGRAPH_POSTGRES, 5.0),
    ("checkpoint", LANGGRAPH_ON_SQLITE, LANGGRAPH_SQLITE, 5.0),
    ("checkpoint", LANGGRAPH_ON_POSTGRES, LANGGRAPH_POSTGRES, 5.0),
    ("http", SERVICE_MEMORY, LIMIT_HTTP, 0.5),
    ("http", SERVICE_SQLITE, LIMIT_HTTP, 0.35),
    ("http-create", SERVICE_SQLITE, ADK_SERVER, 12.0),
)
"""Ours with 100 callers reaches at least this many times the best rate of the other."""

GROWTH: tuple[tuple[Contender, float], ...] = (
    (OURS_SQLITE, 1.3),
    (OURS_MEMORY, 1.3),
    (OURS_REDIS, 1.3),
    (OURS_POSTGRES, 1.5),
    (OURS_MYSQL, 1.5),
)
"""The largest size or length may cost this many times the smallest."""

ADAPTERS = (
    OPENAI_ON_SQLITE,
    OPENAI_ON_REDIS,
    OPENAI_ON_POSTGRES,
    ADK_ON_SQLITE,
    ADK_ON_POSTGRES,
    LANGGRAPH_ON_SQLITE,
    LANGGRAPH_ON_POSTGRES,
)
ADAPTER_GROWTH = 1.3
"""An append through an adapter, at the most that a peer holds, may cost this many times the first.

So may a read of the last messages. A checkpoint by its id among 1,000 may cost this many times one
among 10.
"""

BY_ID_GROWTH = 1.3
"""Deleting a message by its id may cost this many times more among 100,000 than among 10."""

SWEPT = (OURS_SQLITE, OURS_MEMORY)

MEMORY = 3.2
"""The server may use at most this many times the bytes of the messages."""

PROPORTIONAL = 2.0
ANY_LOOP = (ANY_LOOP_MEMORY, ANY_LOOP_SQLITE)
HOP = 100.0
"""Microseconds."""
EIGHT_LOOPS = 0.6
"""A sweep counts as proportional to the number of due sessions if the time per removed session
stays within this factor. A sweep that read every stored session would come near ten, since the
cases differ tenfold in that."""

IMPORT_MILLISECONDS = 100.0


@dataclass(frozen=True)
class Figure:
    """One promise: the bound, the measured value, and whether it is met (None: no number)."""

    what: str
    required: str
    reached: str
    met: bool | None


def figures(
    results: Results, settings: Settings, drivers: list[str] | None, crashes: Crashes | None
) -> list[Figure]:
    """Every figure, in the order in which they were promised."""
    return [
        *(_rate(results, *entry) for entry in RATES),
        *(figure for entry in GROWTH for figure in _growth(results, settings, *entry)),
        *(figure for each in ADAPTERS for figure in _adapter(results, settings, each)),
        *(_checkpoint(results, each) for each in (LANGGRAPH_ON_SQLITE, LANGGRAPH_ON_POSTGRES)),
        *(_by_id(results, ours) for ours in BY_ID),
        *(figure for ours in OPERATOR for figure in _operator(results, settings, ours)),
        *(figure for ours in SWEPT for figure in _sweep(results, settings, ours)),
        *(figure for ours in ANY_LOOP for figure in _any_loop(results, ours)),
        _memory(results),
        _import(results),
        _drivers(drivers),
        _crash(crashes),
    ]


def _rate(
    results: Results, workload: str, ours: Contender, other: Contender, required: float
) -> Figure:
    callers = CONNECTIONS if workload in OVER_HTTP else MANY
    what = f"{workload}, {callers} callers: {ours.name} / {other.name} at its best"
    bound = f">= {required:g} x"
    rows = results.of(workload)
    of_ours = [row for row in rows if row.contender == ours.name and row.sample.callers == callers]
    of_other = [
        row for row in rows if row.contender == other.name and row.sample.callers not in (None, 1)
    ]
    if not of_ours or not of_other:
        return Figure(what, bound, "not measured", None)
    mine, its = of_ours[0], best(of_other)
    each = [a / b for a, b in zip(mine.rounds, its.rounds, strict=False)]
    ratio = statistics.median(each)
    reached = f"{ratio:.3g} x (rounds {min(each):.3g} to {max(each):.3g})"
    return Figure(what, bound, reached, ratio >= required)


def _growth(
    results: Results, settings: Settings, ours: Contender, bound: float
) -> Iterator[Figure]:
    """The largest against the smallest: lengths, with 1 and 100 callers, and lists."""
    short, long = settings.lengths[0], settings.lengths[-1]
    few, many = settings.list_sizes[0], settings.list_sizes[-1]
    limit = settings.list_limit
    for callers in (1, MANY):
        yield _at_most(
            f"{ours.name}: append at message {long:,} / at {short:,}, callers: {callers}",
            bound,
            _one(results, "length", ours, f"at {long:,}", callers),
            _one(results, "length", ours, f"at {short:,}", callers),
        )
    yield _at_most(
        f"{ours.name}: list {limit} at {many:,} sessions / at {few:,}",
        bound,
        _one(results, "list", ours, f"{limit} of {many:,}", 1),
        _one(results, "list", ours, f"{limit} of {few:,}", 1),
    )


def _adapter(results: Results, settings: Settings, adapter: Contender) -> Iterator[Figure]:
    """The longest session that peers hold against the shortest, with 1 and 100 callers."""
    short, long = settings.lengths[0], settings.peers_hold
    for callers in (1, MANY):
        yield _at_most(
            f"{adapter.name}: append at message {long:,} / at {short:,}, callers: {callers}",
            ADAPTER_GROWTH,
            _one(results, "length", adapter, f"at {long:,}", callers),
            _one(results, "length", adapter, f"at {short:,}", callers),
        )
        few, many = depth_case(settings.depths[0]), depth_case(settings.depths[-1])
        yield _at_most(
            f"{adapter.name}: read the {few} / {many}, callers: {callers}",
            ADAPTER_GROWTH,
            _one(results, "depth", adapter, few, callers),
            _one(results, "depth", adapter, many, callers),
        )


def _checkpoint(results: Results, saver: Contender) -> Figure:
    few, many = ("by id, of 10", "by id, of 1,000")
    return _at_most(
        f"{saver.name}: a checkpoint {many} / of 10",
        ADAPTER_GROWTH,
        _one(results, "checkpoint", saver, many, 1),
        _one(results, "checkpoint", saver, few, 1),
    )


def _by_id(results: Results, ours: Contender) -> Figure:
    few, many = ("delete 1 by id, of 10", "delete 1 by id, of 100,000")
    return _at_most(
        f"{ours.name}: {many} / of 10",
        BY_ID_GROWTH,
        _one(results, "by-id", ours, many, 1),
        _one(results, "by-id", ours, few, 1),
    )


def _operator(results: Results, settings: Settings, ours: Contender) -> Iterator[Figure]:
    """Listings by owner and by tag are flat, and a trim is proportional to what goes."""
    few, many, limit = settings.list_sizes[0], settings.list_sizes[-1], settings.list_limit
    bound = next(bound for each, bound in GROWTH if each.name == ours.name)
    for by in ("owner", "tag"):
        yield _at_most(
            f"{ours.name}: operator lists {limit} of {many:,} by {by} / of {few:,}",
            bound,
            _one(results, "operator", ours, f"{limit} of {many:,} by {by}", 1),
            _one(results, "operator", ours, f"{limit} of {few:,} by {by}", 1),
        )
    yield _at_most(
        f"{ours.name}: keep the last 100 of 10,000 / of 1,000, a message",
        PROPORTIONAL,
        _one(results, "operator", ours, "keep the last 100 of 10,000", 1),
        _one(results, "operator", ours, "keep the last 100 of 1,000", 1),
    )


def _sweep(results: Results, settings: Settings, ours: Contender) -> Iterator[Figure]:
    """Every case against the first: the time per session removed."""
    cases = [f"{due:,} due of {stored:,}" for due, stored in settings.sweeps]
    for case in cases[1:]:
        yield _at_most(
            f"{ours.name}: sweep, a session: {case} / {cases[0]}",
            PROPORTIONAL,
            _one(results, "sweep", ours, case, None),
            _one(results, "sweep", ours, cases[0], None),
        )


def _any_loop(results: Results, ours: Contender) -> Iterator[Figure]:
    """The extra cost of a call from another loop, and the rate that eight loops reach together."""
    own = _one(results, "any-loop", ours, "own loop", 1)
    other = _one(results, "any-loop", ours, "another loop", 1)
    what, bound = f"{ours.name}: from another loop, more than in its own", f"<= {HOP:g} µs"
    if own is None or other is None:
        yield Figure(what, bound, "not measured", None)
    else:
        more = other.sample.value - own.sample.value
        yield Figure(what, bound, f"{more:.0f} µs", more <= HOP)
    rows = [row for row in results.of("any-loop") if row.contender == ours.name]
    rates = {row.sample.case: row.sample.value for row in rows if row.sample.callers != 1}
    what, bound = f"{ours.name}: 8 loops in 8 threads / its own loop", f">= {EIGHT_LOOPS:g} x"
    if not rates:
        yield Figure(what, bound, "not measured", None)
        return
    ratio = rates["8 loops in 8 threads"] / rates["own loop"]
    yield Figure(what, bound, f"{ratio:.3g} x", ratio >= EIGHT_LOOPS)


def _memory(results: Results) -> Figure:
    what, bound = f"{OURS_REDIS.name}: memory / bytes of the messages", f"<= {MEMORY:g} x"
    rows = [row for row in results.of("memory") if row.contender == OURS_REDIS.name]
    if not rows:
        return Figure(what, bound, "not measured", None)
    ratio = rows[0].sample.value
    return Figure(what, bound, f"{ratio:.3g} x", ratio <= MEMORY)


def _at_most(
    what: str, bound: float, larger: Measurement | None, smaller: Measurement | None
) -> Figure:
    if larger is None or smaller is None:
        return Figure(what, f"<= {bound:g} x", "not measured", None)
    ratio = larger.sample.value / smaller.sample.value
    return Figure(what, f"<= {bound:g} x", f"{ratio:.3g} x", ratio <= bound)


def _import(results: Results) -> Figure:
    what, bound = f"import {PACKAGE}", f"< {IMPORT_MILLISECONDS:g} ms"
    rows = [row for row in results.of(IMPORT) if row.sample.case == what]
    if not rows:
        return Figure(what, bound, "not measured", None)
    taken = rows[0].sample.value
    return Figure(what, bound, f"{taken:.1f} ms", taken < IMPORT_MILLISECONDS)


def _drivers(drivers: list[str] | None) -> Figure:
    what = f"drivers that import {PACKAGE} loads"
    if drivers is None:
        return Figure(what, "none", "not measured", None)
    return Figure(what, "none", ", ".join(drivers) or "none", not drivers)


def _crash(crashes: Crashes | None) -> Figure:
    what, bound = "acknowledged messages lost / doubled / gaps after SIGKILL", "0 / 0 / 0"
    if crashes is None:
        return Figure(what, bound, "not measured", None)
    found = f"{crashes.lost} / {crashes.doubled} / {crashes.gaps}"
    reached = f"{found} ({crashes.kills} kills, {crashes.acknowledged:,} acknowledged)"
    return Figure(what, bound, reached, found == bound)


def _one(
    results: Results, workload: str, ours: Contender, case: str, callers: int | None
) -> Measurement | None:
    wanted = (ours.name, case, callers)
    for row in results.of(workload):
        if (row.contender, row.sample.case, row.sample.callers) == wanted:
            return row
    return None
