"""A digest of a session: two stores that hold the same session give the same one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from agent_cores.session.codec import JSON_FIELDS, encode_header
from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.times import to_millis
from agent_cores.session.models.values import decode_json, encode_json, sorted_json
from agent_cores.session.moving.walking import later_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.models.message import StoredMessage
    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.moving.walking import Part
    from agent_cores.session.storage.base import StorageProvider

_OWN_TO_A_STORE = ("due_at", "context_bytes")
"""When the sweeper looks next, and a size that each store counts itself."""
_SECONDS = ("ttl_seconds", "max_lifetime_seconds")


def identity(header: SessionMetadata) -> bytes:
    """Return everything that a header says of its session, the same for the same session.

    What a session holds follows from it: every write changes ``last_seq``, ``revision`` or
    ``access_revision``.
    """
    fields: dict[str, Any] = encode_header(header)
    for name in _OWN_TO_A_STORE:
        del fields[name]
    for name in JSON_FIELDS:
        fields[name] = decode_json(fields[name])
    for name in _SECONDS:
        fields[name] = None if fields[name] is None else float(fields[name])
    fields["access_revision"] = header.access_revision or header.incarnation
    fields["listed_at"] = to_millis(header.listed_at or header.last_active_at)
    return sorted_json(fields)


class SessionDigest:
    """SHA-256 of a session's header, context and messages, which are added part by part."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.messages: int = 0

    def add(self, part: Part) -> None:
        """Add the next part."""
        if part.is_first:
            context = sorted((key, value.decode()) for key, value in part.context.items())
            self._hash.update(identity(part.header) + encode_json(context))
        self._hash.update(b"".join(_framed(part.messages)))
        self.messages += len(part.messages)

    def value(self) -> bytes:
        """Return the digest of all parts so far."""
        return self._hash.digest()


async def digest_of(
    store: StorageProvider, first: Part | CorruptRecordError | None
) -> SessionDigest:
    """Return the digest of a stored session; that of nothing if it is not stored.

    ``first`` is its first part. Raises ``ChangedWhileReadError`` and ``CorruptRecordError``.
    """
    digest = SessionDigest()
    if isinstance(first, CorruptRecordError):
        raise first
    if first is not None:
        digest.add(first)
        async for part in later_parts(store, first):
            digest.add(part)
    return digest


def _framed(messages: Iterable[StoredMessage]) -> Iterable[bytes]:
    for message in messages:
        head = f"\n{message.seq} {to_millis(message.created_at)} {len(message.body)} {message.id}\n"
        yield head.encode()
        yield message.body
