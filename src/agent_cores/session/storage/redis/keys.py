r"""Which keys hold what: one layout on every topology.

    session:{default/abc}                                 hash: the header's fields, context:<key>
    session:{default/abc}:messages                        stream, an entry a message, id <seq>-0
    session:{default/abc}:ids                             hash: message id -> seq
    session:{default/abc}:updated                         sorted set: updated messages, by seq
    session:owner:{default/user123}:active                sorted set: an owner's sessions, listed_at
    session:owner:{default/user123}:active:tag:<tag>      those of them with a tag
    session:owner:{default/user123}:archived[:tag:<tag>]  the archived ones
    session:subject:{default/user456}                     what is shared with a subject, granted_at
    session:due:{default/3}                               a shard of the due queue, due_at
    session:created:{default/3}:active                    a shard of a namespace's active sessions,
                                                          created_at; those with a tag, and the
                                                          archived ones, as an owner's
    session:due:namespaces                                set: the namespaces that have due queues
    session:checked                                       written by a health check, for a minute
    session:identity                                      what tells this store from another one
    <list>:claim:<member>                                 hash: the last claim of an entry

A stream takes no entry in its middle: a message that is updated leaves it for the sorted set.

The text in braces is the hash tag: keys with the same one are in the same cluster slot. A user's
text is percent-encoded in keys, so that it can neither end a tag nor look like another key.

A member of a sorted set is ``<session_id>\0<incarnation>``. Ids hold no control characters, so
members of equal score are in the order of session ids. The incarnation keeps the entry of a deleted
session apart from that of a later session with the same id.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote
from zlib import crc32

import msgspec

from agent_cores.session.errors import ConfigurationError

DUE_SHARDS = 8
"""Never changed: it decides which shard holds a session."""

CONTEXT_PREFIX = b"context:"
_SEPARATOR = b"\0"
_DIGITS = 20
"""More than an incarnation has."""


class SessionKeys(msgspec.Struct, frozen=True, gc=False):
    """The keys of one session, in one slot."""

    header: bytes
    messages: bytes
    ids: bytes
    updated: bytes

    @property
    def every(self) -> tuple[bytes, ...]:
        """All of them."""
        return self.header, self.messages, self.ids, self.updated

    @property
    def usual(self) -> tuple[bytes, ...]:
        """The keys of a session none of whose messages was updated."""
        return self.header, self.messages, self.ids


class Keys:
    """The names of all keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        if re.search(r"[{}]", prefix):
            detail = "SESSION_KEY_PREFIX contains a brace; braces set the hash tags of a cluster"
            raise ConfigurationError(detail)
        self.prefix = prefix
        self.namespaces: bytes = f"{prefix}due:namespaces".encode()
        self.checked: bytes = f"{prefix}checked".encode()
        self.identity: bytes = f"{prefix}identity".encode()

    def session(self, namespace: str, session_id: str) -> SessionKeys:
        """Return the keys of a session."""
        return _session_keys(self.prefix, namespace, session_id)

    def owned(
        self, namespace: str, owner_id: str, *, archived: bool, tag: str | None = None
    ) -> bytes:
        """Return the list of an owner's active or archived sessions, or of those with a tag."""
        shelf = "archived" if archived else "active"
        key = f"{self.prefix}owner:{{{_quoted(namespace)}/{_quoted(owner_id)}}}:{shelf}"
        return (key if tag is None else f"{key}:tag:{_quoted(tag)}").encode()

    def shared_with(self, namespace: str, subject: str) -> bytes:
        """Return the list of the sessions that are shared with a subject."""
        return f"{self.prefix}subject:{{{_quoted(namespace)}/{_quoted(subject)}}}".encode()

    def created(
        self, namespace: str, session_id: str, *, archived: bool, tag: str | None = None
    ) -> bytes:
        """Return the shard that holds a session in the list of its namespace, or of a tag."""
        shard = crc32(session_id.encode()) % DUE_SHARDS
        return self._created_shard(namespace, shard, archived=archived, tag=tag)

    def created_shards(self, namespace: str, *, archived: bool, tag: str | None) -> list[bytes]:
        """Return all shards of such a list; those of one number are in one slot."""
        return [
            self._created_shard(namespace, shard, archived=archived, tag=tag)
            for shard in range(DUE_SHARDS)
        ]

    def _created_shard(
        self, namespace: str, shard: int, *, archived: bool, tag: str | None
    ) -> bytes:
        shelf = "archived" if archived else "active"
        key = _shard_key(self.prefix, "created", namespace, shard) + f":{shelf}".encode()
        return key if tag is None else key + f":tag:{_quoted(tag)}".encode()

    def due(self, namespace: str, session_id: str) -> bytes:
        """Return the shard of the due queue that holds a session."""
        return self._due_shard(namespace, crc32(session_id.encode()) % DUE_SHARDS)

    def due_shards(self, namespace: str) -> list[bytes]:
        """Return all shards of a namespace's due queue."""
        return [self._due_shard(namespace, shard) for shard in range(DUE_SHARDS)]

    def _due_shard(self, namespace: str, shard: int) -> bytes:
        return _shard_key(self.prefix, "due", namespace, shard)


def member_of(session_id: str, incarnation: int) -> bytes:
    """Return the member that represents a session in a sorted set."""
    return session_id.encode() + _SEPARATOR + str(incarnation).encode()


def claim_of(key: bytes, member: bytes) -> bytes:
    """Return the key, in the list's slot, of the claim of an entry."""
    return key + b":claim:" + member


def split_member(member: bytes) -> tuple[str, int]:
    """Return the session id and the incarnation of a member.

    A member that is malformed gets the incarnation -1, which no session has.
    """
    session_id, _, incarnation = member.rpartition(_SEPARATOR)
    number = int(incarnation) if incarnation.isdigit() and len(incarnation) < _DIGITS else -1
    return session_id.decode(errors="replace"), number


@lru_cache(maxsize=16_384)
def _session_keys(prefix: str, namespace: str, session_id: str) -> SessionKeys:
    header = f"{prefix}{{{_quoted(namespace)}/{quote(session_id, safe='')}}}"
    return SessionKeys(
        header.encode(),
        f"{header}:messages".encode(),
        f"{header}:ids".encode(),
        f"{header}:updated".encode(),
    )


@lru_cache(maxsize=16_384)
def _shard_key(prefix: str, kind: str, namespace: str, shard: int) -> bytes:
    return f"{prefix}{kind}:{{{_quoted(namespace)}/{shard}}}".encode()


@lru_cache(maxsize=16_384)
def _quoted(text: str) -> str:
    return quote(text, safe="")
