"""Sessions with a past, made by hypothesis, and stores as they are compared."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st

from agent_cores.session.models import Change, Grant, Hold, SessionMetadata, StoredMessage
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.session import AccessRole, RenewOn, Turn
from agent_cores.session.models.times import utc_now
from agent_cores.session.moving.export import export_sessions
from agent_cores.session.moving.walking import Walk
from agent_cores.session.testing.oracle import EVERYTHING
from agent_cores.session.testing.samples import (
    AWKWARD_ID,
    AWKWARD_NAME,
    AWKWARD_TEXT,
    AWKWARD_VALUE,
)

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.models import Snapshot
    from agent_cores.session.moving.tally import Tally
    from agent_cores.session.storage.base import StorageProvider

NOW = utc_now()
ROOMY = Limits(metadata_bytes=1 << 30, context_bytes=1 << 30)

past = st.integers(1, 10**9).map(lambda millis: NOW - timedelta(milliseconds=millis))
future = st.integers(10**7, 10**10).map(lambda millis: NOW + timedelta(milliseconds=millis))
names = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda name: name not in {".", ".."})
values = st.one_of(
    st.just(AWKWARD_TEXT), st.just(AWKWARD_VALUE), st.text(max_size=20), st.integers(-5, 5)
)
JSON = st.one_of(
    values.map(msgspec.json.encode),
    st.sampled_from([b'{ "a" :\n 1 }', b" [1,\r\n2] ", b"null", b"1.0", b"1"]),
)
"""JSON as callers may give it: also with line breaks and blanks, which are stored unchanged."""


@st.composite
def headers(draw: st.DrawFn) -> SessionMetadata:
    """Return the header of a session with any past."""
    created = draw(past)
    subjects = draw(st.lists(names, max_size=3, unique=True))
    return SessionMetadata(
        namespace=draw(st.sampled_from(["default", "team-a"])),
        session_id=draw(names),
        incarnation=draw(st.integers(1, 2**63 - 1)),
        owner_id=draw(names),
        created_at=created,
        updated_at=max(created, draw(past)),
        last_active_at=max(created, draw(past)),
        listed_at=draw(past),
        title=draw(st.none() | st.text(max_size=5)),
        tags=tuple(draw(st.lists(names, max_size=3, unique=True))),
        attributes=draw(st.dictionaries(names, values, max_size=3)),
        archived=draw(st.booleans()),
        public=draw(st.booleans()),
        grants={subject: _grant(draw, subject) for subject in subjects},
        expires_at=draw(st.none() | future),
        ttl_seconds=draw(st.none() | st.floats(1, 1e6)),
        max_lifetime_seconds=draw(st.none() | st.floats(1, 1e6)),
        renew_on=draw(st.sampled_from(RenewOn)),
        revision=draw(st.integers(1, 10**9)),
        turn=draw(st.none() | st.builds(Turn, st.text(min_size=1, max_size=9), future)),
        access_revision=draw(st.integers(0, 2**63 - 1)),
        hold=draw(st.sampled_from([None, None, Hold.FROZEN, Hold.MOVED])),
        request_digest=draw(st.none() | st.text("abcdef", max_size=9)),
        last_seq=draw(st.integers(0, 10**6)),
    )


def _grant(draw: st.DrawFn, subject: str) -> Grant:
    return Grant(
        subject=subject,
        role=draw(st.sampled_from([AccessRole.VIEWER, AccessRole.EDITOR])),
        granted_by=draw(names),
        granted_at=draw(past),
        expires_at=draw(st.none() | past | future),
    )


@st.composite
def sessions(draw: st.DrawFn) -> Change:
    """Return the change that stores a session with any past: holes, edits, authors, times."""
    seqs = sorted(draw(st.sets(st.integers(1, 10**6), max_size=6)))
    return Change(
        namespace="",
        session_id="",
        at=NOW,
        limits=ROOMY,
        append=tuple(_message(draw, seq) for seq in seqs),
        context_set={key: b"1" + draw(JSON) for key in draw(st.sets(names, max_size=3))},
    )


def _message(draw: st.DrawFn, seq: int) -> StoredMessage:
    metadata = draw(st.dictionaries(names, values, max_size=2).map(msgspec.json.encode))
    role, author = msgspec.json.encode(draw(names)), msgspec.json.encode(draw(names))
    body = b'{"role":%b,"content":%b,"author_id":%b,"metadata":%b,"later_field":7}'
    body %= role, draw(JSON), author, metadata
    return StoredMessage(seq, f"m{seq}-{draw(names)}", draw(past), b"1" + body)


def stored(change: Change, header: SessionMetadata) -> Change:
    """Return the change that stores a session under its header."""
    return msgspec.structs.replace(
        change, namespace=header.namespace, session_id=header.session_id, create=header
    )


def long_session(session_id: str, messages: int, at: datetime) -> Change:
    """Return the change that stores a session of many messages with holes."""
    header = SessionMetadata(
        namespace="default",
        session_id=session_id,
        incarnation=7,
        owner_id="ann",
        created_at=at,
        updated_at=at,
        last_active_at=at,
        tags=("x",),
        archived=True,
        access_revision=99,
        expires_at=at + timedelta(days=9),
        last_seq=messages * 2 + 5,
    )
    body = b'1{"role":"user","content":"hello","author_id":"ann","metadata":{}}'
    append = (StoredMessage(n * 2, f"m{n}", at, body) for n in range(1, messages + 1))
    return Change(
        namespace="default",
        session_id=session_id,
        at=at,
        create=header,
        append=tuple(append),
        context_set={"k": b"11"},
    )


def awkward_sessions() -> list[Change]:
    """Return changes that store sessions with everything that a store might lose."""
    long, short = long_session("long", 9, NOW), long_session(AWKWARD_ID, 2, NOW - timedelta(days=2))
    header = short.create
    assert header is not None
    bodies = (b'1{"role":"user", "content":\n[1.0,1] ,"author_id":"b","metadata":{},"later":1}',)
    odd = tuple(
        StoredMessage(seq, f"{AWKWARD_ID}{seq}", NOW - timedelta(days=30), body)
        for seq, body in zip((3, 8), (*bodies, short.append[0].body), strict=True)
    )
    grants = {
        subject: Grant(
            subject=subject,
            role=AccessRole.EDITOR,
            granted_by="ann",
            granted_at=NOW - timedelta(days=1),
            expires_at=end,
        )
        for subject, end in (("bob", None), ("group:x", NOW - timedelta(hours=1)))
    }
    full = msgspec.structs.replace(
        header,
        namespace="team-a",
        updated_at=NOW - timedelta(days=1),
        last_active_at=NOW - timedelta(hours=1),
        listed_at=NOW - timedelta(hours=1, milliseconds=700),
        title=AWKWARD_TEXT.replace("\x00", ""),
        tags=("x", AWKWARD_NAME),
        attributes={"value": AWKWARD_VALUE},
        archived=False,
        public=True,
        grants=grants,
        expires_at=None,
        ttl_seconds=0.5,
        max_lifetime_seconds=1e6,
        renew_on=RenewOn.ACCESS,
        revision=2**40,
        turn=Turn("token", NOW + timedelta(days=1)),
        access_revision=2**63 - 1,
        incarnation=2**63 - 1,
        hold=Hold.FROZEN,
        request_digest="abc",
        last_seq=8,
    )
    bare = msgspec.structs.replace(header, session_id="bare", last_seq=0, title="")
    context = {AWKWARD_NAME: b'1{ "a" :\n1.0}', "k": b"1null"}
    return [
        long,
        stored(msgspec.structs.replace(short, append=odd, context_set=context), full),
        stored(msgspec.structs.replace(short, append=(), context_set={}), bare),
    ]


async def everything(store: StorageProvider) -> dict[tuple[str, str], Snapshot]:
    """Return all that a store holds, but when its sweeper looks at each session next."""
    found = {}
    async for page in Walk(store).pages():
        for header in page:
            name = header.namespace, header.session_id
            snapshot = await store.read(*name, context=True, window=EVERYTHING)
            assert snapshot is not None
            kept = msgspec.structs.replace(snapshot.header, due_at=None)
            found[name] = msgspec.structs.replace(snapshot, header=kept)
    return found


async def exported(store: StorageProvider, **options: Any) -> tuple[bytes, Tally]:  # noqa: ANN401
    """Return an export of a store, and what became of its sessions."""
    file = io.BytesIO()
    tally = await export_sessions(store, file, **options)
    return file.getvalue(), tally
