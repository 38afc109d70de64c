"""The blocks of code on a page, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^( *)(`{3,})([^\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block: its page, its place on it, its language, and its text."""

    page: str
    number: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """What tests call it."""
        return f"{self.page}-{self.number}"


class Step(NamedTuple):
    """A command, and what the page shows that it prints: nothing, if it shows nothing."""

    command: str
    shown: list[str]


def page_file(page: str) -> Path:
    """Return the file of a page."""
    return ROOT / "README.md" if page == "README" else ROOT / "docs" / f"{page}.md"


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page."""
    text = page_file(page).read_text("utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(_FENCED.findall(text)), page
    found = enumerate(_FENCED.finditer(text))
    return [Block(page, number, match[3].strip(), match[4]) for number, match in found]


def steps_of(text: str) -> list[Step]:
    """Return the commands of a block. With ``$ ``, what is not a command is its output."""
    joined = text.replace("\\\n", " ")
    lines = joined.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return [Step(line, []) for line in lines if line.strip() and not line.startswith("#")]
    steps: list[Step] = []
    for line in lines:
        if line.startswith("$ "):
            steps.append(Step(line[2:], []))
        else:
            steps[-1].shown.append(line)
    return steps
