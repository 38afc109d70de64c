"""``/readyz`` tells whether the store can be written, and asks it seldom."""

# ruff: noqa: SLF001 - tests look behind the service

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.service import Service, ServiceSettings, readiness
from agent_cores.session.service.readiness import Readiness
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from tests.service.wire import Steps, request


class Checked(MemoryProvider):
    """A store whose checks are counted, and may fail or hang."""

    def __init__(self) -> None:
        super().__init__()
        self.checks = 0
        self.fails = False
        self.hold = asyncio.Event()
        self.hold.set()

    async def check(self) -> None:
        self.checks += 1
        await self.hold.wait()
        if self.fails:
            raise StorageUnavailableError("full")


async def test_all_who_ask_at_once_share_one_check() -> None:
    storage, now = Checked(), Steps()
    ready = Readiness(lambda: storage, now)
    storage.hold.clear()
    asking = [asyncio.create_task(ready.ask()) for _ in range(10)]
    await asyncio.sleep(0)
    asking.pop().cancel()
    await asyncio.sleep(0)
    storage.hold.set()
    assert await asyncio.gather(*asking) == [None] * 9
    assert await ready.ask() is None
    assert storage.checks == 1
    now.now += 1
    storage.fails = True
    assert await ready.ask() == "no_response"
    now.now += 0.9
    assert await ready.ask() == "no_response"
    assert storage.checks == 2
    storage.fails = False
    now.now += 0.1
    assert await ready.ask() is None


async def test_a_store_that_hangs_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.01)
    caplog.set_level(logging.WARNING)
    storage, now = Checked(), Steps()
    storage.hold.clear()
    ready = Readiness(lambda: storage, now)
    for _ in range(3):
        assert await ready.ask() == "no_response"
        now.now += 1
    assert len(caplog.records) == 1, "told once, not at every check"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def answers(service: Service) -> tuple[int, object]:
    service._components._readiness._checked_at = float("-inf")
    reply = await request(service, "GET", "/readyz")
    return reply.status, reply.json()


OK = 200, {"status": "ok"}


def refused(reason: str) -> tuple[int, object]:
    return 503, {"status": "unavailable", "reason": reason}


async def service_on(path: Path) -> Service:
    manager = SessionManager(SQLiteProvider(path), settings=SessionSettings(cleanup_interval=0))
    service = Service(manager, ServiceSettings())
    assert (await request(service, "GET", "/readyz")).status == 200
    return service


def remove_all(folder: Path) -> None:
    for file in list(folder.iterdir()):
        file.unlink()


async def test_a_file_that_was_unlinked_is_not_ready(path: Path) -> None:
    service = await service_on(path)
    remove_all(path.parent)
    assert await answers(service) == refused("replaced")
    await service.aclose()


async def test_a_full_disk_is_not_ready(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await service_on(path)
    status = os.statvfs(path)
    names = [name for name in dir(status) if name.startswith("f_") and name != "f_fsid"]
    fields = {name: getattr(status, name) for name in names}

    class Full:
        def __init__(self) -> None:
            vars(self).update(fields | {"f_bfree": 10, "f_bavail": 0})

    monkeypatch.setattr("os.statvfs", lambda _: Full())
    assert await answers(service) == refused("full")
    monkeypatch.undo()
    assert await answers(service) == OK
    await service.aclose()


async def test_a_check_really_writes(path: Path) -> None:
    import apsw

    provider = SQLiteProvider(path, timeout=0.05)
    await provider.initialize()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailableError):
        await provider.check()
    other.execute("ROLLBACK")
    [(before,)] = other.execute("PRAGMA data_version")
    await provider.check()
    [(after,)] = other.execute("PRAGMA data_version")
    assert after != before, "another connection sees that a page was written"
    other.close()
    await provider.shutdown()
