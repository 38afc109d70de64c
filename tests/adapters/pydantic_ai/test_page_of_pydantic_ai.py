"""The program on docs/adapters/pydantic_ai.md prints what the page shows."""

from __future__ import annotations

from pathlib import Path

from tests.adapters.pages import blocks, printed_by

PAGE = "adapters/pydantic_ai.md"


def test_the_program_prints_what_the_page_shows(tmp_path: Path) -> None:
    [code], [shown] = blocks(PAGE, "python"), blocks(PAGE, "text")
    assert printed_by(code, tmp_path) == shown
    assert printed_by(code, tmp_path) == shown.replace("4", "8")  # the conversation goes on
