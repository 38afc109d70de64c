"""The course of a run as SVG: a panel for each quantity, lines where workers were replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT, GAP, MARGIN = 760, 70, 46, 20
_MOST_POINTS = 300
_STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:12px;fill:#1f2328}"
    ".title{font-size:16px;font-weight:600}.note{fill:#59636e}"
    "path{fill:none;stroke:#1f6feb;stroke-width:1.5}"
    ".mark{stroke:#d0d7de;stroke-width:1}.ground{fill:#f6f8fa}.page{fill:#ffffff}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}"
    "path{stroke:#4493f8}.mark{stroke:#3d444d}.ground{fill:#151b23}.page{fill:#0d1117}}"
)


class Panel(NamedTuple):
    """One quantity, a value for each second."""

    title: str
    values: Sequence[float]


def as_svg(title: str, notes: Sequence[str], panels: Sequence[Panel], marks: Sequence[int]) -> str:
    """The whole picture; `marks` are the seconds at which workers were replaced."""
    parts = [_text(MARGIN, 28, title, "title")]
    parts += [_text(MARGIN, 48 + 17 * n, note, "note") for n, note in enumerate(notes)]
    top = 66 + 17 * len(notes)
    for panel in panels:
        parts += _panel(panel, top, marks)
        top += HEIGHT + GAP
    size = f'width="{WIDTH + 2 * MARGIN}" height="{top}"'
    box = f'viewBox="0 0 {WIDTH + 2 * MARGIN} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img">'
    ground = f'<rect class="page" {size}/>'
    return "\n".join((head, f"<style>{_STYLE}</style>", ground, *parts, "</svg>", ""))


def _panel(panel: Panel, top: int, marks: Sequence[int]) -> list[str]:
    seconds = max(len(panel.values) - 1, 1)
    most = max([*panel.values, 1e-9])
    low, high = min(panel.values, default=0.0), max(panel.values, default=0.0)
    words = f"{panel.title}: {low:,.0f} to {high:,.0f}"
    bottom = top + 8 + HEIGHT
    parts = [
        _text(MARGIN, top, words, "name"),
        f'<rect class="ground" x="{MARGIN}" y="{top + 8}" width="{WIDTH}" height="{HEIGHT}"/>',
    ]
    for second in marks:
        left = MARGIN + WIDTH * second / seconds
        parts.append(f'<path class="mark" d="M{left:.0f} {top + 8}V{bottom}"/>')
    step = max(len(panel.values) // _MOST_POINTS, 1)
    points = [
        f"{MARGIN + WIDTH * n / seconds:.0f} {bottom - HEIGHT * value / most:.0f}"
        for n, value in enumerate(panel.values)
        if n % step == 0
    ]
    return [*parts, f'<path d="M{"L".join(points)}"/>']


def _text(left: int, top: int, words: str, kind: str) -> str:
    return f'<text x="{left}" y="{top}" class="{kind}">{escape(words)}</text>'
