"""The wheel, installed on every Python of the machine with the oldest and the newest dependencies.

A Python that is not here is tested by ``.github/workflows/test.yml``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.service.processes import SECONDS, environment, key_in

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MINORS = range(11, 15)
"""The versions of Python 3 that are supported."""

CONVERSATION = """
import sys
import agent_cores.session as s
with s.SyncSessionManager("sqlite:///sessions.db") as sessions:
    sessions.create_session("ann", session_id="chat")
    print(sys.version_info.minor, sessions.add_message("chat", "ann", "user", "Hello").seq)
"""
DRIVERS = """
from agent_cores.session.storage.factory import StorageFactory
for url in ("redis://h", "redis+cluster://h", "postgresql://h/d", "mysql://h/d", "memory://"):
    print(StorageFactory.create(url).describe())
"""
OVER_HTTP = """
import sys
from agent_cores.session.client import SyncSessionClient
with SyncSessionClient(*sys.argv[1:]) as sessions:
    print(sessions.add_message("chat", "ann", "user", "Hello").seq)
"""


def pythons() -> dict[int, str]:
    """Return the interpreters that run, by their minor version; this one among them."""
    found = {sys.version_info.minor: sys.executable}
    for minor in MINORS:
        name = f"python3.{minor}"
        managed = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"))
        for candidate in (shutil.which(name), *map(str, managed)):
            if candidate is None or minor in found:
                continue
            asked = [candidate, "-c", "import ensurepip, venv"]
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                found[minor] = candidate
    return found


def oldest() -> list[str]:
    """Return the lower bound of every dependency of the project and of its extra ``all``."""
    extras = PROJECT["optional-dependencies"]
    [everything] = map(Requirement, extras["all"])
    wanted = [
        *PROJECT["dependencies"],
        *(line for name in everything.extras for line in extras[name]),
    ]
    bounds = []
    for each in map(Requirement, wanted):
        [bound] = [one.version for one in each.specifier if one.operator == ">="]
        marker = f"; {each.marker}" if each.marker else ""
        bounds.append(f"{each.name}=={bound}{marker}")
    return bounds


def installed(folder: Path, python: str, *wanted: str) -> Path:
    """Make an environment of an interpreter; return its programs."""
    programs = folder / "env" / "bin"
    made = subprocess.run([python, "-m", "venv", "--without-pip", str(folder / "env")], check=False)
    assert made.returncode == 0
    into = str(programs / "python")
    run = [sys.executable, "-m"]
    ways = (
        [*run, "uv", "pip", "install", "--python", into],
        [*run, "pip", "--python", into, "install"],  # uv reads no settings of pip
    )
    problem = ""
    for way in ways:
        done = subprocess.run(
            [*way, "--quiet", *wanted], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return programs
        problem = done.stderr
    raise AssertionError(problem)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=120)
    [built] = folder.glob("*.whl")
    return built


@pytest.mark.parametrize("dependencies", ["oldest", "newest"])
@pytest.mark.parametrize("minor", pythons())
def test_the_wheel_works_with_its_oldest_and_newest_dependencies(
    tmp_path: Path, wheel: Path, minor: int, dependencies: str
) -> None:
    bounds = oldest() if dependencies == "oldest" else []
    bin_ = installed(tmp_path, pythons()[minor], f"{wheel}[all]", *bounds)

    def output_of(program: str, *arguments: str) -> str:
        command = [str(bin_ / "python"), "-W", "error", "-c", program, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert output_of(CONVERSATION) == f"{minor} 1\n"
    assert len(output_of(DRIVERS).splitlines()) == 5
    service = subprocess.Popen(
        [str(bin_ / "agent-sessions"), "serve", "--port", "0"],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stdout is not None
        printed = ""
        while "To keep one" not in printed and (line := service.stdout.readline()):
            printed += line
        found = re.search(r"http://\S+?(?=;)", printed)
        assert found is not None, service.communicate()
        assert output_of(OVER_HTTP, found[0], key_in(printed)) == "2\n"
    finally:
        service.terminate()
        service.communicate(timeout=SECONDS)
    assert service.returncode == 0


def test_every_supported_python_is_tested_and_named() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    [matrix] = re.findall(r"python: \[(.*)\]", workflow)
    assert matrix == ", ".join(f'"3.{minor}"' for minor in MINORS)
    assert PROJECT["requires-python"] == f">=3.{min(MINORS)}"
    named = [line for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert named == [f"Programming Language :: Python :: 3.{minor}" for minor in MINORS]


def test_the_changelog_has_a_section_for_each_version() -> None:
    for page, open_end in (("CHANGELOG.md", "unreleased"), ("docs/zh/CHANGELOG.md", "未发布")):
        text = (ROOT / page).read_text(encoding="utf-8")
        sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
        versions = [section.partition(" - ")[0] for section in sections]
        dates = [section.partition(" - ")[2] for section in sections]
        assert versions[0] == PROJECT["version"]
        assert versions == sorted(versions, key=Version, reverse=True)
        assert versions[-1] == "0.1.0"
        dated = [day for day in dates if day != open_end]
        assert len(dates) - len(dated) <= 1
        assert dates[-len(dated) :] == sorted(map(str, map(date.fromisoformat, dated)))[::-1]
    kinds = set(re.findall(r"^### (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
