"""What goes wrong at the edges: cancellation, stale headers, namesakes, hooks that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    QuotaExceededError,
    SessionNotFoundError,
    StorageUnavailableError,
    WrongContextError,
)
from agent_cores.session.lifecycle import SessionEvent
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.models.query import WALK_LIMIT
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing import ManualClock, suite_settings


class Intruding(MemoryProvider):
    """Runs something of the test's own before the next change, or loses the next answer."""

    def __init__(self) -> None:
        super().__init__()
        self.before_next: list[Any] = []
        self.lose_next = False

    async def apply(self, change: Change) -> Applied:
        if self.before_next:
            await self.before_next.pop(0)()
        applied = await super().apply(change)
        if self.lose_next:
            self.lose_next = False
            raise StorageUnavailableError("lost", outcome_unknown=True)
        return applied


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage() -> Intruding:
    return Intruding()


@pytest.fixture
async def manager(storage: Intruding, clock: ManualClock) -> AsyncIterator[SessionManager]:
    async with SessionManager(storage, settings=suite_settings(), clock=clock) as manager:
        yield manager


@pytest.fixture
async def pair(
    tmp_path: Path, clock: ManualClock
) -> AsyncIterator[tuple[SessionManager, SessionManager]]:
    """Two managers on one file, as in two processes: each has its own cached headers."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    settings = suite_settings()
    async with (
        SessionManager(url, settings=settings, clock=clock) as one,
        SessionManager(url, settings=settings, clock=clock) as other,
    ):
        yield one, other


async def test_a_plain_append_on_a_stale_header_tells_of_no_update(
    pair: tuple[SessionManager, SessionManager],
) -> None:
    one, other = pair
    events: list[SessionEvent] = []
    one.lifecycle.on("session.updated", events.append)
    await one.create_session("ann", {"k": 1}, session_id="talk", title="T")
    await other.update_session("talk", "ann", {"x": 1}, {"k": 2})
    await one.add_message("talk", "ann", "user", "plain")
    assert events == []


async def test_arguments_are_refused_only_to_who_may_write(
    pair: tuple[SessionManager, SessionManager],
) -> None:
    one, other = pair
    await one.create_session("ann", session_id="talk")
    await one.share_session("talk", "ann", "bob", role="editor")
    await one.add_message("talk", "bob", "user", "x")
    await other.revoke_access("talk", "ann", "bob")
    with pytest.raises(SessionNotFoundError):
        await one.add_message("talk", "bob", "user", [float("nan")])


@pytest.mark.parametrize("metadata", [None, {"k": {"deep": []}}])
async def test_what_a_reader_got_is_not_what_is_kept(
    manager: SessionManager, metadata: dict[str, Any] | None
) -> None:
    await manager.create_session("ann", metadata, session_id="talk", public=True)
    seen = await manager.get_session("talk", "eve")
    seen.metadata.attributes["evil"] = 1
    seen.metadata.grants.clear()
    assert "evil" not in (await manager.get_session("talk", "ann")).metadata.attributes


async def test_a_create_over_an_ended_session_tells_of_its_end_though_the_answer_was_lost(
    manager: SessionManager, storage: Intruding, clock: ManualClock
) -> None:
    events: list[SessionEvent] = []
    manager.lifecycle.on("session.expired", events.append)
    await manager.create_session("ann", session_id="talk", ttl_hours=1)
    clock.advance(7200)
    storage.lose_next = True
    await manager.create_session("bob", session_id="talk")
    assert [event.session_id for event in events] == ["talk"]


async def test_a_removal_never_reaches_another_session_under_the_same_id(
    manager: SessionManager, storage: Intruding
) -> None:
    async def recreate() -> None:
        storage.before_next.clear()
        await manager.delete_session("talk", "ann")
        await manager.create_session("ann", session_id="talk")
        await manager.share_session("talk", "ann", "bob", role="editor")
        await manager.add_message("talk", "ann", "user", "hers")

    await manager.create_session("ann", session_id="talk")
    await manager.share_session("talk", "ann", "bob", role="editor")
    await manager.add_message("talk", "bob", "user", "his")
    storage.before_next.append(recreate)
    with pytest.raises(SessionNotFoundError):
        await manager.delete_message("talk", "bob", 1)
    assert [m.content for m in await manager.get_session_messages("talk", "ann")] == ["hers"]


async def test_a_fork_is_of_one_instant_though_messages_are_removed_meanwhile(
    manager: SessionManager, storage: Intruding
) -> None:
    await manager.create_session("ann", session_id="talk")
    for _ in range(3):
        batch = [{"role": "user", "content": "x"} for _ in range(1000)]
        await manager.add_messages("talk", "ann", batch)

    async def nothing() -> None: ...

    async def rewind() -> None:
        storage.before_next.clear()
        await manager.rewind_session("talk", "ann", 500)

    storage.before_next += [nothing, nothing, rewind]  # create, first page, then
    copy = await manager.fork_session("talk", "ann")
    header = (await manager.get_session(copy, "ann", message_limit=0)).metadata
    assert (header.message_count, header.last_seq) == (500, 500)


async def test_a_fork_gives_up_where_messages_are_removed_again_and_again(
    manager: SessionManager, storage: Intruding
) -> None:
    await manager.create_session("ann", session_id="talk")
    await manager.add_messages("talk", "ann", [{"role": "user", "content": "x"} for _ in range(20)])
    seqs = iter(range(1, 20))

    async def remove_one() -> None:
        waiting, storage.before_next[:] = storage.before_next[:], []
        await manager.delete_message("talk", "ann", next(seqs))
        storage.before_next[:] = [*waiting, remove_one]

    storage.before_next.append(remove_one)
    with pytest.raises(ConflictError):
        await manager.fork_session("talk", "ann", new_session_id="copy")
    storage.before_next.clear()
    with pytest.raises(SessionNotFoundError):
        await manager.get_session("copy", "ann")
    await manager.create_session("ann", session_id="copy")


async def test_a_cancelled_turn_is_given_back(manager: SessionManager) -> None:
    await manager.create_session("ann", session_id="talk")
    with anyio.move_on_after(0.01):
        async with manager.turn("talk", "ann"):
            await anyio.sleep(9)
    await asyncio.sleep(0.01)
    async with manager.turn("talk", "ann"):
        pass


async def test_a_turn_whose_taker_was_cancelled_meanwhile_is_given_back(
    manager: SessionManager,
) -> None:
    await manager.create_session("ann", session_id="talk")

    async def hold() -> None:
        async with manager.turn("talk", "ann"):
            await asyncio.sleep(9)

    for steps in range(12):
        task = asyncio.create_task(hold())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.005)
        turn = await manager.take_turn("talk", "ann")
        await manager.release_turn("talk", "ann", turn.token or "")


async def test_a_cancelled_shutdown_closes_all_the_same(tmp_path: Path) -> None:
    storage = SQLiteProvider(tmp_path / "sessions.db")
    manager = SessionManager(storage, settings=suite_settings())
    await manager.create_session("ann")
    task = asyncio.create_task(manager.shutdown())
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    for _ in range(200):
        with suppress(StorageUnavailableError):
            await storage.store_time()
            await asyncio.sleep(0.01)
            continue
        break
    with pytest.raises(StorageUnavailableError):
        await storage.store_time()


async def test_a_handler_that_was_cancelled_inside_stops_nothing(manager: SessionManager) -> None:
    async def cancelled_inside(_: SessionEvent) -> None:
        task = asyncio.ensure_future(asyncio.sleep(9))
        task.cancel()
        await task

    manager.lifecycle.on("message.appended", cancelled_inside)
    await manager.create_session("ann", session_id="talk")
    assert (await manager.add_message("talk", "ann", "user", "x")).seq == 1


async def test_a_hook_of_the_sweeper_cannot_shut_its_manager_down(tmp_path: Path) -> None:
    refused: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    settings = SessionSettings(cleanup_interval=0.01)
    async with SessionManager(f"sqlite:///{tmp_path}/a.db", settings=settings) as manager:

        async def shut_down(_: SessionEvent) -> None:
            try:
                await manager.shutdown()
            except WrongContextError as error:
                if not refused.done():
                    refused.set_result(error)

        manager.lifecycle.on("session.expired", shut_down)
        await manager.create_session("ann", ttl_hours=0.01 / 3600)
        await asyncio.wait_for(refused, 10)


async def test_a_full_memory_store_refuses_and_evicts_nothing() -> None:
    async with SessionManager("memory://?max_sessions=2") as manager:
        first = await manager.create_session("ann")
        await manager.create_session("ann")
        with pytest.raises(QuotaExceededError):
            await manager.create_session("ann")
        assert (await manager.get_statistics())["sessions"] == 2
        await manager.delete_session(first, "ann")
        await manager.create_session("ann")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("get_session_messages", {"before_seq": 2**70}),
        ("get_session_messages", {"after_seq": 2**70}),
        ("delete_message", {"seq": 2**70}),
        ("update_message", {"seq": 2**70}),
        ("update_message", {"seq": 0, "content": "x"}),
        ("update_message", {"seq": 1, "content": 5}),
        ("update_message", {"seq": 1, "metadata_updates": "abc"}),
        ("update_message", {"seq": 1, "metadata_updates": {"k": b""}}),
        ("update_message", {"seq": 1, "metadata_updates": {1: 1}}),
        ("update_message", {"seq": 1, "metadata_removals": "abc"}),
        ("update_message", {"seq": 1, "metadata_removals": [1]}),
        ("update_message", {"seq": 1, "metadata_removals": [["k"]]}),
        ("update_message", {"seq": 1, "metadata_updates": {"k": 1}, "metadata_removals": ["k"]}),
        ("update_message", {"seq": 1, "expected_last_seq": -1}),
        ("update_message", {"seq": 1, "expected_revision": 0}),
        ("update_message", {"seq": 1, "turn": ""}),
        ("rewind_session", {"to_seq": 2**63}),
        ("add_message", {"role": "user", "content": "x", "expected_last_seq": 2**70}),
        ("add_message", {"role": "user", "content": "x", "metadata": 5}),
        ("add_message", {"role": "user", "content": "x", "metadata": "abc"}),
        ("add_message", {"role": "user", "content": "x", "turn": "\ud800"}),
        ("renew_session", {"ttl_hours": 10**400}),
    ],
)
async def test_odd_arguments_are_refused_by_name(
    manager: SessionManager, verb: str, arguments: dict[str, Any]
) -> None:
    await manager.create_session("ann", session_id="talk")
    with pytest.raises(InvalidInputError):
        await getattr(manager, verb)("talk", "ann", **arguments)


async def test_a_clock_finer_than_a_millisecond_gives_what_is_stored(tmp_path: Path) -> None:
    fine = ManualClock()
    fine.advance(0.000123)
    url = f"sqlite:///{tmp_path}/a.db"
    async with SessionManager(url, settings=suite_settings(), clock=fine) as manager:
        await manager.create_session("ann", session_id="talk")
        message = await manager.add_message("talk", "ann", "user", "x")
        assert await manager.get_session_messages("talk", "ann") == [message]


async def test_an_old_owner_who_reads_by_group_gets_the_session_back() -> None:
    groups = {"ann": ["team"]}
    async with SessionManager(
        "memory://", groups_of=lambda user_id: groups.get(user_id, [])
    ) as manager:
        await manager.create_session("ann", session_id="talk")
        await manager.share_session("talk", "ann", "group:team")
        session = await manager.transfer_ownership("talk", "ann", "bob")
        assert session is not None
        assert session.owner_id == "bob"


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
async def test_a_walk_that_breaks_off_skips_nothing(scheme: str, tmp_path: Path) -> None:
    url = "memory://" if scheme == "memory" else f"sqlite:///{tmp_path}/a.db"
    async with SessionManager(url, settings=suite_settings(), clock=ManualClock()) as manager:
        count = 2 * WALK_LIMIT + 100
        ids = [f"{number:05}" for number in range(count)]
        rare = {*ids[:: WALK_LIMIT // 3], ids[-WALK_LIMIT - 12], ids[-WALK_LIMIT - 11]}
        await asyncio.gather(
            *(
                manager.create_session(
                    "ann", {"tags": ["x", "y"] if name in rare else ["x"]}, session_id=name
                )
                for name in ids
            )
        )
        found: list[str] = []
        cursor = None
        while True:
            page = await manager.list_user_sessions("ann", tags=["x", "y"], cursor=cursor)
            found += [session.id for session in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == sorted(rare, reverse=True)


async def test_a_change_of_the_end_succeeds_though_others_append_before_each_attempt() -> None:
    provider = Intruding()
    async with SessionManager(provider, settings=suite_settings()) as manager:
        session_id = await manager.create_session("ann")

        async def append() -> None:
            await manager.add_message(session_id, "ann", "user", "x")

        async def contents() -> list[object]:
            page = await manager.get_session_messages(session_id, "ann")
            return [message.content for message in page]

        await manager.add_message(session_id, "ann", "user", "first")
        provider.before_next += [append, nothing] * 10
        assert [m.content for m in await manager.pop_messages(session_id, "ann")] == ["first"]
        assert await contents() == ["x"]
        new = {"role": "system", "content": "sum"}
        await manager.replace_messages(session_id, "ann", [new], after_seq=0)
        assert await contents() == ["sum"]


async def test_a_pop_says_that_others_kept_changing_the_session() -> None:
    provider = Intruding()
    settings = msgspec.structs.replace(suite_settings(), timeout=0.2)
    async with SessionManager(provider, settings=settings) as manager:
        session_id = await manager.create_session("ann")
        await manager.add_message(session_id, "ann", "user", "x")

        async def change() -> None:
            await manager.update_session(session_id, "ann", {"n": len(provider.before_next)})

        provider.before_next += [change, nothing] * 1_000
        with pytest.raises(ConflictError, match="at each attempt"):
            await manager.pop_messages(session_id, "ann")


async def nothing() -> None:
    """Let the next change pass."""
