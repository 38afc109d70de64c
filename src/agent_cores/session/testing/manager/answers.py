"""A successful write is reported as such, wholly or in part, whatever fails after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.errors import (
    ConflictError,
    SessionArchivedError,
    SessionError,
    StorageUnavailableError,
)
from agent_cores.session.models import Hold
from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.settings import SessionSettings
from agent_cores.session.testing.manager.access import VERBS
from agent_cores.session.testing.manager.cases import ManagerCases
from agent_cores.session.testing.manager.messages import said
from agent_cores.session.testing.wrapping import WrappingProvider

if TYPE_CHECKING:
    from agent_cores.session.lifecycle import SessionEvent
    from agent_cores.session.models import Applied, Change, Found, Query, Snapshot, Window
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

REMOVED_AT_ONCE = 3
READS = frozenset({"get_session", "get_session_messages", "get_messages"})


class FailingProvider(WrappingProvider):
    """While ``armed``, fails all reads after the first write, or all removals but the first."""

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self.armed = False
        self.refusal: SessionError | None = None
        self.kept: str | None = None
        self.written: int = 0
        self._removals = 0

    async def apply(self, change: Change) -> Applied:
        """Delegate, or fail a removal that is not the first."""
        if change.remove is not None and self.refusal is not None:
            self._removals += 1
            if self._removals > 1:
                raise self.refusal
        if change.session_id == self.kept:
            detail = "the store went away"
            raise StorageUnavailableError(detail)
        applied = await super().apply(change)
        if self.armed and applied.header.hold is not Hold.OPENING:  # a fork continues
            self.written += 1
        return applied

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Delegate until something was written."""
        self._fail_after_a_write()
        return await super().read(namespace, session_id, context=context, window=window)

    async def find(self, query: Query) -> Found:
        """Delegate until something was written."""
        self._fail_after_a_write()
        return await super().find(query)

    def _fail_after_a_write(self) -> None:
        if self.armed and self.written:
            detail = "the store went away after the write"
            raise StorageUnavailableError(detail)


class AnswerCases(ManagerCases):
    """A manager on a provider that fails on demand."""

    @pytest.fixture
    async def failing(self, opened: Store) -> FailingProvider:
        """Wrap a provider."""
        return FailingProvider(await opened.open())

    @pytest.fixture
    async def writing(
        self,
        opened: Store,
        failing: FailingProvider,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> SessionManager:
        """Open a manager on it, with a session of Ann's that has one message."""
        limits = msgspec.structs.replace(DEFAULT_LIMITS, rewind_messages=REMOVED_AT_ONCE)
        monkeypatch.setattr(SessionSettings, "limits", lambda _: limits)
        manager = await opened.open_manager(clock, provider=failing)
        await manager.create_session("ann", session_id="talk", context={"k": 1})
        await manager.add_message("talk", "ann", "user", "1")
        return manager

    @pytest.mark.parametrize("verb", sorted(VERBS.keys() - READS - {"leave"}))
    async def test_a_verb_asks_nothing_of_the_store_after_its_write(
        self, writing: SessionManager, failing: FailingProvider, verb: str
    ) -> None:
        failing.armed = True
        await VERBS[verb][1](writing, "ann")
        assert failing.written == 1

    async def test_a_create_asks_nothing_of_the_store_after_its_write(
        self, writing: SessionManager, failing: FailingProvider
    ) -> None:
        failing.armed = True
        assert await writing.create_session("ann", session_id="new") == "new"

    async def test_groups_are_asked_for_before_a_transfer_is_written(
        self, opened: Store, failing: FailingProvider, clock: ManualClock
    ) -> None:
        directory: dict[str, list[str]] = {"ann": ["team"]}
        manager = await opened.open_manager(
            clock, provider=failing, groups_of=lambda user_id: directory[user_id]
        )
        await manager.create_session("ann", session_id="talk")
        await manager.share_session("talk", "ann", "group:team")
        directory.clear()
        with pytest.raises(KeyError):
            await manager.transfer_ownership("talk", "ann", "bob")
        assert (await manager.get_session("talk", "ann")).owner_id == "ann"
        directory["ann"] = ["team"]
        session = await manager.transfer_ownership("talk", "ann", "bob")
        assert session is not None
        assert session.access_role == "viewer"

    @pytest.mark.parametrize(
        ("refusal", "expected"),
        [
            (StorageUnavailableError("away"), StorageUnavailableError),
            (StorageUnavailableError("away", outcome_unknown=True), StorageUnavailableError),
            (SessionArchivedError(), ConflictError),
        ],
        ids=["unavailable", "lost", "archived"],
    )
    async def test_a_rewind_that_stops_half_way_says_so_and_goes_on_when_called_again(
        self,
        writing: SessionManager,
        failing: FailingProvider,
        refusal: SessionError,
        expected: type[SessionError],
    ) -> None:
        rewound: list[SessionEvent] = []
        writing.lifecycle.on("session.rewound", rewound.append)
        await writing.add_messages("talk", "ann", said(*range(2, 9)))
        failing.refusal = refusal
        with pytest.raises(expected) as caught:
            await writing.rewind_session("talk", "ann", 1)
        assert type(caught.value) is expected
        assert getattr(caught.value, "outcome_unknown", True)
        assert [event.seq for event in rewound] == [5]
        page = await writing.get_session_messages("talk", "ann")
        assert [message.seq for message in page] == [1, 2, 3, 4, 5]
        failing.refusal = None
        header = (await writing.rewind_session("talk", "ann", 1)).metadata
        assert (header.message_count, header.last_seq) == (1, 8)
        assert [event.seq for event in rewound] == [5, 1]

    @pytest.mark.parametrize(
        "selector", [{"before_seq": 8}, {"keep_last": 1}], ids=["before_seq", "keep_last"]
    )
    @pytest.mark.parametrize(
        ("refusal", "expected"),
        [
            (StorageUnavailableError("away"), StorageUnavailableError),
            (SessionArchivedError(), ConflictError),
        ],
        ids=["unavailable", "archived"],
    )
    async def test_a_deletion_that_stops_half_way_says_so_and_goes_on_when_called_again(
        self,
        writing: SessionManager,
        failing: FailingProvider,
        selector: dict[str, Any],
        refusal: SessionError,
        expected: type[SessionError],
    ) -> None:
        deleted: list[SessionEvent] = []
        writing.lifecycle.on("message.deleted", deleted.append)
        await writing.add_messages("talk", "ann", said(*range(2, 9)))
        failing.refusal = refusal
        # The second is what a client of the service gets: a 503 carries no detail of the store.
        with pytest.raises(expected, match=r"3 oldest messages|did not answer") as caught:
            await writing.delete_messages("talk", "ann", **selector, expected_last_seq=8)
        assert type(caught.value) is expected
        assert getattr(caught.value, "outcome_unknown", True)
        assert [event.seq for event in deleted] == [1, 2, 3]
        page = await writing.get_session_messages("talk", "ann")
        assert [message.seq for message in page] == [4, 5, 6, 7, 8]
        failing.refusal = None
        assert await writing.delete_messages("talk", "ann", **selector) == 4
        assert [event.seq for event in deleted] == [1, 2, 3, 4, 5, 6, 7]
        header = (await writing.get_session("talk", "ann")).metadata
        assert (header.message_count, header.last_seq) == (1, 8)

    async def test_what_is_appended_between_two_writes_of_a_deletion_stays(
        self, writing: SessionManager
    ) -> None:
        await writing.add_messages("talk", "ann", said(*range(2, 9)))

        async def append_once(event: SessionEvent) -> None:
            if event.seq == 1:
                await writing.add_messages("talk", "ann", said(*range(20, 24)))

        writing.lifecycle.on("message.deleted", append_once)
        assert await writing.delete_messages("talk", "ann", keep_last=0) == 8
        page = await writing.get_session_messages("talk", "ann")
        assert [message.seq for message in page] == [9, 10, 11, 12]

    async def test_an_erasure_that_stops_half_way_says_so(
        self, writing: SessionManager, failing: FailingProvider
    ) -> None:
        for session_id in ("a", "b", "c"):
            await writing.create_session("ann", session_id=session_id)
        failing.kept = "b"
        with pytest.raises(StorageUnavailableError) as caught:
            await writing.erase_user("ann")
        assert caught.value.outcome_unknown
        assert [session.id for session in await writing.list_user_sessions("ann")] == ["b"]
        with pytest.raises(StorageUnavailableError) as caught:
            await writing.erase_user("ann")
        assert not caught.value.outcome_unknown
        failing.kept = None
        assert (await writing.erase_user("ann")).complete
