"""The seven methods, called directly: what a caller may rely on who uses no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.codec import encode_value
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models import AccessRole, Grant, Message, Session
from agent_cores.session.models.times import utc_now
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    AWKWARD_NAME,
    AWKWARD_TEXT,
    AWKWARD_VALUE,
    DISTINCT_NAMES,
    new_header,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.clock import ManualClock

_FOR_PROVIDERS = ("access_revision", "request_digest", "listed_at", "due_at", "context_bytes")


def whole_session(header: SessionMetadata, texts: Sequence[str] = (), **context: object) -> Session:
    """Return a session with all its parts, as ``save_session`` requires."""
    messages = [
        Message(
            seq=seq,
            id=f"m{seq}",
            role="user",
            content=text,
            author_id=header.owner_id,
            created_at=header.created_at,
            updated_at=header.created_at if seq % 2 else None,
        )
        for seq, text in enumerate(texts, 1)
    ]
    header = msgspec.structs.replace(header, last_seq=len(texts), message_count=len(texts))
    return Session(metadata=header, context=dict(context), messages=messages)


def seen(session: Session | None) -> Session | None:
    """Return the session without the fields that only providers use."""
    if session is None:
        return None
    header = msgspec.structs.replace(session.metadata, **dict.fromkeys(_FOR_PROVIDERS))
    return msgspec.structs.replace(session, metadata=header)


class SevenMethodCases(ProviderCases):
    """``save``, ``load``, ``delete``, ``list``, ``update_metadata``, ``clean``, ``statistics``."""

    async def test_a_saved_session_is_loaded_as_it_was(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        at = clock()
        grant = Grant(subject="bob", role=AccessRole.EDITOR, granted_by="ann", granted_at=at)
        header = new_header(
            at=at,
            title=AWKWARD_TEXT,
            tags=("一", "b"),
            attributes={AWKWARD_NAME: AWKWARD_VALUE},
            grants={"bob": grant, "group:team": grant},
            public=True,
            archived=True,
            max_lifetime_seconds=90_000.5,
            revision=7,
        )
        session = whole_session(header, ["你好", AWKWARD_TEXT], key=AWKWARD_VALUE)
        await provider.save_session(session)
        assert seen(await provider.load_session("talk")) == seen(session)

    async def test_a_missing_session_is_none(self, provider: StorageProvider) -> None:
        assert await provider.load_session("nothing") is None

    async def test_saving_again_replaces_the_whole_session(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        await provider.save_session(whole_session(new_header(at=clock()), ["a", "b"], k=1, l=2))
        other = new_header(at=clock.advance(1), incarnation=2, owner_id="bob", title="new")
        session = whole_session(other, ["c"], k=3)
        await provider.save_session(session)
        assert seen(await provider.load_session("talk")) == seen(session)
        assert [s.owner_id for s in await provider.list_sessions()] == ["bob"]
        assert await provider.list_sessions(owner_id="ann") == []

    async def test_a_session_that_is_not_whole_is_refused(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        session = whole_session(new_header(at=clock()), ["a", "b"], k=1)
        await provider.save_session(session)
        for parts in ({"context": None}, {"messages": None}, {"messages": session.messages[:1]}):  # type: ignore[index]  # whole_session gives a list
            with pytest.raises(InvalidInputError):
                await provider.save_session(msgspec.structs.replace(session, **parts))
        assert seen(await provider.load_session("talk")) == seen(session)

    async def test_what_is_handed_in_and_out_is_nobody_elses(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), attributes={"list": [1]})
        session = whole_session(header, ["a"], key=[1])
        expected = seen(msgspec.json.decode(msgspec.json.encode(session), type=Session))
        await provider.save_session(session)
        _spoil(session)
        loaded = await provider.load_session("talk")
        assert loaded is not None
        assert seen(loaded) == expected
        _spoil(loaded)
        assert seen(await provider.load_session("talk")) == expected

    async def test_a_deleted_session_is_gone(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        await provider.save_session(whole_session(new_header(at=clock()), ["a"], k=1))
        assert await provider.delete_session("talk") is True
        assert await provider.load_session("talk") is None
        assert await provider.list_sessions() == []
        assert await provider.delete_session("talk") is False
        bare = whole_session(new_header(at=clock(), incarnation=2))
        await provider.save_session(bare)
        assert seen(await provider.load_session("talk")) == seen(bare)

    async def test_an_archived_and_an_expired_session_can_be_deleted(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        shapes: dict[str, dict[str, Any]] = {
            "a": {"archived": True},
            "b": {"expires_at": _just_past()},
        }
        for session_id, fields in shapes.items():
            header = new_header(session_id, at=clock(), **fields)
            await provider.save_session(whole_session(header))
            assert await provider.delete_session(session_id) is True
            assert await provider.load_session(session_id) is None

    async def test_a_listing_is_newest_first_and_has_pages(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        for number in range(5):
            at = clock.advance(2)
            await provider.save_session(whole_session(new_header(f"s{number}", at=at)))
        assert await _listed(provider) == ["s4", "s3", "s2", "s1", "s0"]
        assert await _listed(provider, limit=2) == ["s4", "s3"]
        assert await _listed(provider, limit=2, offset=2) == ["s2", "s1"]
        assert await _listed(provider, limit=2, offset=4) == ["s0"]
        assert await _listed(provider, limit=2, offset=5) == []

    async def test_a_listing_gives_as_many_as_there_are_if_asked_for_more(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        for number in range(120):
            await provider.save_session(whole_session(new_header(f"s{number}", at=clock())))
        assert len(await provider.list_sessions(limit=1_000)) == 120
        assert len(await provider.list_sessions(owner_id="ann", limit=1_000)) == 120
        assert len(await provider.list_sessions(limit=1_000, offset=100)) == 20

    async def test_a_listing_has_the_owners_sessions_with_all_the_tags(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        owned = {"s0": ("ann", ("x", "y")), "s1": ("ann", ("x",)), "s2": ("bob", ("x", "y"))}
        for session_id, (owner_id, tags) in owned.items():
            header = new_header(session_id, at=clock.advance(2), owner_id=owner_id, tags=tags)
            await provider.save_session(whole_session(header))
        assert await _listed(provider, owner_id="ann") == ["s1", "s0"]
        assert await _listed(provider, tags=["x"]) == ["s2", "s1", "s0"]
        assert await _listed(provider, tags=["x", "y"]) == ["s2", "s0"]
        assert await _listed(provider, owner_id="ann", tags=["y", "x"]) == ["s0"]
        assert await _listed(provider, owner_id="nobody") == []

    async def test_a_listing_by_status_tells_expired_ones_apart(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        shapes: dict[str, dict[str, Any]] = {
            "on": {},
            "kept": {"archived": True},
            "over": {"expires_at": _just_past()},
        }
        for session_id, fields in shapes.items():
            header = new_header(session_id, at=clock.advance(2), **fields)
            await provider.save_session(whole_session(header))
        assert await _listed(provider) == ["over", "kept", "on"]
        assert await _listed(provider, status="active") == ["on"]
        assert await _listed(provider, status="archived") == ["kept"]
        assert await _listed(provider, status="expired") == ["over"]

    async def test_metadata_is_set_and_removed_key_by_key(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), title="old", tags=("t",), attributes={"a": 1, "b": 2})
        await provider.save_session(whole_session(header, ["kept"], k=1))
        updates = {"title": AWKWARD_TEXT, "tags": None, "a": None, "c": AWKWARD_VALUE}
        assert await provider.update_metadata("talk", updates) is True
        loaded = await provider.load_session("talk")
        assert loaded is not None
        assert loaded.metadata.title == AWKWARD_TEXT
        assert loaded.metadata.tags == ()
        assert loaded.metadata.attributes == {"b": 2, "c": AWKWARD_VALUE}
        assert loaded.context == {"k": 1}
        assert [m.content for m in loaded.messages or ()] == ["kept"]

    async def test_metadata_of_a_missing_session_is_not_set(
        self, provider: StorageProvider
    ) -> None:
        assert await provider.update_metadata("nothing", {"a": 1}) is False
        assert await provider.load_session("nothing") is None

    async def test_cleaning_removes_what_has_expired_and_nothing_else(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        shapes: dict[str, dict[str, Any]] = {
            "on": {},
            "ever": {"ttl_seconds": None},
            "kept": {"archived": True},
        }
        for session_id, fields in shapes.items():
            await provider.save_session(whole_session(new_header(session_id, at=clock(), **fields)))
        for number in range(3):
            header = new_header(f"over{number}", at=clock(), expires_at=_just_past())
            await provider.save_session(whole_session(header, ["a"], k=1))
        assert await provider.get_statistics() == {"sessions": 6, "due": 3}
        assert await provider.clean_expired_sessions() == 3
        assert await provider.clean_expired_sessions() == 0
        assert sorted(await _listed(provider)) == ["ever", "kept", "on"]
        assert await provider.get_statistics() == {"sessions": 3, "due": 0}

    async def test_ids_that_look_alike_stay_apart(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        for number, name in enumerate(DISTINCT_NAMES):
            header = new_header(name, at=clock.advance(2), owner_id=name, tags=(name,))
            await provider.save_session(whole_session(header, [str(number)]))
        for number, name in enumerate(DISTINCT_NAMES):
            loaded = await provider.load_session(name)
            assert loaded is not None
            assert loaded.id == name
            assert [m.content for m in loaded.messages or ()] == [str(number)]
            assert await _listed(provider, owner_id=name, tags=[name]) == [name]

    async def test_a_saved_session_is_one_that_changes_work_on(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        session = whole_session(new_header(at=clock()), ["a", "b"], k=1)
        await provider.save_session(session)
        snapshot = await provider.read("default", "talk", context=True)
        assert snapshot is not None
        assert snapshot.context == {"k": encode_value(b"1")}
        assert snapshot.header.last_seq == 2


async def _listed(provider: StorageProvider, **arguments: object) -> list[str]:
    sessions = await provider.list_sessions(**arguments)  # type: ignore[arg-type]  # its own names
    return [session.id for session in sessions]


def _just_past() -> datetime:
    """Return an instant that is just past by the machine's clock."""
    return utc_now()


def _spoil(session: Session) -> None:
    session.metadata.attributes["list"].append(2)
    session.metadata.grants.clear()
    assert session.context is not None
    assert session.messages is not None
    session.context["key"].append(2)
    session.messages.clear()
