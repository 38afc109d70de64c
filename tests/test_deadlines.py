"""``SESSION_TIMEOUT`` bounds an operation, whatever the store does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.deadline import Deadlines, time_left
from agent_cores.session.errors import SessionError, StorageUnavailableError
from agent_cores.session.models import Applied, Change, Found, Query, Snapshot, Window
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.verbs.listing import Included

SETTINGS = SessionSettings(cleanup_interval=0, timeout=0.2)


class Silent(MemoryProvider):
    """Stops answering once it is told to; ``lefts`` are the seconds that each call had."""

    silent: frozenset[str] = frozenset()
    lefts: tuple[float, ...] = ()

    async def _answer(self, name: str) -> None:
        self.lefts = (*self.lefts, time_left(60))
        if name in self.silent:
            await asyncio.sleep(60)

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        await self._answer("read")
        return await super().read(namespace, session_id, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        await self._answer("apply")
        return await super().apply(change)

    async def find(self, query: Query) -> Found:
        await self._answer("find")
        return await super().find(query)

    async def count(self, *arguments: Any) -> Any:  # noqa: ANN401 - handed on
        await self._answer("count")
        return await super().count(*arguments)


VERBS: dict[str, Callable[[SessionManager], Any]] = {
    "create": lambda m: m.create_session("ann"),
    "append": lambda m: m.add_message("s", "ann", "user", "hi"),
    "update": lambda m: m.update_session("s", "ann", {"a": 1}),
    "delete": lambda m: m.delete_session("s", "ann"),
    "share": lambda m: m.share_session("s", "ann", "bob"),
    "turn": lambda m: m.take_turn("s", "ann"),
    "get": lambda m: m.get_session("s", "ann"),
    "messages": lambda m: m.get_session_messages("s", "ann"),
    "list": lambda m: m.list_user_sessions("ann"),
    "statistics": lambda m: m.get_statistics(),
    "fork": lambda m: m.fork_session("s", "ann"),
    "rewind": lambda m: m.rewind_session("s", "ann", 0),
    "erase": lambda m: m.erase_user("ann"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_ends_in_time_on_a_silent_store(verb: str) -> None:
    store = Silent()
    async with SessionManager(store, settings=SETTINGS) as manager:
        await manager.create_session("ann", session_id="s")
        store.silent = frozenset({"read", "apply", "find", "count"})
        begun = time.monotonic()
        with pytest.raises(StorageUnavailableError, match="SESSION_TIMEOUT"):
            await VERBS[verb](manager)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("verb", ["create", "append", "update", "delete", "share"])
async def test_a_write_that_is_not_answered_in_time_has_an_unknown_outcome(verb: str) -> None:
    store = Silent()
    async with SessionManager(store, settings=SETTINGS) as manager:
        await manager.create_session("ann", session_id="s")
        store.silent = frozenset({"apply"})
        with pytest.raises(StorageUnavailableError) as late:
            await VERBS[verb](manager)
        assert late.value.outcome_unknown


async def test_the_calls_of_one_operation_share_its_time() -> None:
    store = Silent()
    async with (
        SessionManager(store, settings=SETTINGS) as manager,
        SessionManager(store, settings=SETTINGS) as other,
    ):
        await manager.create_session("ann", session_id="s")
        store.lefts = ()
        await other.update_session("s", "ann", {"a": 1})
        assert len(store.lefts) == 2
        assert 0.2 >= store.lefts[0] > store.lefts[1] > 0


class Slow(MemoryProvider):
    """Takes three fifths of the timeout for each page that it finds."""

    async def find(self, query: Query) -> Found:
        await asyncio.sleep(0.12)
        return await super().find(query)


@pytest.mark.parametrize("include", [(), ("context",), ("last_message",)])
async def test_a_list_of_several_reads_has_one_deadline(include: tuple[Included, ...]) -> None:
    async with SessionManager(Slow(), settings=SETTINGS) as manager:
        for _ in range(70):
            await manager.create_session("ann")
        with pytest.raises(StorageUnavailableError, match="SESSION_TIMEOUT"):
            await manager.list_user_sessions("ann", limit=70, include=include)
        with pytest.raises(StorageUnavailableError, match="SESSION_TIMEOUT"):
            await manager.as_operator("support").list_sessions(limit=70, include=include)


async def test_the_groups_of_a_list_are_asked_for_within_its_deadline() -> None:
    async def groups_of(_: str) -> list[str]:
        await asyncio.sleep(0.12)
        return []

    async with SessionManager(Slow(), groups_of=groups_of, settings=SETTINGS) as manager:
        with pytest.raises(StorageUnavailableError, match="SESSION_TIMEOUT"):
            await manager.list_user_sessions("ann", shared=True)


async def test_a_count_ends_before_its_deadline_and_goes_on_by_cursor() -> None:
    async with SessionManager(Slow(), settings=SETTINGS) as manager:
        for _ in range(300):
            await manager.create_session("ann")
        operator = manager.as_operator("support")
        first = await operator.count_sessions()
        assert (first.sessions, first.complete) == (250, False)
        rest = await operator.count_sessions(cursor=first.next_cursor)
        assert (rest.sessions, rest.complete) == (50, True)


async def test_a_caller_who_gives_up_is_cancelled_not_late() -> None:
    store = Silent()
    async with SessionManager(store, settings=SETTINGS) as manager:
        await manager.create_session("ann", session_id="s")
        store.silent = frozenset({"apply"})
        with pytest.raises(TimeoutError) as given_up:
            async with asyncio.timeout(0.01):
                await manager.add_message("s", "ann", "user", "hi")
        assert not isinstance(given_up.value, SessionError)


async def test_a_deadline_leaves_other_blocks_alone_and_no_timer_behind() -> None:
    deadlines = Deadlines(0.05)

    async def wait(seconds: float, end: float) -> str:
        try:
            with deadlines.until(end):
                await asyncio.sleep(seconds)
        except TimeoutError:
            return "late"
        return "done"

    now = time.monotonic()
    ends = [(0.0, now + 0.02), (5.0, now + 0.3), (5.0, now + 0.02), (0.05, now + 60)]
    outcomes = await asyncio.gather(*(wait(*each) for each in ends))
    assert outcomes == ["done", "late", "late", "done"]
    assert time_left(7.0) == 7.0
    deadlines.close()


async def test_a_block_inside_one_of_another_manager_leaves_that_one_its_end() -> None:
    outer, inner = Deadlines(1), Deadlines(1)
    now = time.monotonic()
    lefts: list[float] = []

    async def work() -> None:
        with outer.until(now + 0.05):
            with inner.until(now + 60):
                lefts.append(time_left(60))
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await work()
    assert lefts[0] > 50
    outer.close()
    inner.close()
