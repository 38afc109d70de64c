"""The metadata of a conversation, kept among the session's own metadata keys.

A conversation's metadata are the text values of these keys. A name that means something else in a
session (``title``, ``tags``, ``owner_id`` and so on) is kept with a prefix, so that neither side
changes what the other one set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.models.session import SYSTEM_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "openai:"
_TAKEN = SYSTEM_KEYS | {"title", "tags"}


def stored(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return a conversation's metadata as keys of a session."""
    return {_stored_key(key): value for key, value in (metadata or {}).items()}


def shown(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return a session's keys as metadata of a conversation, whose values are text."""
    return {
        key.removeprefix(PREFIX): value
        for key, value in attributes.items()
        if isinstance(value, str)
    }


def replacing(attributes: Mapping[str, Any], metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the updates that replace a conversation's metadata; other values stay."""
    removed: dict[str, Any] = {
        key: None for key, value in attributes.items() if isinstance(value, str)
    }
    return {**removed, **stored(metadata)}


def _stored_key(key: str) -> str:
    return PREFIX + key if key in _TAKEN or key.startswith(PREFIX) else key
