"""One session written into a store, exactly as it was elsewhere.

A session of one part is created in one change. A longer one is built under the hold ``opening``,
which hides it, and settled at its end; if that is interrupted, it is swept within a minute.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import (
    ConflictError,
    LastSeqMismatchError,
    SessionError,
    SessionExistsError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.models.change import Change
from agent_cores.session.models.effects import SettleEffect
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.session import Hold
from agent_cores.session.models.times import utc_now
from agent_cores.session.moving.digests import identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.moving.walking import Part
    from agent_cores.session.storage.base import StorageProvider

_UNBOUNDED = Limits(metadata_bytes=sys.maxsize, context_bytes=sys.maxsize)
"""What one store accepted, another does not refuse."""
_TAKEN = (SessionNotFoundError, SessionMovedError, LastSeqMismatchError, StaleHeaderError)
"""What a build meets that somebody else has replaced, settled or removed."""
_BY_OTHERS = "somebody else moved or removed the same session at the same time; run it again"


class Placed(StrEnum):
    """What became of a session: written; stored already; another, or another state, is stored."""

    WRITTEN = "written"
    PRESENT = "present"
    DIFFERENT = "different"


async def place(
    store: StorageProvider, first: Part, later: AsyncIterator[Part], *, replace: bool = False
) -> Placed:
    """Write a session. ``later`` are the parts after the first; what it raises undoes the rest.

    A session that is stored under the id in another state stays as it is, unless ``replace`` is
    set: then it is removed. An expired one gives way. Raises ``ConflictError`` if somebody else
    moves the same session at the same time.
    """
    stored = await _create(store, first)
    if stored is not None and identity(stored) == identity(first.header):
        return Placed.PRESENT
    if stored is not None:
        if not replace and not _is_left_over(stored, first.header):
            return Placed.DIFFERENT
        await _remove(store, stored)
        if await _create(store, first) is not None:
            return Placed.DIFFERENT  # somebody else created it since
    if not first.is_last:
        await _build(store, first, later)
    return Placed.WRITTEN


async def _create(store: StorageProvider, first: Part) -> SessionMetadata | None:
    """Create a session with its first part; if its id is taken, return the stored header."""
    header = first.header if first.is_last else _building(first.header)
    change = _change(
        header, create=header, append=first.messages, context_set=first.context, incarnation=None
    )
    try:
        applied = await store.apply(change)
    except (SessionExistsError, SessionMovedError) as error:
        snapshot = await store.read(header.namespace, header.session_id)
        if snapshot is None:
            raise ConflictError(_BY_OTHERS) from error
        return snapshot.header
    return applied.header if applied.replayed else None


def _building(header: SessionMetadata) -> SessionMetadata:
    """Return the header of a session while it is built: hidden, and swept if it is abandoned."""
    opening = msgspec.structs.replace(header, hold=Hold.OPENING, last_seq=0, due_at=None)
    return msgspec.structs.replace(opening, expires_at=fresh_end(opening, utc_now()))


def _is_left_over(stored: SessionMetadata, header: SessionMetadata) -> bool:
    """Whether this is what an interrupted move of the same session left behind."""
    return stored.hold is Hold.OPENING and stored.incarnation == header.incarnation


async def _build(store: StorageProvider, first: Part, later: AsyncIterator[Part]) -> None:
    """Append the other parts and settle the session.

    Whoever moves the same session meanwhile takes this build for one that was abandoned, and begins
    anew. So each part is appended to the one before it and to nothing else.
    """
    header, last_seq = first.header, _last_seq(first)
    try:
        async for part in later:
            if part.messages:
                append = _change(header, append=part.messages, expected_last_seq=last_seq)
                await store.apply(append)
                last_seq = _last_seq(part)
        settle = SettleEffect(
            hold=header.hold,
            access_revision=header.access_revision or header.incarnation,
            expires_at=header.expires_at,
            last_seq=header.last_seq,
        )
        await store.apply(_change(header, settle=settle, expected_last_seq=last_seq))
    except _TAKEN as error:  # what is there is not ours to remove
        raise ConflictError(_BY_OTHERS) from error
    except BaseException:
        with suppress(SessionError):
            await store.apply(_change(header, delete=True))
        raise


def _last_seq(part: Part) -> int:
    return part.messages[-1].seq if part.messages else 0


async def _remove(store: StorageProvider, stored: SessionMetadata) -> None:
    change = _change(stored, delete=True)
    try:
        await store.apply(msgspec.structs.replace(change, expected_hold=stored.hold))
    except _TAKEN as error:
        raise ConflictError(_BY_OTHERS) from error


def _change(header: SessionMetadata, **effects: object) -> Change:
    fields = {
        "incarnation": header.incarnation,
        "expected_hold": None if "create" in effects else Hold.OPENING,
        **effects,
    }
    return msgspec.structs.replace(
        Change(
            namespace=header.namespace,
            session_id=header.session_id,
            at=utc_now(),
            limits=_UNBOUNDED,
        ),
        **fields,
    )
