"""The results as one text table and as JSON. This module only formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from benchmarks.catalogue import CRASH, IMPORT, WORKLOADS
from benchmarks.crash import Crashes
from benchmarks.figures import Figure
from benchmarks.records import Settings
from benchmarks.rounds import Results
from benchmarks.rows import BEST, Row, condensed

TITLES = {
    **{workload.name: workload.title for workload in WORKLOADS},
    IMPORT: "Import in a fresh interpreter, less the bare start",
}
MET = {True: "yes", False: "NO", None: "-"}
HEAD = ("contender", "case", "called by", "value", "unit", "low", "high", "of limit", "ours is")


def as_text(
    results: Results, found: Sequence[Figure], crashes: Crashes | None, facts: dict[str, str]
) -> str:
    """The whole report as text."""
    sections = [
        _aligned(facts.items()),
        *_workloads(results),
        _crashes(crashes),
        _stops(results),
        _figures(found),
    ]
    return "\n\n".join(section for section in sections if section)


def as_json(
    results: Results,
    found: Sequence[Figure],
    crashes: Crashes | None,
    facts: dict[str, str],
    settings: Settings,
) -> dict[str, object]:
    """The same as plain JSON values, with every round of every number of callers."""
    return {
        "machine": facts,
        "settings": dataclasses.asdict(settings),
        "versions": results.versions,
        "figures": [dataclasses.asdict(figure) for figure in found],
        "rows": [_row_as_json(row) for row in condensed(results.measurements)],
        "measurements": [dataclasses.asdict(row) for row in results.measurements],
        CRASH: dataclasses.asdict(crashes) if crashes else None,
        "stopped": [dataclasses.asdict(stop) for stop in results.stops],
    }


def number(value: float) -> str:
    """Three significant digits, with separators of thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def called_by(row: Row) -> str:
    """The way of calling, with the number of callers at which the contender was best."""
    if row.way != BEST:
        return row.way
    return f"best, {row.measurement.sample.callers} callers"


def times(ratio: float | None) -> str:
    """A ratio, or nothing."""
    return "" if ratio is None else f"{number(ratio)} x"


def _row_as_json(row: Row) -> dict[str, object]:
    measured = row.measurement
    return {
        "workload": measured.workload,
        "group": measured.group,
        "contender": measured.contender,
        "case": measured.sample.case,
        "called_by": called_by(row),
        "value": measured.sample.value,
        "unit": measured.sample.unit,
        "of_limit": row.of_limit,
        "ours_is": row.ours_is,
    }


def _workloads(results: Results) -> Iterator[str]:
    for name, rows in groupby(
        condensed(results.measurements), lambda row: row.measurement.workload
    ):
        yield f"{TITLES[name]}\n{_grid([HEAD, *(_line(row) for row in rows)])}"


def _line(row: Row) -> tuple[str, ...]:
    sample = row.measurement.sample
    return (
        row.measurement.contender,
        sample.case,
        called_by(row),
        number(sample.value),
        sample.unit,
        number(sample.low),
        number(sample.high),
        times(row.of_limit),
        times(row.ours_is),
    )


def _crashes(crashes: Crashes | None) -> str:
    if crashes is None:
        return ""
    return (
        f"SIGKILL of the writing process, SQLite: {crashes.kills} kills, each at most "
        f"{crashes.longest_ms:.0f} ms after an acknowledgement; "
        f"{crashes.acknowledged:,} acknowledged, "
        f"{crashes.repeated} of these repeated after a lost answer; "
        f"lost {crashes.lost}, doubled {crashes.doubled}, gaps {crashes.gaps}"
    )


def _stops(results: Results) -> str:
    if not results.stops:
        return ""
    rows = [(stop.workload, stop.contender, stop.case or "all", stop.why) for stop in results.stops]
    return f"Where a contender stopped, and why\n{_grid(rows)}"


def _figures(found: Sequence[Figure]) -> str:
    head = ("figure", "required", "reached", "met")
    rows = [(figure.what, figure.required, figure.reached, MET[figure.met]) for figure in found]
    return f"Figures to reach\n{_grid([head, *rows])}"


def _aligned(pairs: Iterable[tuple[str, str]]) -> str:
    return _grid([(name, value) for name, value in pairs])


def _grid(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; columns of numbers are aligned to the right."""
    columns = [_column(cells) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _column(cells: Sequence[str]) -> list[str]:
    width = max(len(cell) for cell in cells)
    numbers = all(_is_number(cell) for cell in cells[1:] if cell)
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in cells]


def _is_number(cell: str) -> bool:
    return cell.removesuffix(" x").replace(",", "").replace(".", "", 1).isdigit()
