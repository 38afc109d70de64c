"""Fixtures and settings of every test."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Stores and servers keep their files in memory if there is room, unless TMPDIR names a folder: no
# test cuts the power, and what a killed process wrote is there as on a disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - each file there is made by tempfile
_ROOM = 4 << 30
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM:
    os.environ.setdefault("TMPDIR", str(_MEMORY))
    tempfile.tempdir = None  # look again: pytest asked before

# No deadline: how long an example takes depends on the load of the machine.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Return three test processes for every two cores: a quarter of the time they wait."""
    cores = yield
    return cores + cores // 2


def pytest_collection() -> None:
    """Collect no garbage while there is none: cases are found, a million objects that stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but do not look through the cases each time."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the only event loop that this package supports."""
    return "asyncio"


@pytest.fixture
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, without our settings in the environment; return the folder."""
    for name in list(os.environ):
        if name.startswith("SESSION_") or name == "REDIS_URL":
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
