"""What a list includes: what it leaves out, how much it reads, and how large it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.snapshot import Snapshot, Window
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing.samples import change_of
from agent_cores.session.testing.wrapping import WrappingProvider
from tests.servers.cutting_proxy import CuttingProxy
from tests.stores_by_url import STORES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from agent_cores.session.errors import CorruptRecordError
    from agent_cores.session.models.query import Found, Query
    from agent_cores.session.verbs.listing import Included

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_list_leaves_out_what_it_cannot_read_and_logs_it_once(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path / 'sessions.db'}"
    async with SessionManager(url) as manager:
        for name in ("good", "message", "context"):
            await manager.create_session("ann", session_id=name, context={"k": 1})
            await manager.add_message(name, "ann", "user", "Hello")
        storage = manager.runtime.storage
        for name in ("message", "context"):
            found = await storage.read("default", name)
            assert found is not None
            at = found.header.last_active_at
            effects: dict[str, Any] = {"context_set": {"k": b"no value"}}
            if name == "message":
                effects = {"append": (StoredMessage(0, "m", at, b"no message"),)}
            await storage.apply(change_of(found.header, at, **effects))
        operator = manager.as_operator("support")
        both = await manager.list_user_sessions("ann", include=["context", "last_message"])
        assert [session.id for session in both] == ["good"]
        contexts = await operator.list_sessions(owner_id="ann", include=["context"])
        assert {session.id for session in contexts} == {"good", "message"}
        assert len(await manager.list_user_sessions("ann")) == 3
    assert caplog.text.count("'message'") == caplog.text.count("'context'") == 1


@pytest.mark.parametrize("include", [["context"], ["last_message"]])
async def test_a_page_of_what_is_shared_passes_over_few_of_ones_own(
    include: list[Included], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def groups_of(_: str) -> list[str]:
        return ["team"]

    async with SessionManager("memory://", groups_of=groups_of) as manager:
        for number in range(300):
            session_id = await manager.create_session("ann", session_id=f"s{number}")
            await manager.share_session(session_id, "ann", "group:team")
        pages = 0
        find = manager.runtime.storage.find

        async def counted(query: Query) -> Found:
            nonlocal pages
            pages += 1
            return await find(query)

        monkeypatch.setattr(manager.runtime.storage, "find", counted)
        page = await manager.list_user_sessions("ann", shared=True, limit=2, include=include)
        assert (list(page), page.has_more, pages) == ([], True, 1)
        hers = await manager.list_user_sessions("bob", shared=True, limit=2, include=include)
        assert len(hers) == 2


async def test_a_page_ends_at_its_bytes_though_it_began_with_short_messages() -> None:
    async with SessionManager("memory://") as manager:
        for number in range(30):
            content = "x" * 1_000_000 if number < 20 else "short"
            await manager.create_session(
                "ann", session_id=f"s{number:02}", messages=[{"role": "user", "content": content}]
            )
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await manager.list_user_sessions(
                "ann", limit=100, include=["last_message"], cursor=cursor
            )
            found += [session.id for session in page]
            messages = [message for session in page for message in session.messages or ()]
            assert sum(len(str(message.content)) for message in messages) < 5_300_000
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(found) == [f"s{number:02}" for number in range(30)]


class Counting(WrappingProvider):
    """Counts the reads of lists; ``read_bytes`` are those of the messages in each read."""

    def __init__(self) -> None:
        super().__init__(MemoryProvider())
        self.calls = 0
        self.read_bytes: list[int] = []

    async def find(self, query: Query) -> Found:
        """Delegate and count."""
        self.calls += 1
        return await super().find(query)

    async def read_several(
        self,
        names: Sequence[tuple[str, str]],
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> list[Snapshot | CorruptRecordError | None]:
        """Delegate and count."""
        self.calls += 1
        found = await super().read_several(names, context=context, window=window)
        messages = [each.messages or () for each in found if isinstance(each, Snapshot)]
        self.read_bytes.append(sum(len(one.body) for some in messages for one in some))
        return found


@pytest.mark.parametrize(("limit", "most"), [(10, 2), (64, 2), (100, 3)])
async def test_a_page_of_small_last_messages_takes_few_reads(limit: int, most: int) -> None:
    provider = Counting()
    async with SessionManager(provider) as manager:
        for number in range(120):
            message = {"role": "user", "content": "x" * (20_000 if number % 10 else 30_000)}
            await manager.create_session("ann", session_id=f"s{number:03}", messages=[message])
        page = await manager.list_user_sessions("ann", limit=limit, include=["last_message"])
        assert len(page) == limit
        assert provider.calls <= most


@pytest.mark.parametrize("small_first", [0, 1, 10, 30])
async def test_a_page_of_large_last_messages_holds_little_more_than_it_shows(
    small_first: int,
) -> None:
    provider = Counting()
    async with SessionManager(provider) as manager:
        for number in range(80):  # the last one is listed first
            content = "short" if number >= 80 - small_first else "x" * 1_000_000
            message = {"role": "user", "content": content}
            await manager.create_session("ann", session_id=f"s{number:02}", messages=[message])
        found: list[str] = []
        cursor: str | None = None
        while cursor is not None or not found:
            provider.read_bytes.clear()
            page = await manager.list_user_sessions(
                "ann", limit=100, include=["last_message"], cursor=cursor
            )
            found += [session.id for session in page]
            assert all(session.messages for session in page)
            assert max(provider.read_bytes) <= manager.runtime.engine.limits.page_bytes
            assert sum(provider.read_bytes) <= 3 * manager.runtime.engine.limits.page_bytes
            cursor = page.next_cursor
        assert found == [f"s{number:02}" for number in reversed(range(80))]


@pytest.mark.parametrize("kind", ["valkey", "postgres", "mariadb"])
async def test_a_store_sends_no_message_that_a_list_has_no_room_for(
    kind: str, tmp_path: Path
) -> None:
    url = STORES[kind](tmp_path)
    port = urlsplit(url).port
    assert port is not None
    async with CuttingProxy(port) as proxy:
        url = url.replace(f":{port}", f":{proxy.port}")
        async with SessionManager(url) as manager:
            messages = [{"role": "user", "content": "x" * 1_000_000}] * 2
            names = [("default", f"s{number}") for number in range(3)]
            for _, name in names:
                await manager.create_session("ann", session_id=name, messages=messages)
            before = proxy.answered
            window = Window(limit=1, max_bytes=100_000, capped=True)
            found = await manager.runtime.storage.read_several(names, window=window)
            assert [each.messages for each in found if isinstance(each, Snapshot)] == [[], [], []]
            assert proxy.answered - before < 50_000
            page = await manager.list_user_sessions("ann", include=["last_message"])
            assert [len(session.messages or ()) for session in page] == [1, 1, 1]


class Between(WrappingProvider):
    """Does something once, after a listing and before what it found is read."""

    then: Callable[[], Awaitable[object]] | None = None

    async def find(self, query: Query) -> Found:
        """Delegate, then do it."""
        found = await super().find(query)
        then, self.then = self.then, None
        if then is not None:
            await then()
        return found


async def test_a_session_that_is_transferred_while_it_is_listed_leaves_lists_of_its_owner() -> None:
    provider = Between(MemoryProvider())
    async with SessionManager(provider) as manager:
        for name in ("one", "two"):
            await manager.create_session("ann", session_id=name)
            await manager.set_visibility(name, "ann", "public")
        provider.then = lambda: manager.transfer_ownership("one", "ann", "bob")
        own = await manager.list_user_sessions("ann", include=["context"])
        assert [session.id for session in own] == ["two"]
        provider.then = lambda: manager.transfer_ownership("two", "ann", "bob")
        every = await manager.as_operator("support").list_sessions(include=["context"])
        assert {session.id: session.owner_id for session in every} == {"one": "bob", "two": "bob"}
