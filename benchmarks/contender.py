"""The contender's side: `python -m benchmarks.contender MODULE:CLASS JSON`, one JSON line out.

Runs in the contender's own environment, so it imports nothing outside the standard library except
MODULE. The JSON holds `workload` (a module of `benchmarks.workloads`),
`directory` (an empty folder) and `settings`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.records import Report, settings_from_json
from benchmarks.store import Store


def main() -> None:
    """Run one workload on one store and print the report as the last line."""
    target, request = sys.argv[1], json.loads(sys.argv[2])
    _raise_file_limit()
    store = _load(target)
    with asyncio.Runner(loop_factory=store.new_loop) as runner:
        report = runner.run(_run(store, request))
    sys.stdout.write("\n" + json.dumps(report.to_json()) + "\n")


async def _run(make: type[Store[Any]], request: dict[str, Any]) -> Report:
    workload = importlib.import_module(f"benchmarks.workloads.{request['workload']}")
    settings = settings_from_json(request["settings"])
    report: Report = await workload.run(make, settings, Path(request["directory"]))
    report.facts.update(_versions(make))
    return report


def _load(target: str) -> type[Store[Any]]:
    module, _, name = target.partition(":")
    store: type[Store[Any]] = getattr(importlib.import_module(module), name)
    return store


def _versions(make: type[Store[Any]]) -> dict[str, str]:
    versions = {"Python": platform.python_version()}
    for package in make.packages:
        versions[package] = metadata.version(package)
    return versions


def _raise_file_limit() -> None:
    """Some stores open a few files for every session."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
