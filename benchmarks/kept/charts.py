"""Draw one chart from one kept file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.chart import (
    COLOURS,
    DARK,
    LIGHT,
    LINE,
    MARGIN,
    PANEL_HEAD,
    document,
    rectangle,
    text,
)

THEMES = {"light": {**LIGHT, "ground": "none"}, "dark": {**DARK, "ground": "none"}}
"""They stand on the page's own ground."""
HEAD = 60
WIDTH = 720
NAME_WIDTH = 235
BAR_WIDTH = 240


def as_svg(kept: Mapping[str, Any], theme: Mapping[str, str]) -> str:
    """The whole chart."""
    facts = " · ".join(f"{name}: {fact}" for name, fact in kept["machine"].items())
    parts = [text(MARGIN, 30, kept["title"], "title"), text(MARGIN, 50, facts, "note")]
    top = HEAD
    for panel in kept["panels"]:
        parts.append(text(MARGIN, top + 26, panel["head"], "head"))
        largest = max(bar["high"] for bar in panel["bars"])
        for index, bar in enumerate(panel["bars"]):
            line = top + PANEL_HEAD + index * LINE
            parts.extend(_bar(bar, line, panel["unit"], BAR_WIDTH / largest, theme["words"]))
        top += PANEL_HEAD + LINE * len(panel["bars"])
    return document(parts, top + MARGIN, theme, WIDTH)


def _bar(bar: Mapping[str, Any], top: int, unit: str, scale: float, colour: str) -> Iterator[str]:
    left = MARGIN + NAME_WIDTH
    yield text(left - 8, top + 14, bar["name"], "name")
    yield rectangle(left, top + 3, max(1.0, bar["value"] * scale), LINE - 7, COLOURS[bar["role"]])
    yield rectangle(
        left + bar["low"] * scale, top + 10, (bar["high"] - bar["low"]) * scale, 1, colour
    )
    reach = f"{bar['value']:,} {unit} ({bar['low']:,} to {bar['high']:,})"
    yield text(left + bar["high"] * scale + 8, top + 14, reach, "value")
