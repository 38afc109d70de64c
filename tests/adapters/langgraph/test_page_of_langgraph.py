"""The programs on docs/adapters/langgraph.md run in order and print what the page shows."""

from __future__ import annotations

from pathlib import Path

from agent_cores.session import SyncSessionManager
from tests.adapters.pages import blocks, printed_by

PAGE = "adapters/langgraph.md"


def test_the_programs_print_what_the_page_shows(tmp_path: Path) -> None:
    code = "\n".join(blocks(PAGE, "python"))
    assert printed_by(code, tmp_path) == "".join(blocks(PAGE, "text"))
    with SyncSessionManager(f"sqlite:///{tmp_path / 'sessions.db'}") as manager:
        assert manager.list_user_sessions("ann")


def test_the_thread_goes_on_in_another_process(tmp_path: Path) -> None:
    code = blocks(PAGE, "python")[0]
    printed_by(code, tmp_path)
    again = printed_by(code, tmp_path).splitlines()
    assert again == ["You named Rome, Oslo, Rome.", "You named Rome, Oslo, Rome, Oslo."]
