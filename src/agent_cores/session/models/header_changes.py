"""How a change alters the fields of a header. Every function returns the fields that differ."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agent_cores.session.errors import (
    InvalidInputError,
    SessionMovedError,
    TurnHeldError,
    TurnLostError,
)
from agent_cores.session.models.expiry import LISTING_LAG, earlier
from agent_cores.session.models.session import Hold, Turn, without
from agent_cores.session.models.values import (
    MOST_SLOW_NUMBERS,
    TOO_MANY_SLOW,
    canonical_json,
    encode_json,
    slow_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent_cores.session.models.effects import (
        AccessEffect,
        HoldEffect,
        RenewEffect,
        SettleEffect,
        TurnEffect,
    )
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.models.message import StoredMessage
    from agent_cores.session.models.session import Grant, SessionMetadata

Fields = dict[str, Any]

ACCESS_FIELDS = frozenset(
    {
        "owner_id",
        "grants",
        "public",
        "archived",
        "hold",
        "ttl_seconds",
        "max_lifetime_seconds",
        "renew_on",
    }
)
"""A change of any of these changes ``access_revision``: it may alter who may write."""
_TOKENS = 2**63


def next_access_revision(
    header: SessionMetadata, *effects: AccessEffect | HoldEffect | RenewEffect | None
) -> int:
    """Return the ``access_revision`` after a change of ``ACCESS_FIELDS`` by these effects.

    The effects' random tokens make it unique. A counter is not: a store that lost its last writes
    would give the same number to another change, and a cached header would pass for the stored one.
    """
    drawn = sum(effect.token for effect in effects if effect is not None)
    return ((header.access_revision or 0) + drawn) % _TOKENS


def overwritten_access_revision(stored: SessionMetadata, given: SessionMetadata) -> int:
    """Return the ``access_revision`` of a session saved over another one.

    It is a digest of both headers, so it is the same only if they are.
    """
    digest = hashlib.sha256(encode_json([stored.access_revision, given])).digest()
    return int.from_bytes(digest[:8]) % _TOKENS


def _differing(header: SessionMetadata, values: Fields) -> Fields:
    return {name: value for name, value in values.items() if getattr(header, name) != value}


def metadata_fields(header: SessionMetadata, updates: Mapping[str, Any], limits: Limits) -> Fields:
    """Set title, tags and attributes; a value of ``None`` removes the key."""
    fields: Fields = {}
    if "title" in updates:
        fields["title"] = updates["title"]
    if "tags" in updates:
        fields["tags"] = tuple(updates["tags"] or ())
    own = without(updates, ("title", "tags"))
    fields = _differing(header, fields)
    attributes = {**header.attributes, **own}
    attributes = {key: value for key, value in attributes.items() if value is not None}
    encoded, held = encode_json(attributes), encode_json(header.attributes)
    # As JSON, since 1, 1.0 and True compare equal.
    if encoded != held and canonical_json(encoded) != canonical_json(held):
        fields["attributes"] = attributes
        check_metadata_size(len(encoded), limits)
        if slow_numbers(encoded) > max(MOST_SLOW_NUMBERS, slow_numbers(held)):
            raise InvalidInputError("metadata", f"would have {TOO_MANY_SLOW}")
    return fields


def check_metadata_size(size: int, limits: Limits) -> None:
    """Raise ``InvalidInputError`` if encoded attributes are too large."""
    if size > limits.metadata_bytes:
        raise InvalidInputError(
            "metadata", f"is {size} bytes, at most {limits.metadata_bytes} allowed"
        )


def access_fields(
    header: SessionMetadata, effect: AccessEffect, at: datetime, limits: Limits
) -> Fields:
    """Set owner, flags and grants. A change of grants also removes those that have expired."""
    wanted = {"owner_id": effect.owner_id, "public": effect.public, "archived": effect.archived}
    fields = _differing(header, {k: value for k, value in wanted.items() if value is not None})
    if not all(grant.is_live(at) for grant in effect.grant):  # it expired while the write waited
        raise InvalidInputError("expires_at", "must be in the future")
    grants = {} if effect.revoke_all else without(header.grants, effect.revoke)
    for grant in effect.grant:
        if not _same_grant(grants.get(grant.subject), grant):
            grants[grant.subject] = grant
    if grants != header.grants:
        fields["grants"] = live = {k: grant for k, grant in grants.items() if grant.is_live(at)}
        if len(live) > limits.grants:
            raise InvalidInputError(
                "grants", f"would be {len(live)}, at most {limits.grants} allowed"
            )
    return fields


def _same_grant(held: Grant | None, grant: Grant) -> bool:
    """Whether the two grants differ in nothing but the time of sharing."""
    return held is not None and msgspec.structs.replace(held, granted_at=grant.granted_at) == grant


def turn_after(held: Turn | None, effect: TurnEffect, at: datetime) -> Turn | None:
    """Return the turn after taking, renewing or releasing it."""
    if effect.take:
        if held is not None and held.token != effect.token and held.expires_at > at:
            raise TurnHeldError(held.expires_at)
    elif held is None or held.token != effect.token:
        raise TurnLostError
    return None if effect.lease_end is None else Turn(effect.token, effect.lease_end)


def ttl_fields(header: SessionMetadata, effect: RenewEffect) -> Fields:
    """Set the idle time if the effect has one."""
    if effect.ttl_seconds is UNSET:
        return {}
    return _differing(header, {"ttl_seconds": effect.ttl_seconds})


def context_size(entries: Mapping[str, bytes]) -> int:
    """Return the size of entries as ``context_bytes`` counts it: without the version bytes."""
    return sum(len(key.encode()) + len(value) - 1 for key, value in entries.items())


def context_bytes_after(
    held: int, replaced: Mapping[str, bytes], added: Mapping[str, bytes], limits: Limits
) -> int:
    """Return the size of the context after a change.

    ``InvalidInputError`` if it grows past the bound; a change that shrinks it is always allowed.
    """
    growth = context_size(added) - context_size(replaced)
    if growth > 0 and held + growth > limits.context_bytes:
        raise InvalidInputError(
            "context", f"would be {held + growth} bytes, at most {limits.context_bytes} allowed"
        )
    return held + growth


def count_fields(
    header: SessionMetadata,
    added: tuple[StoredMessage, ...],
    removed: tuple[tuple[int, str], ...],
) -> Fields:
    """Count added and removed messages; the last seq never falls."""
    return {
        "last_seq": added[-1].seq if added else header.last_seq,
        "message_count": header.message_count + len(added) - len(removed),
    }


def moved_listed_at(header: SessionMetadata, active_at: datetime) -> datetime | None:
    """Return ``listed_at`` after an append; ``None`` while the stored one is recent enough."""
    listed_at = header.listed_at
    return active_at if listed_at is None or active_at - listed_at >= LISTING_LAG else None


def activity_fields(header: SessionMetadata, at: datetime, *, revised: bool) -> Fields:
    """Move the times of activity; after a plain append ``listed_at`` may lag by a second."""
    active_at = max(header.last_active_at, at)
    if not revised:
        return {
            "last_active_at": active_at,
            "listed_at": moved_listed_at(header, active_at) or header.listed_at,
        }
    return {
        "last_active_at": active_at,
        "listed_at": active_at,
        "revision": header.revision + 1,
        "updated_at": max(header.updated_at, at),
    }


def end_fields(header: SessionMetadata, end: datetime | None) -> Fields:
    """Set ``expires_at``; ``due_at`` moves only if it would be later than that."""
    if end == header.expires_at:
        return {}
    return {"expires_at": end, "due_at": earlier(header.due_at, end)}


def settled_fields(header: SessionMetadata, settle: SettleEffect) -> Fields:
    """Finish a session that was built; ``SessionMovedError`` if it is not being built."""
    if header.hold is not Hold.OPENING:
        raise SessionMovedError
    return {
        "hold": settle.hold,
        "access_revision": settle.access_revision,
        "last_seq": max(header.last_seq, settle.last_seq),
        **end_fields(header, settle.expires_at),
    }
