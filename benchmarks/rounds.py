"""Run contenders in turn, and take the median of the rounds.

In a workload with rounds the order is A B C A B C …, so that other load on the machine affects all
equally; the value is the median of the rounds, low and high are their extremes. Without rounds, the
process itself measures several times, and low and high are quartiles.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from benchmarks.entries import Contender, Workload
from benchmarks.processes import run_contender
from benchmarks.records import Report, Sample, Settings


@dataclass(frozen=True)
class Measurement:
    """One row: a contender's sample in one workload, and the value of every round."""

    workload: str
    contender: str
    group: str
    role: str
    sample: Sample
    rounds: list[float]


@dataclass(frozen=True)
class Stopped:
    """Where a contender stopped in a workload, and why; an empty case means all of it."""

    workload: str
    contender: str
    case: str
    why: str


@dataclass
class Results:
    """Everything that was measured; grows during the run."""

    measurements: list[Measurement] = field(default_factory=list)
    stops: list[Stopped] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, workload: str) -> list[Measurement]:
        """The rows of one workload, in the order measured."""
        return [row for row in self.measurements if row.workload == workload]


def measure(
    workload: Workload,
    contenders: Iterable[Contender],
    settings: Settings,
    results: Results,
    say: Callable[[str], None],
) -> None:
    """Run every contender that takes part, and add its samples to `results`."""
    taking_part = []
    for contender in contenders:
        if contender.only is not None and workload.name not in contender.only:
            continue
        if workload.groups is not None and contender.group not in workload.groups:
            continue
        if (why := contender.lacks.get(workload.name)) is not None:
            results.stops.append(Stopped(workload.name, contender.name, "", why))
            continue
        taking_part.append(contender)
    reports: dict[str, list[Report]] = {contender.name: [] for contender in taking_part}
    rounds = settings.rounds if workload.in_rounds else 1
    for number in range(1, rounds + 1):
        for contender in taking_part:
            so_far = reports[contender.name]
            if so_far and not so_far[-1].samples:
                continue
            say(f"{workload.name}, round {number} of {rounds}: {contender.name}")
            so_far.append(run_contender(contender, workload, settings))
    for contender in taking_part:
        _add(results, workload, contender, reports[contender.name])


def _add(results: Results, workload: Workload, contender: Contender, reports: list[Report]) -> None:
    for sample, rounds in _merged(reports):
        results.measurements.append(
            Measurement(
                workload.name, contender.name, contender.group, contender.role, sample, rounds
            )
        )
    stops = {(stop.case, stop.why) for report in reports for stop in report.stops}
    for case, why in sorted(stops):
        results.stops.append(Stopped(workload.name, contender.name, case, why))
    for report in reports:
        results.versions.setdefault(contender.name, {}).update(report.facts)


def _merged(reports: list[Report]) -> Iterable[tuple[Sample, list[float]]]:
    """Merge the samples of equal case and callers, one from each round, into one."""
    found: dict[tuple[str, int | None], list[Sample]] = {}
    for report in reports:
        for sample in report.samples:
            found.setdefault((sample.case, sample.callers), []).append(sample)
    for samples in found.values():
        values = [sample.value for sample in samples]
        if len(samples) == 1:
            yield samples[0], values
        else:
            middle = statistics.median(values)
            yield (
                dataclasses.replace(samples[0], value=middle, low=min(values), high=max(values)),
                values,
            )
