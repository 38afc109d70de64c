"""What the pages for application developers show runs, and prints what they show."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_documents import ROOT, SHOWN, blocks

DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
PROGRAMS = [
    (page.name, code, output)
    for page in sorted(DOCS.glob("*.md"))
    for code, output in SHOWN.findall(page.read_text("utf-8"))
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(("page", "code", "output"), PROGRAMS, ids=[page for page, *_ in PROGRAMS])
def test_a_program_of_a_page_prints_what_the_page_shows(
    page: str, code: str, output: str, tmp_path: Path
) -> None:
    here = code.replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - the page's
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", here],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, output), ended.stderr


def test_the_pages_that_show_output_are_checked() -> None:
    assert {page for page, *_ in PROGRAMS} >= {
        "compaction.md",
        "concurrency.md",
        "edit-and-regenerate.md",
        "expiry.md",
        "many-agents.md",
        "model.md",
        "retries.md",
        "tenants.md",
        "testing-your-app.md",
        "workers.md",
    }


def test_the_application_of_the_tutorial_does_what_the_tutorial_says(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text("\n".join(blocks(TUTORIAL, "python")), encoding="utf-8")
    lines = "\n".join(blocks(TUTORIAL, "sh"))
    port = free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "chat:app", "--port", str(port), "--log-level=error"],
        cwd=tmp_path,
    )
    try:
        done = subprocess.run(
            ["bash", "-euc", f"{wait_for(port)}\n{lines.replace(':8000', f':{port}')}"],
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
    finally:
        serving.terminate()
        serving.wait(30)
    shown = re.split(r"(\{.*?\})(?=[^,\]}])", done.stdout + "\n")
    reply, read, refused, cut, again = shown[0], *(part for part in shown[1:] if part.strip())
    assert reply == "You asked: Hotels in Rome?"
    assert said_in(read) == [("ann", "Hotels in Rome?"), ("ann", "You asked: Hotels in Rome?")]
    problem = json.loads(refused)
    assert (problem["status"], problem["code"]) == (404, "session_not_found")
    assert cut.endswith(" …gone\n")
    whole = "You asked: And which trains go there on Monday morning?"
    assert whole not in cut
    assert said_in(again) == [("ann", whole)]


def said_in(page: str) -> list[tuple[str, str]]:
    """Return who wrote each message of a page, and what."""
    return [(message["author_id"], message["content"]) for message in json.loads(page)["data"]]


def wait_for(port: int) -> str:
    """Return the shell line that waits until somebody listens."""
    return f"until curl -s -o /dev/null http://127.0.0.1:{port}/docs; do sleep 0.1; done"
