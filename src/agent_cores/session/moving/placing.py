"""One session written into a store, exactly as it was elsewhere.

A session of one part is created in one change, which also replaces what is stored. A longer one is
built under the hold ``opening``, which hides it, and settled at its end; if that is interrupted, it
is swept within a minute. One that replaces another is first written whole beside it: what the
source or the target does not let through is met before anything is lost.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import asynccontextmanager, suppress
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
from agent_cores.session.models.effects import RenewEffect, SettleEffect, random_token
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.session import Hold
from agent_cores.session.models.times import utc_now
from agent_cores.session.moving.digests import identity
from agent_cores.session.moving.walking import ChangedWhileReadError, later_parts

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
    set: then this one takes its place. An expired one gives way. Raises ``ConflictError`` if
    somebody else moves the same session at the same time.
    """
    stored = await _create(store, first)
    if stored is not None:
        if identity(stored) == identity(first.header):
            return Placed.PRESENT
        if not replace and not _is_left_over(stored, first.header):
            return Placed.DIFFERENT
        if not first.is_last and stored.hold is not Hold.OPENING:
            await _replace_long(store, stored, first, later)
            return Placed.WRITTEN
        await _overwrite(store, stored, first)
    if not first.is_last:
        await _build(store, first, later)
    return Placed.WRITTEN


async def _create(store: StorageProvider, first: Part) -> SessionMetadata | None:
    """Create a session with its first part; if its id is taken, return the stored header."""
    header, change = first.header, _creation(first)
    try:
        applied = await store.apply(change)
    except (SessionExistsError, SessionMovedError) as error:
        snapshot = await store.read(header.namespace, header.session_id)
        if snapshot is None:
            raise ConflictError(_BY_OTHERS) from error
        return snapshot.header
    return applied.header if applied.replayed else None


async def _overwrite(store: StorageProvider, stored: SessionMetadata, first: Part) -> None:
    """Replace a stored session by a new one with its first part, in one write."""
    change = msgspec.structs.replace(
        _creation(first),
        overwrite=True,
        incarnation=stored.incarnation,
        expected_hold=stored.hold,
    )
    try:
        await store.apply(change)
    except _TAKEN as error:
        raise ConflictError(_BY_OTHERS) from error


async def _replace_long(
    store: StorageProvider, stored: SessionMetadata, first: Part, later: AsyncIterator[Part]
) -> None:
    """Replace a stored session by one of several parts, which has been written whole before."""
    async with _written_beside(store, first, later) as copy:
        await _overwrite(store, stored, first)
        await _build(store, first, _kept(store, copy))


@asynccontextmanager
async def _written_beside(
    store: StorageProvider, first: Part, later: AsyncIterator[Part]
) -> AsyncIterator[Part]:
    """Write all parts under another id, hidden, until the block ends; yield the first of them."""
    header = msgspec.structs.replace(
        first.header,
        session_id=f"moving-{secrets.token_hex(16)}",
        incarnation=random_token(),
        access_revision=None,
    )
    copy = msgspec.structs.replace(first, header=header)
    try:
        await store.apply(_creation(copy))
        await _append(store, copy, later)
        yield copy
    except _TAKEN as error:
        raise ConflictError(_BY_OTHERS) from error
    finally:
        with suppress(SessionError):
            await store.apply(_change(header, delete=True))


async def _kept(store: StorageProvider, copy: Part) -> AsyncIterator[Part]:
    """Yield the later parts of a hidden copy, and keep it from being swept."""
    try:
        async for part in later_parts(store, copy):
            await store.apply(_change(copy.header, renew=RenewEffect()))
            yield part
    except ChangedWhileReadError as error:  # it was swept: nothing that the source has changed
        raise ConflictError(_BY_OTHERS) from error


def _creation(first: Part) -> Change:
    """Return the change that creates a session with its first part, hidden if others follow."""
    header = first.header if first.is_last else _building(first.header)
    return _change(
        header, create=header, append=first.messages, context_set=first.context, incarnation=None
    )


def _building(header: SessionMetadata) -> SessionMetadata:
    """Return the header of a session while it is built: hidden, and swept if it is abandoned."""
    opening = msgspec.structs.replace(header, hold=Hold.OPENING, last_seq=0, due_at=None)
    return msgspec.structs.replace(opening, expires_at=fresh_end(opening, utc_now()))


def _is_left_over(stored: SessionMetadata, header: SessionMetadata) -> bool:
    """Whether this is what an interrupted move of the same session left behind."""
    return stored.hold is Hold.OPENING and stored.incarnation == header.incarnation


async def _build(store: StorageProvider, first: Part, later: AsyncIterator[Part]) -> None:
    """Append the other parts and settle the session.

    A concurrent move of the same session takes this build for one that was abandoned, and begins
    anew. So each part is appended to the one before it and to nothing else.
    """
    header = first.header
    try:
        last_seq = await _append(store, first, later)
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


async def _append(store: StorageProvider, first: Part, later: AsyncIterator[Part]) -> int:
    """Append the other parts to a session that is being built; return the last seq."""
    last_seq = first.last_seq
    async for part in later:
        if part.messages:
            append = _change(first.header, append=part.messages, expected_last_seq=last_seq)
            await store.apply(append)
            last_seq = part.last_seq
    return last_seq


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
