"""What the table and the chart show: measurements condensed to one caller and the best of many.

A ratio compares rows of one group, one case and one way of calling. Above 1 always means that ours
is better, for rates as well as for times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from benchmarks.rounds import Measurement

ALONE = "1 caller"
BEST = "best of many callers"


@dataclass(frozen=True)
class Row:
    """One line of the table: `way` is the way of calling, `of_limit` and `ours_is` are ratios."""

    measurement: Measurement
    way: str
    of_limit: float | None = None
    ours_is: float | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Only rows of equal key may be compared."""
        measured = self.measurement
        return measured.workload, measured.group, measured.sample.case, self.way


def condensed(measurements: Iterable[Measurement]) -> list[Row]:
    """One row for one caller and one for the best of many, with ratios."""
    rows = list(_condensed(measurements))
    return [_with_ratios(row, [other for other in rows if other.key == row.key]) for row in rows]


def best(measurements: Iterable[Measurement]) -> Measurement:
    """The sample with the best value: the highest, or the lowest if lower is better."""
    return max(
        measurements,
        key=lambda row: row.sample.value if row.sample.better == "higher" else -row.sample.value,
    )


def times_better(ours: Measurement, other: Measurement) -> float:
    """How many times better `ours` is than `other`."""
    if ours.sample.better == "higher":
        return ours.sample.value / other.sample.value
    return other.sample.value / ours.sample.value


def _condensed(measurements: Iterable[Measurement]) -> Iterator[Row]:
    def subject(row: Measurement) -> tuple[str, str, str]:
        return row.workload, row.contender, row.sample.case

    for _, same in groupby(measurements, key=subject):
        found = list(same)
        many = [row for row in found if row.sample.callers not in (None, 1)]
        yield from (Row(row, ALONE) for row in found if row.sample.callers == 1)
        yield from (Row(row, "") for row in found if row.sample.callers is None)
        if len(many) == 1:
            yield Row(many[0], f"{many[0].sample.callers} callers")
        elif many:
            yield Row(best(many), BEST)


def _with_ratios(row: Row, comparable: list[Row]) -> Row:
    ours = _of_role(comparable, "ours")
    limit = _of_role(comparable, "limit")
    of_limit = times_better(row.measurement, limit) if limit else None
    ours_is = (
        times_better(ours, row.measurement) if ours and row.measurement.role != "ours" else None
    )
    return Row(row.measurement, row.way, of_limit, ours_is)


def _of_role(rows: list[Row], role: str) -> Measurement | None:
    return next((row.measurement for row in rows if row.measurement.role == role), None)
