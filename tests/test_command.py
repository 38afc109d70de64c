"""``agent-sessions`` and its version, with what it needs and without."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import agent_cores.session as package


def run(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as if a package were not installed."""
    program = f"""
import sys
if {without!r}:
    sys.modules[{without!r}] = None
from agent_cores.session.cli.main import main
sys.argv[1:] = {list(arguments)!r}
main()
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_package_and_the_command_tell_their_version() -> None:
    expected = version("agent-cores-session")
    assert package.__version__ == expected != "0.0.0"
    assert "__version__" in dir(package)
    shown = run("--version")
    assert (shown.returncode, shown.stdout.strip()) == (0, expected)


@pytest.mark.parametrize("missing", ["cyclopts", "rich", "uvicorn", "joserfc"])
def test_without_its_extra_the_command_says_in_one_line_what_to_install(missing: str) -> None:
    shown = run("--help", without=missing)
    assert shown.returncode == 1
    assert shown.stdout == ""
    assert shown.stderr == (
        f"agent-sessions: {missing} is not installed;"
        " run: pip install 'agent-cores-session[service]'\n"
    )


def test_with_it_the_help_names_the_commands() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for name in ("serve", "keys", "migrate"):
        assert name in shown.stdout
