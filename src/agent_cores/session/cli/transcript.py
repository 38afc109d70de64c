"""A session as text to read: who said what, and when; tool calls on one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.cli.output import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session

_FOLDED = 100
"""Characters of a folded part: what a tool was called with, what it returned."""
_NAMES = ("name", "tool_name", "call_id", "tool_call_id", "id")


def header_lines(session: Session) -> Iterator[str]:
    """Yield what there is to know of a session besides its messages."""
    header = session.metadata
    yield f"{shown(header.session_id)}  {session.status}"
    if header.title is not None:
        yield f"title: {shown(header.title)}"
    yield f"owner: {shown(header.owner_id)}"
    if header.tags:
        yield f"tags: {', '.join(map(shown, header.tags))}"
    yield f"created: {moment(header.created_at)}, last active: {moment(header.last_active_at)}"
    yield f"ends: {moment(header.expires_at) if header.expires_at else 'never'}"
    yield f"messages: {header.message_count}"
    for grant in header.grants.values():
        end = f" until {moment(grant.expires_at)}" if grant.expires_at else ""
        yield f"shared with: {shown(grant.subject)} as {grant.role}{end}"


def message_lines(message: Message, *, full: bool = False) -> Iterator[str]:
    """Yield the lines of one message, the first of them without indentation."""
    edited = ", edited" if message.updated_at else ""
    who = f"{shown(message.role)} ({shown(message.author_id)})"
    yield f"#{message.seq} {who}  {moment(message.created_at)}{edited}"
    for part in _parts(message.content, full=full):
        for line in part.splitlines() or [""]:
            yield f"  {shown(line)}"


def moment(at: datetime) -> str:
    """Return a time to read, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _parts(content: Any, *, full: bool) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and not full:
        for part in content:
            yield from _parts(part, full=full)
    elif content is not None:
        yield _json(content) if full else _part(content)


def _part(part: Any) -> str:  # noqa: ANN401 - any JSON
    """Return one part of a message: its text, or a tool call folded to one line."""
    if not isinstance(part, dict):
        return _folded(_json(part))
    for text in (part.get("text"), part.get("content")):
        if isinstance(text, str) and part.get("type") in {
            None,
            "text",
            "input_text",
            "output_text",
        }:
            return text
    if isinstance(part.get("content"), list) and part.get("type") in {None, "message"}:
        return "\n".join(_parts(part["content"], full=False))
    kind = str(part.get("type", "object"))
    name = next((str(part[key]) for key in _NAMES if isinstance(part.get(key), str)), "")
    rest = {key: value for key, value in part.items() if key not in {"type", *_NAMES}}
    return f"[{kind} {name}".rstrip() + f"] {_folded(_json(rest))}"


def _folded(text: str) -> str:
    return text if len(text) <= _FOLDED else f"{text[:_FOLDED]}… ({len(text)} characters)"


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON
    return msgspec.json.encode(value).decode()
