"""``agent-sessions list``, ``show``, ``send``, ``share``: look at sessions, and continue them."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from agent_cores.session.cli.opening import Json, Line, Opened, Where, with_sessions
from agent_cores.session.cli.output import note, say, say_json, shown, table
from agent_cores.session.cli.transcript import header_lines, message_lines, moment
from agent_cores.session.errors import ConfigurationError, InvalidInputError
from agent_cores.session.manager import SessionOperator
from agent_cores.session.models.times import utc_now
from agent_cores.session.wire.conversion import grant_shape, message_shape, session_shape

if TYPE_CHECKING:
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Grant, Page, Session

_COLUMNS = ("ID", "OWNER", "STATUS", "MESSAGES", "LAST ACTIVE", "TITLE")
_PAGE = 1_000
_MOST_DAYS = 36_600
_LARGEST_TEXT = 64 * 2**20
"""Bytes of standard input that are read: far more than a message may have."""
Several = Annotated[list[str] | None, Parameter(negative=())]
Flag = Annotated[bool, Parameter(negative=())]


def list_sessions(
    *,
    where: Where | None = None,
    owner: str | None = None,
    tag: Several = None,
    status: str | None = None,
    shared: Flag = False,
    limit: int = 20,
    cursor: str | None = None,
    as_json: Json = False,
) -> None:
    """List the sessions of a user, or as operator those of one owner or of everybody.

    Parameters
    ----------
    owner
        As operator: the sessions of this owner, latest activity first. Without it those of all
        owners, latest created first.
    tag
        Only sessions with this tag; may be repeated.
    status
        active or archived.
    shared
        What others share with the user.
    limit
        How many, at most 1,000.
    cursor
        Continue where an earlier list ended.
    as_json
        Print one line of JSON.
    """

    async def use(opened: Opened) -> Page[Session]:
        verbs = opened.verbs
        wanted: dict[str, Any] = {"tags": tag, "status": status, "limit": limit, "cursor": cursor}
        if opened.where.as_operator is None or opened.where.user is not None:
            if owner is not None:
                raise ConfigurationError("--owner is for operators: give --as-operator, no --user")
            return await verbs.list_user_sessions(opened.user_id, shared=shared, **wanted)
        if shared:
            raise ConfigurationError("--shared needs --user")
        assert isinstance(verbs, SessionOperator) or hasattr(verbs, "list_sessions")  # noqa: S101
        page: Page[Session] = await verbs.list_sessions(owner_id=owner, **wanted)
        return page

    page = with_sessions(where, use)
    if as_json:
        data = [session_shape(session) for session in page]
        say_json({"data": data, "has_more": page.has_more, "next_cursor": page.next_cursor})
        return
    for line in table(_COLUMNS, map(_row, page)):
        say(line)
    if page.has_more:
        note(f"There are more: --cursor {page.next_cursor}")


def show(
    session_id: str,
    *,
    where: Where | None = None,
    limit: int = 50,
    full: Flag = False,
    as_json: Json = False,
) -> None:
    """Show a session and its latest messages, oldest first; tool calls take one line each.

    Parameters
    ----------
    session_id
        The session.
    limit
        How many messages; 0 shows none.
    full
        Show content that is not text whole, as JSON.
    as_json
        Print one line of JSON, with the context if the caller may read it.
    """

    async def use(opened: Opened) -> Session:
        most = min(limit, _PAGE)
        session = await opened.verbs.get_session(session_id, opened.user_id, message_limit=most)
        messages = list(session.messages or ())
        while messages and len(messages) < limit and messages[0].seq > 1:
            earlier = await opened.verbs.get_session_messages(
                session_id,
                opened.user_id,
                min(limit - len(messages), _PAGE),
                before_seq=messages[0].seq,
            )
            if not earlier:
                break
            messages[:0] = earlier
        return msgspec.structs.replace(session, messages=messages)

    session = with_sessions(where, use)
    if as_json:
        say_json(session_shape(session))
        return
    for line in header_lines(session):
        say(line)
    for message in session.messages or ():
        say("")
        for line in message_lines(message, full=full):
            say(line)


def send(
    session_id: str,
    text: str | None = None,
    *,
    where: Where | None = None,
    role: str = "user",
    message_id: str | None = None,
    create: Flag = False,
    as_json: Json = False,
) -> None:
    """Append a message to a session.

    Parameters
    ----------
    session_id
        The session.
    text
        What the message says. Left out, it is read from standard input.
    role
        The role of the message.
    message_id
        An id with which the command can be repeated safely.
    create
        Create the session if it is missing.
    as_json
        Print one line of JSON.
    """
    content = _standard_input() if text is None else text

    async def use(opened: Opened) -> Message:
        message: dict[str, Any] = {"role": role, "content": content}
        if message_id is not None:
            message["id"] = message_id
        [stored] = await opened.verbs.add_messages(
            session_id, opened.user_id, [message], create=create
        )
        return stored

    stored = with_sessions(where, use)
    if as_json:
        say_json(message_shape(stored))
    else:
        say(f"#{stored.seq} {shown(stored.id)}")


def _standard_input() -> str:
    """Return all of standard input, which is UTF-8 whatever the locale says."""
    text = sys.stdin.buffer.read(_LARGEST_TEXT + 1)
    if len(text) > _LARGEST_TEXT:
        raise InvalidInputError("TEXT", f"has more than {_LARGEST_TEXT // 2**20} MiB")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError("TEXT", f"is not UTF-8: standard input, {error}") from error


def share(
    session_id: str,
    subject: str,
    *,
    where: Where | None = None,
    role: str = "viewer",
    days: float | None = None,
    revoke: Flag = False,
    as_json: Json = False,
) -> None:
    """Give a user, or group:NAME, a role in a session, or take it away.

    Parameters
    ----------
    session_id
        The session.
    subject
        A user id, or group:NAME.
    role
        viewer or editor.
    days
        In how many days the grant ends. Default: never.
    revoke
        Take the role away.
    as_json
        Print one line of JSON.
    """
    if days is not None and not 0 < days <= _MOST_DAYS:
        raise InvalidInputError("days", f"more than 0 and at most {_MOST_DAYS}")

    async def use(opened: Opened) -> Grant | bool:
        verbs, user_id = opened.verbs, opened.user_id
        if revoke:
            return await verbs.revoke_access(session_id, user_id, subject)
        end = None if days is None else utc_now() + timedelta(days=days)
        return await verbs.share_session(session_id, user_id, subject, role=role, expires_at=end)

    verb = "revoke_access" if revoke else "share_session"
    done = with_sessions(where, use, Line(verb, [session_id], is_verb=True))
    if as_json:
        say_json({"revoked": done} if isinstance(done, bool) else grant_shape(done))
    elif isinstance(done, bool):
        say("The role is taken away." if done else "There was no such grant.")
    else:
        end = "" if done.expires_at is None else f" until {moment(done.expires_at)}"
        say(f"{shown(done.subject)} is {done.role}{end}.")


def _row(session: Session) -> tuple[str, ...]:
    header = session.metadata
    return (
        header.session_id,
        header.owner_id,
        session.status.value,
        str(header.message_count),
        moment(header.last_active_at),
        header.title or "",
    )
