"""`python -m benchmarks.kept`: keep results, and draw the charts of the documentation."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.kept.charts import THEMES, as_svg

KEPT = Path(__file__).resolve().parent
PICTURES = KEPT.parent.parent / "docs" / "pictures"
TITLES = {
    "length": "Time of an append by the length of the session; less is better",
    "list": "Time of a page of 10 by the user's sessions; less is better",
}


def main(arguments: list[str]) -> None:
    """Keep what a run measured, if the arguments name it; draw every chart."""
    if arguments:
        workload, results = arguments
        keep(workload, json.loads(Path(results).read_text(encoding="utf-8")))
    for name, svg in drawn():
        (PICTURES / name).write_text(svg, encoding="utf-8")
        print(name)


def drawn() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every chart."""
    for file in sorted(KEPT.glob("*.json")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        for theme, colours in THEMES.items():
            yield f"bench-{file.stem}-{theme}.svg", as_svg(kept, colours)


def keep(workload: str, results: dict[str, Any]) -> None:
    """Write a kept file from `latest.json`: a panel for each contender and number of callers."""

    def subject(row: dict[str, Any]) -> tuple[str, str]:
        callers = row["sample"]["callers"]
        called_by = "" if callers is None else f", {callers} caller{'s' if callers > 1 else ''}"
        return row["contender"].removeprefix("agent_cores, ") + called_by, row["sample"]["unit"]

    rows = [row for row in results["measurements"] if row["workload"] == workload]
    shown = ("date", "processor", "cores", "Python", "load at the start")
    kept = {
        "title": TITLES[workload],
        "machine": {name: results["machine"][name] for name in shown},
        "panels": [
            {"head": head, "unit": unit.split()[0], "bars": [_bar(row) for row in panel]}
            for (head, unit), panel in groupby(rows, key=subject)
        ],
    }
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (KEPT / f"{workload}.json").write_text(text + "\n", encoding="utf-8")


def _bar(row: dict[str, Any]) -> dict[str, Any]:
    sample = row["sample"]
    ends = {name: _rounded(sample[name]) for name in ("value", "low", "high")}
    return {"name": sample["case"], "role": row["role"], **ends}


def _rounded(value: float) -> float:
    return round(value) if value >= 100 else round(value, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
