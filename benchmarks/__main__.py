"""`python -m benchmarks`: one run, one table, `latest.json` and `latest.svg`.

It chooses what runs and where the results go. `README.md` beside it says how each number is made.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from benchmarks import catalogue
from benchmarks.chart import as_svg
from benchmarks.crash import Crashes, CrashRunFailedError, measure_crashes
from benchmarks.entries import Contender
from benchmarks.figures import figures
from benchmarks.import_time import ImportFailedError, drivers_loaded, measure_imports
from benchmarks.machine import facts, sync_time
from benchmarks.records import QUICK, Settings
from benchmarks.rounds import Results, Stopped, measure
from benchmarks.table import as_json, as_text

RESULTS = Path(__file__).resolve().parent / "results"
STARTED = monotonic()


def main() -> int:
    """Returns 1 if one of our own contenders did not run, else 0: a slow run is no error."""
    arguments = _arguments()
    settings = _settings(arguments)
    wanted = arguments.only or list(catalogue.NAMES)
    contenders = _contenders(arguments.contender)
    machine = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **facts()}
    results = Results()
    for workload in catalogue.WORKLOADS:
        if workload.name in wanted:
            measure(workload, contenders, settings, results, _say)
    drivers = _imports(contenders, settings, results) if catalogue.IMPORT in wanted else None
    crashes = _crashes(settings, results) if catalogue.CRASH in wanted else None
    kind = "quick: too short to quote" if arguments.quick else "full"
    machine["the same at the end"] = sync_time()
    machine["run"] = f"{kind}, {monotonic() - STARTED:.0f} s"
    machine.update(_versions(results))
    found = figures(results, settings, drivers, crashes)
    sys.stdout.write(f"\n{as_text(results, found, crashes, machine)}\n")
    arguments.out.mkdir(parents=True, exist_ok=True)
    values = as_json(results, found, crashes, machine, settings)
    text = json.dumps(values, indent=1, ensure_ascii=False)
    (arguments.out / "latest.json").write_text(text + "\n")
    (arguments.out / "latest.svg").write_text(as_svg(results, machine))
    return int(_ours_failed(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=catalogue.NAMES)
    parser.add_argument("--contender", nargs="+", metavar="WORD", help="part of a contender's name")
    parser.add_argument("--quick", action="store_true", help="a minute or two; too short to quote")
    parser.add_argument("--seconds", type=float, help="length of one measurement of a rate")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = QUICK if arguments.quick else Settings()
    if arguments.seconds is not None:
        settings = dataclasses.replace(settings, seconds=arguments.seconds)
    return settings


def _contenders(words: list[str] | None) -> list[Contender]:
    return [
        contender
        for contender in catalogue.CONTENDERS
        if not words or any(word.lower() in contender.name.lower() for word in words)
    ]


def _imports(contenders: list[Contender], settings: Settings, results: Results) -> list[str] | None:
    try:
        measure_imports(contenders, settings, results, _say)
        return drivers_loaded()
    except ImportFailedError as error:
        results.stops.append(Stopped(catalogue.IMPORT, "agent_cores", "", f"failed: {error}"))
        return None


def _crashes(settings: Settings, results: Results) -> Crashes | None:
    _say(f"crash: {settings.crashes} kills")
    try:
        return measure_crashes(settings)
    except CrashRunFailedError as error:
        results.stops.append(Stopped(catalogue.CRASH, "agent_cores", "", f"failed: {error}"))
        return None


def _versions(results: Results) -> dict[str, str]:
    """The version of every package that was measured, once."""
    return {
        package: version
        for versions in results.versions.values()
        for package, version in versions.items()
        if package != "Python"
    }


def _ours_failed(results: Results) -> bool:
    return any(
        stop.contender.startswith("agent_cores") and stop.why.startswith("failed")
        for stop in results.stops
    )


def _say(what: str) -> None:
    """Progress, apart from the table, with the seconds since the start."""
    sys.stderr.write(f"{monotonic() - STARTED:5.0f} s  {what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
