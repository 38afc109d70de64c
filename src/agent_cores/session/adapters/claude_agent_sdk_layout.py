"""Where the transcripts of the Claude Agent SDK are kept: ids, tags, metadata. It needs no SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of_parts

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
