"""The results as one SVG bar chart, written by hand: a panel for each comparison.

Bars start at zero and are linear within their panel. This module only draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from xml.sax.saxutils import escape

from benchmarks.catalogue import IMPORT
from benchmarks.rounds import Results
from benchmarks.rows import BEST, Row, condensed
from benchmarks.table import TITLES, called_by, number, times

WIDTH = 980
NAME_WIDTH = 330
BAR_WIDTH = 360
LINE = 22
PANEL_HEAD = 40
MARGIN = 20
COLOURS = {"ours": "#1f6feb", "limit": "#8b949e", "peer": "#d1861f", "adapter": "#8250df"}
LIGHT = {"ground": "#ffffff", "words": "#1f2328", "notes": "#59636e"}
DARK = {"ground": "#0d1117", "words": "#f0f6fc", "notes": "#9198a1"}
LEGEND = {
    "ours": "agent_cores",
    "limit": "the limit, by hand",
    "peer": "peer",
    "adapter": "adapter",
}


def as_svg(results: Results, facts: dict[str, str]) -> str:
    """The whole chart."""
    parts: list[str] = [text(MARGIN, 30, "agent_cores.session, side by side", "title")]
    parts.append(text(MARGIN, 50, _caption(facts), "note"))
    parts.extend(_legend(70))
    top = 90
    for rows in _panels(condensed(results.measurements)):
        parts.extend(_panel(rows, top))
        top += PANEL_HEAD + LINE * len(rows)
    return document(parts, top + MARGIN)


def _caption(facts: dict[str, str]) -> str:
    shown = ("date", "cores", "Python", "stores in", "run")
    return " · ".join(f"{name}: {facts[name]}" for name in shown if name in facts)


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """One panel for the rows of one workload, storage and way of calling."""

    def subject(row: Row) -> tuple[str, str, str]:
        return row.measurement.workload, row.measurement.group, row.way

    panels = [list(same) for _, same in groupby(sorted(rows, key=subject), key=subject)]
    order = list(TITLES)
    return sorted(panels, key=lambda panel: order.index(panel[0].measurement.workload))


def _panel(rows: Sequence[Row], top: int) -> list[str]:
    first = rows[0]
    way = "best of many callers" if first.way == BEST else first.way
    better = first.measurement.sample.better
    storage = "" if first.measurement.group == IMPORT else first.measurement.group
    about = ", ".join(filter(None, (storage, way)))
    title = TITLES[first.measurement.workload] + (f" ({about})" if about else "")
    unit = first.measurement.sample.unit
    head = f"{title}: {unit}, {better} is better"
    largest = max(row.measurement.sample.value for row in rows)
    parts = [text(MARGIN, top + 26, head, "head")]
    for index, row in enumerate(rows):
        parts.extend(_bar(row, top + PANEL_HEAD + index * LINE, largest))
    return parts


def _bar(row: Row, top: int, largest: float) -> list[str]:
    measured = row.measurement
    sample = measured.sample
    width = max(1.0, BAR_WIDTH * max(sample.value, 0.0) / largest) if largest > 0 else 1.0
    name = f"{measured.contender}, {sample.case}"
    label = " · ".join(filter(None, (number(sample.value), _ratio(row), _callers(row))))
    return [
        text(MARGIN + NAME_WIDTH - 8, top + 14, name, "name"),
        rectangle(MARGIN + NAME_WIDTH, top + 3, width, LINE - 7, COLOURS[measured.role]),
        text(MARGIN + NAME_WIDTH + width + 6, top + 14, label, "value"),
    ]


def _ratio(row: Row) -> str:
    if row.measurement.role == "ours":
        return f"{times(row.of_limit)} of the limit" if row.of_limit is not None else ""
    return f"ours is {times(row.ours_is)}" if row.ours_is is not None else ""


def _callers(row: Row) -> str:
    return called_by(row).removeprefix("best, ") if row.way == BEST else ""


def _legend(top: int) -> list[str]:
    parts = []
    for index, (role, words) in enumerate(LEGEND.items()):
        left = MARGIN + index * 160
        parts.append(rectangle(left, top, 12, 12, COLOURS[role]))
        parts.append(text(left + 18, top + 10, words, "note"))
    return parts


def rectangle(left: float, top: float, width: float, height: int, colour: str) -> str:
    """A bar with rounded corners."""
    size = f'width="{width:.1f}" height="{height}"'
    return f'<rect x="{left}" y="{top}" {size} rx="2" fill="{colour}"/>'


def text(left: float, top: float, words: str, kind: str) -> str:
    """A line of text; `kind` is a class of the style sheet in `document`."""
    return f'<text x="{left:.1f}" y="{top}" class="{kind}">{escape(words)}</text>'


def document(
    parts: Sequence[str], height: int, theme: Mapping[str, str] = LIGHT, width: int = WIDTH
) -> str:
    """The SVG of these parts."""
    style = (
        f"text{{font-family:system-ui,sans-serif;font-size:12px;fill:{theme['words']}}}"
        ".title{font-size:18px;font-weight:600}.head{font-size:13px;font-weight:600}"
        f".note{{fill:{theme['notes']}}}.name{{text-anchor:end}}.value{{fill:{theme['notes']}}}"
    )
    size = f'width="{width}" height="{height}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" role="img">'
    )
    ground = f'<rect {size} fill="{theme["ground"]}"/>'
    return "\n".join((head, f"<style>{style}</style>", ground, *parts, "</svg>", ""))
