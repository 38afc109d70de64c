"""The code of the page on writing a backend runs, and keeps the contract that the page names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_documents import ROOT, blocks

PAGE = ROOT / "docs" / "writing-a-backend.md"
FOLDER, USE, SUITE, TOY = blocks(PAGE, "python")
TOY_SUITE = re.sub(r"Store\(.*\)", "Store(ToyProvider)", SUITE).replace(
    "folder_provider import FolderProvider", "toy_provider import ToyProvider"
)

NAMED = """
import asyncio
from pathlib import Path
from urllib.parse import quote

from agent_cores.session import SessionManager, StorageFactory, get_session_manager
from agent_cores.session.errors import ConfigurationError
from folder_provider import FolderProvider

StorageFactory.register_provider("folder", FolderProvider)
URL = "folder://" + quote(str(Path("by URL").resolve()))


async def main():
    for manager in (
        SessionManager(URL),
        get_session_manager(storage_type="folder", folder="by name"),
    ):
        async with manager:
            await manager.create_session("ann")
    for url in ("folder://relative", URL + "?unknown=1"):
        try:
            SessionManager(url)
        except ConfigurationError:
            continue
        raise AssertionError(url)


asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Save the blocks under the names that the page gives them."""
    saved = {
        "folder_provider.py": FOLDER,
        "use.py": USE,
        "test_folder_provider.py": SUITE,
        "toy_provider.py": TOY,
        "test_toy_provider.py": TOY_SUITE,
        "pytest.ini": "[pytest]\n",
    }
    for name, text in saved.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_provider_of_seven_methods_is_used_as_the_page_shows(folder: Path) -> None:
    assert "Hello" in run(folder, "use.py")
    assert len(list((folder / "sessions").iterdir())) == 1


def test_the_name_is_used_as_the_page_shows(folder: Path) -> None:
    (folder / "named.py").write_text(NAMED, encoding="utf-8")
    run(folder, "named.py")
    for name in ("by URL", "by name"):
        assert len(list((folder / name).iterdir())) == 1


@pytest.mark.parametrize(
    ("suite", "cases"),
    [
        # Its defaults are held to the state machine by tests/contract/test_seven_methods.py.
        ("test_folder_provider.py", "TestFolderProvider and not random_changes"),
        ("test_toy_provider.py", "TestFolderProvider"),
    ],
)
def test_what_the_page_writes_keeps_the_contract(folder: Path, suite: str, cases: str) -> None:
    plugins = ("-p", "no:asyncio", "-p", "no:cacheprovider")
    shown = run(folder, "-m", "pytest", "-q", *plugins, "-k", cases, suite)
    assert re.search(r"[1-9]\d\d passed", shown), shown
