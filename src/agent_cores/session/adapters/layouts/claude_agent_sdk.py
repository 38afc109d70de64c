"""How the transcripts of the Claude Agent SDK are kept: ids, tags, messages. It needs no SDK.

An entry is a message. One that is longer than a message holds is several: its pieces, and after
them the message that shows it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.adapters.ids import id_of_parts
from agent_cores.session.adapters.pieces import PIECE, divided, pieces_of, typed_of
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import new_id
from agent_cores.session.models.limits import DEFAULT_LIMITS, MIB
from agent_cores.session.models.values import decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.adapters.pieces import Draft
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import SessionMetadata

SUMMARY = "summary"
"""The key of the context under which a main transcript keeps its summary."""
ROLE = "entry"
"""The role of the messages that keep entries."""
LONG = "long_entry"
"""The role of the messages that show entries in pieces."""
ROLES = frozenset({ROLE, LONG, PIECE})
LARGEST = 64 * MIB
"""The most bytes of an entry, as JSON."""
DEEPEST = 200
"""How deep an entry may nest. Python's own decoder, which some need, recurses."""
_WHOLE = DEFAULT_LIMITS.content_bytes
"""The most bytes of an entry in one message."""


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


def key_of(header: SessionMetadata) -> dict[str, str] | None:
    """Return the key of the transcript that a session keeps; ``None`` for others, and copies."""
    names = ("claude_project", "claude_session", "claude_subpath")
    project, session, subpath = (header.attributes.get(name) for name in names)
    if not (isinstance(project, str) and isinstance(session, str)):
        return None
    key = {"project_key": project, "session_id": session}
    if isinstance(subpath, str):
        key["subpath"] = subpath
    return key if header.session_id == session_id_of(header.owner_id, key) else None


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


def decoded(stored: object) -> object:
    """Return the entry that is stored; text that is not JSON, or nests too deep, as it is."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except (RecursionError, ValueError):
        return stored


def entry_messages(entry: object, message_id: str | None, field: str) -> list[Draft]:
    """Return an entry as messages to add; the last one shows it, so it must not be added earlier.

    Equal entries with one ``message_id`` give equal messages. ``InvalidInputError``, which names
    the field, for an entry of more than ``LARGEST`` bytes.
    """
    data = encoded(entry)
    if len(data) > LARGEST:
        detail = f"is {len(data)} bytes as JSON, at most {LARGEST} allowed"
        raise InvalidInputError(field, detail)
    if len(data) <= _WHOLE:
        message = {"role": ROLE, "content": msgspec.Raw(data)}
        return [message if message_id is None else {**message, "id": message_id}]
    name = message_id or new_id()
    mark = hashlib.sha256(name.encode() + b"\n" + data).hexdigest()
    # The last has no room for a piece, so that asking whether it is stored reads little.
    shown, more = divided(("json", data), of=name, mark=mark, room=0)
    head: Draft = {"id": name, "role": LONG, "content": shown}
    return [
        {**each, "content": msgspec.Raw(encode_json(each["content"]))} for each in [*more, head]
    ]


def entry_of(message: Message, pieces: dict[str, Any]) -> Any:  # noqa: ANN401 - the SDK's own
    """Return the entry that a message shows; ``None`` if it shows none.

    ``pieces`` are those of the messages before it, to which this one's may be added. What is no
    object is no entry, nor is one of which a piece is missing.
    """
    if message.role == PIECE:
        pieces[message.id] = message.content
    content = message.content
    if message.role == LONG:
        content = _put_together(content, pieces)
    elif message.role != ROLE:
        return None
    entry = decoded(content)
    return entry if isinstance(entry, dict) else None


def _put_together(content: Any, pieces: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return what was stored in pieces; ``None`` for what this adapter has not written."""
    try:
        _, data = typed_of(content, [pieces.pop(name) for name in pieces_of(content)])
        return decode_json(data)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def context_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context that keeps a summary."""
    return {SUMMARY: decode_json(encoded(summary))}


def summary_in(context: Mapping[str, Any] | None, name: str) -> Any:  # noqa: ANN401 - the SDK's own
    """Return the summary of the session of that name; ``None`` if the context keeps none."""
    summary = decoded((context or {}).get(SUMMARY))
    if not isinstance(summary, dict) or summary.get("session_id") != name:
        return None
    is_summary = isinstance(summary.get("data"), dict) and isinstance(summary.get("mtime"), int)
    return summary if is_summary else None
