"""Where the transcripts of the Claude Agent SDK are kept: ids, tags, metadata. It needs no SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of_parts
from agent_cores.session.models.values import decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

SUMMARY = "summary"
"""The key of the context under which a main transcript keeps its summary."""
ROLE = "entry"
"""The role of the messages that keep entries."""


def session_id_of(user_id: str, key: Mapping[str, Any]) -> str:
    """Return the id of the session that keeps a transcript of a user."""
    subpath = key.get("subpath")
    names = (key["project_key"], key["session_id"], *([subpath] if subpath else []))
    return id_of_parts("claude", user_id, *names)


def metadata_of(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of the session that keeps a transcript."""
    subpath = key.get("subpath")
    return {
        "tags": [subpath_tag(key) if subpath else project_tag(key["project_key"])],
        "claude_project": key["project_key"],
        "claude_session": key["session_id"],
        **({"claude_subpath": subpath} if subpath else {}),
    }


def project_tag(project_key: str) -> str:
    """Return the tag of the main transcripts of a project."""
    return id_of_parts("claude", project_key)


def subpath_tag(key: Mapping[str, Any]) -> str:
    """Return the tag of the transcripts below a main one."""
    return id_of_parts("claude", key["project_key"], key["session_id"])


def encoded(value: object) -> bytes:
    """Return an entry as it is stored: as JSON, or as text that holds its JSON in ASCII.

    The latter is for text with half of a surrogate pair, which Claude Code makes when it shortens
    text: no UTF-8 can hold it, but an escape can.
    """
    try:
        return encode_json(value)
    except UnicodeEncodeError:
        return encode_json(json.dumps(value))


def decoded(stored: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the entry that is stored; text that is not JSON as it is."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except ValueError:
        return stored


def context_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context that keeps a summary."""
    return {SUMMARY: decode_json(encoded(summary))}


def summary_in(context: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - the SDK's own
    """Return the summary that a context keeps; ``None`` if there is none."""
    return decoded((context or {}).get(SUMMARY))
