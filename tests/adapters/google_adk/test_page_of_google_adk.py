"""The program, the file and the command on docs/adapters/google_adk.md run as the page says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from agent_cores.session import SyncSessionManager
from tests.adapters.conftest import STORES, url_of
from tests.adapters.pages import REPLY, as_gemini, blocks, printed_by, scripted

PAGE = "adapters/google_adk.md"
ECHO = Path(__file__).parent / "agents" / "echo"


def test_the_agent_knows_what_was_said_before(tmp_path: Path) -> None:
    [code] = blocks(PAGE, "python")
    with scripted(as_gemini) as model:
        for _ in range(2):
            printed = printed_by(
                code, tmp_path, GOOGLE_GEMINI_BASE_URL=model.address, GOOGLE_API_KEY="none"
            )
            assert printed == f"{REPLY}\n" * 2
    assert [len(request["contents"]) for request in model.asked] == [1, 3, 5, 7]
    assert model.asked[-1]["contents"][-1]["parts"] == [{"text": "Which is the cheapest?"}]


def test_adk_web_keeps_its_sessions_where_the_command_says(tmp_path: Path) -> None:
    shutil.copytree(ECHO, tmp_path / "agents" / "echo")
    [services] = blocks(PAGE, "yaml")
    (tmp_path / "agents" / "services.yaml").write_text(services, encoding="utf-8")
    _, command = blocks(PAGE, "bash")
    store = url_of("postgres" if "postgres" in STORES else "sqlite", tmp_path)
    assert "postgresql://sessions@db/agents" in command
    adk, *arguments = shlex.split(command.replace("postgresql://sessions@db/agents", store))
    program = str(Path(sys.executable).with_name(adk))
    with subprocess.Popen(
        [program, *arguments, "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            found = (re.search(r"http://127.0.0.1:([1-9]\d*)", line) for line in server.stdout)
            address = next(match[0] for match in found if match)
            request = urllib.request.Request(  # noqa: S310 - our own server
                f"{address}/apps/echo/users/ann/sessions/talk",
                json.dumps({"step": 1}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
                made: Any = json.load(response)
            assert made["id"] == "talk"
        finally:
            server.terminate()
    with SyncSessionManager(store) as manager:
        [session] = manager.list_user_sessions("ann")
        found_context = manager.get_session(session.metadata.session_id, "ann").context
    assert "1" in json.dumps(found_context)
