"""OpenAI's client for JavaScript, unmodified, under Node, on a service of ours.

Release 7 of the client asks for Node 22; it is also run on Node 20, where it works. On an older one
only release 6 is.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.adapters.serving import serving

JS = Path(__file__).parent / "js"
MADE = Path(__file__).parents[3] / ".venv-adapters" / "openai_wire-js"


def _node() -> int:
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.strip().removeprefix("v").partition(".")[0])


CLIENTS = ["openai", "openai-6"] if _node() >= 20 else ["openai-6"]


@pytest.fixture(scope="module")
def folder() -> Path:
    """Install the clients once; again when their versions change."""
    MADE.mkdir(parents=True, exist_ok=True)
    wanted = (JS / "package.json").read_text()
    stamp = MADE / "made"
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(MADE)
        MADE.mkdir()
        for name in ("package.json", ".npmrc"):
            shutil.copy(JS / name, MADE)
        ended = subprocess.run(
            ["npm", "install"], cwd=MADE, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        stamp.write_text(wanted)
    shutil.copy(JS / "conversations.mjs", MADE)
    return MADE


@pytest.mark.parametrize("client", CLIENTS)
def test_every_operation_of_conversations_works(folder: Path, client: str, tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path / 'sessions.db'}") as (address, key, _):
        ended = subprocess.run(
            ["node", "conversations.mjs", client, f"{address}/v1", key],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
