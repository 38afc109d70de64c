"""What is published: a wheel and an sdist that hold what they need, and an install that works."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from it, as a release does; return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder


def in_git(*under: str) -> set[str]:
    """Return the files under these paths, as the repository has them."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *under], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(listed.stdout.split("\n")) - {""}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name.removeprefix("src/") for name in in_git("src")}
    assert "agent_cores/session/py.typed" in names
    assert "agent_cores/__init__.py" not in names  # the namespace belongs to nobody


def test_the_sdist_holds_what_the_tests_need(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert in_git("src", "tests", "docs", "requirements", "Makefile", "LICENSE") <= names


def test_the_wheel_works_in_an_environment_that_has_nothing_else_of_ours(
    built: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", symlinks=os.name != "nt")
    folder = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = folder / "python"
    [wheel] = built.glob("*.whl")
    install = ["-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    # The dependencies are this environment's; its .pth files, which name our source, are not read.
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = (
        "import agent_cores.session as s\n"
        "print(s.__version__, s.__file__)\n"
        "with s.SyncSessionManager('sqlite:///new.db') as sessions:\n"
        "    chat = sessions.create_session('ann')\n"
        "    print(sessions.add_message(chat, 'ann', 'user', 'Hello').seq)\n"
    )
    done = subprocess.run(
        [python, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    shown, seq = done.stdout.splitlines()
    assert seq == "1"
    assert shown.split()[0] == version("agent-cores-session")
    assert Path(shown.split()[1]).is_relative_to(packages)
    command = subprocess.run(
        [folder / "agent-sessions", "--help"], check=True, capture_output=True, text=True
    )
    assert "serve" in command.stdout
