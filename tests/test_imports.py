"""What importing the package loads: nothing that an application may not need."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import agent_cores.session

HEAVY = {
    "aiohttp",
    "anyio",
    "apsw",
    "asyncmy",
    "asyncpg",
    "django",
    "dotenv",
    "fastapi",
    "flask",
    "hiredis",
    "hypothesis",
    "pydantic",
    "pytest",
    "redis",
    "starlette",
    "uvicorn",
}


def loaded(program: str) -> set[str]:
    """Return the names of the modules that a program loads."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return set(shown.stdout.split())


def test_importing_the_package_loads_no_driver_and_no_module_of_its_own() -> None:
    modules = loaded("import agent_cores.session")
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("agent_cores.")} == {"agent_cores.session"}


def test_importing_the_manager_and_the_factory_loads_no_driver() -> None:
    program = (
        "from agent_cores.session import get_session_manager, SessionManager, SessionSettings\n"
        "from agent_cores.session.storage import StorageFactory"
    )
    modules = loaded(program)
    assert not modules & HEAVY
    assert not [name for name in modules if name.endswith((".provider", "_provider"))]


def test_a_manager_in_memory_loads_no_driver() -> None:
    program = "from agent_cores.session import SessionManager\nSessionManager('memory://')"
    modules = loaded(program)
    assert not modules & HEAVY
    providers = {name for name in modules if name.endswith((".provider", "_provider"))}
    assert providers == {"agent_cores.session.storage.memory.provider"}


def test_a_command_loads_what_it_needs_and_no_other() -> None:
    program = (
        "import sys\nfrom contextlib import suppress\n"
        "from agent_cores.session.cli.main import main\n"
        "sys.argv[1:] = ['list', '--help']\n"
        "with suppress(SystemExit):\n    main()"
    )
    modules = loaded(program)
    assert "agent_cores.session.cli.sessions" in modules
    assert not modules & {*HEAVY, "joserfc", "agent_cores.session.service"}


@pytest.mark.parametrize("name", agent_cores.session.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(agent_cores.session, name) is not None
    assert name in dir(agent_cores.session)


def test_the_public_names_are_in_order_and_all_of_them() -> None:
    module = importlib.import_module("agent_cores.session")
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert set(module.__all__) == set(module._HOMES)  # noqa: SLF001 - the table behind them


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="SessionManger"):
        _ = agent_cores.session.SessionManger
