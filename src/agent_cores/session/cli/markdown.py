"""Sessions as Markdown to read: who said what, and when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from agent_cores.session.cli.output import shown
from agent_cores.session.cli.transcript import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.cli.opening import Opened
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session

_PAGE = 500
_TEXT = frozenset({None, "text", "input_text", "output_text"})
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|])")


async def write_markdown(opened: Opened, session_id: str, file: BinaryIO) -> None:
    """Write a session, a page of messages at a time."""
    verbs, user_id = opened.verbs, opened.user_id
    session = await verbs.get_session(session_id, user_id, message_limit=0)
    _write(file, _head(session))
    after_seq, more = 0, True
    while more:
        page = await verbs.get_session_messages(session_id, user_id, _PAGE, after_seq=after_seq)
        for message in page:
            _write(file, message_lines(message))
            after_seq = message.seq
        more = bool(page) and page.has_more


def message_lines(message: Message) -> Iterator[str]:
    """Yield the lines of one message. Its text is quoted, so that it cannot pass for another's."""
    edited = ", edited" if message.updated_at else ""
    yield f"## #{message.seq} {_plain(message.role)} ({_plain(message.author_id)})"
    yield ""
    yield f"{moment(message.created_at)}{edited}"
    yield ""
    for part in message.content if isinstance(message.content, list) else [message.content]:
        yield from _part(part)


def _head(session: Session) -> Iterator[str]:
    header = session.metadata
    yield f"# {_plain(header.title or header.session_id)}"
    yield ""
    yield f"- session: {_plain(header.session_id)}"
    yield f"- owner: {_plain(header.owner_id)}"
    if header.tags:
        yield f"- tags: {', '.join(map(_plain, header.tags))}"
    yield f"- created: {moment(header.created_at)}, last active: {moment(header.last_active_at)}"
    yield f"- messages: {header.message_count}"
    yield ""


def _part(part: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    text = part
    if isinstance(part, dict) and part.get("type") in _TEXT:
        text = part.get("text", part)
    if text is None:
        return
    if isinstance(text, str):
        for line in text.splitlines() or [""]:
            yield f"> {shown(line)}".rstrip()
    else:  # a tool call, a picture: whole, as JSON
        pretty = msgspec.json.format(msgspec.json.encode(part)).decode()
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", pretty)), default=0))
        yield f"{fence}json"
        yield from map(shown, pretty.splitlines())
        yield fence
    yield ""


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", shown(text))


def _write(file: BinaryIO, lines: Iterator[str]) -> None:
    file.write("".join(f"{line}\n" for line in lines).encode())
