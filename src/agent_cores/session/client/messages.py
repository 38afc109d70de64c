"""The client's verbs on a session's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType

from agent_cores.session.client import arguments
from agent_cores.session.client.calls import NO_NAMES, Request
from agent_cores.session.client.conversations import ConversationCalls
from agent_cores.session.client.reading import (
    read_appended,
    read_message,
    read_messages,
    read_nothing,
    read_popped,
)
from agent_cores.session.errors import (
    MessageNotFoundError,
    SessionError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.inputs import whole_number
from agent_cores.session.models.message import NewMessage
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent_cores.session.client.pool import Reply
    from agent_cores.session.models.message import Message, NewContent
    from agent_cores.session.models.new_session import NewSession
    from agent_cores.session.models.session import Page, Session

_ONE = {"messages/0/id": "message_id", "messages/0": ""}


class MessageCalls(ConversationCalls):
    """Append, read, update and remove messages."""

    async def add_message(
        self,
        session_id: str,
        user_id: str,
        role: str,
        content: NewContent,
        *,
        message_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        metadata_updates: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Message:
        """Append one message and return it as stored; a missing id is generated."""

        def messages() -> list[Any]:
            given = NewMessage(role, content, message_id, metadata)
            return [arguments.message(given, "")]

        found = await self._send_messages(
            session_id,
            user_id,
            lambda: Request(
                shapes.AppendMessages(
                    messages=messages(),
                    **_updates(context_updates, context_removals, metadata_updates),
                    **guards(expected_last_seq, turn),
                ),
                headers=arguments.expected(expected_revision, expected_version),
            ),
            _ONE,
        )
        return found[0]

    async def add_messages(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        *,
        create: bool | NewSession = False,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        metadata_updates: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Append messages in one write, all or nothing; return them as stored."""

        def request() -> Request:
            body = shapes.AppendMessages(
                messages=arguments.messages(messages),
                create=arguments.create(create),
                **_updates(context_updates, context_removals, metadata_updates),
                **guards(expected_last_seq, turn),
            )
            return Request(body, headers=arguments.expected(expected_revision, expected_version))

        if create is not False:
            request()  # raises here: a missing session is no reason to raise something else
        names = {"create/ttl_seconds": "create/ttl_hours"}
        return await self._send_messages(
            session_id, user_id, request, names, creates=create is not False
        )

    async def _send_messages(
        self,
        session_id: str,
        user_id: str,
        request: Callable[[], Request],
        names: Mapping[str, str],
        *,
        creates: bool = False,
    ) -> list[Message]:
        reply = await self._ask_repeatably(
            "POST", session_id, user_id, "/messages", request, names=names, creates=creates
        )
        return read_appended(reply)

    async def _ask_repeatably(
        self,
        method: str,
        session_id: str,
        user_id: str,
        tail: str,
        request: Callable[[], Request],
        *,
        names: Mapping[str, str] = NO_NAMES,
        creates: bool = False,
    ) -> Reply:
        """Send a write whose repetition the service recognises; see :class:`RetryState`.

        ``creates``: the session may be missing.
        """
        retry_state = self._shared.versions.retry_state(session_id)
        try:
            return await self._ask(
                method,
                session_id,
                user_id,
                tail,
                request,
                names=names,
                repeatable=True,
                retry_state=retry_state,
            )
        except SessionError as refusal:
            is_gone = isinstance(refusal, SessionNotFoundError) and not creates
            if is_gone or not retry_state.lost or isinstance(refusal, StorageUnavailableError):
                raise
            detail = "the response to the write was lost, and it may have been carried out"
            raise StorageUnavailableError(detail, outcome_unknown=True) from refusal

    async def replace_messages(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        *,
        after_seq: int,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        metadata_updates: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Remove every message after ``after_seq`` and append these, in one write.

        A lost response is retried only with ``expected_last_seq``, which makes a repetition
        detectable.
        """

        def request() -> Request:
            body = shapes.ReplaceMessages(
                after_seq=arguments.integer(after_seq, "after_seq"),
                messages=arguments.messages(messages),
                **_updates(context_updates, context_removals, metadata_updates),
                **guards(expected_last_seq, turn),
            )
            return Request(body, headers=arguments.expected(expected_revision, expected_version))

        reply = await self._ask(
            "POST",
            session_id,
            user_id,
            "/replace",
            request,
            repeatable=expected_last_seq is not None,
        )
        return read_appended(reply)

    async def pop_messages(
        self,
        session_id: str,
        user_id: str,
        count: int = 1,
        *,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Remove the last ``count`` messages in one write and return them, oldest first."""
        reply = await self._ask(
            "POST",
            session_id,
            user_id,
            "/pop",
            lambda: Request(
                shapes.PopMessages(
                    count=arguments.integer(count, "count"), **guards(expected_last_seq, turn)
                )
            ),
        )
        return read_popped(reply)

    async def get_session_messages(
        self,
        session_id: str,
        user_id: str,
        limit: int = 50,
        *,
        before_seq: int | None = None,
        after_seq: int | None = None,
    ) -> Page[Message]:
        """Return the latest ``limit`` messages, or those next to a seq, in ascending order."""

        def request() -> Request:
            query: dict[str, Any] = {"limit": arguments.integer(limit, "limit")}
            for field, value in (("before_seq", before_seq), ("after_seq", after_seq)):
                if value is not None:
                    query[field] = arguments.integer(value, field)
            return Request(query=query)

        reply = await self._ask("GET", session_id, user_id, "/messages", request)
        return read_messages(reply)

    async def update_message(
        self,
        session_id: str,
        user_id: str,
        seq: int,
        *,
        content: NewContent | UnsetType = UNSET,
        metadata_updates: Mapping[str, Any] | None = None,
        metadata_removals: Iterable[str] = (),
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Message:
        """Replace the content of one message, or set and remove keys of its metadata, in place.

        Allowed for its author while an editor, and for the owner.
        """

        def request() -> Request:
            fields: dict[str, Any] = {}
            if content is not UNSET:
                fields["content"] = arguments.content(content, "content")
            if metadata_updates is not None:
                given = arguments.plain_mapping(metadata_updates, "metadata_updates")
                fields["metadata_updates"] = given
            if metadata_removals != ():
                fields["metadata_removals"] = arguments.names(
                    metadata_removals, "metadata_removals"
                )
            body = shapes.UpdateMessage(**fields, **guards(expected_last_seq, turn))
            headers = arguments.expected(expected_revision, expected_version)
            return Request(body, headers=headers, tail=f"/messages/{whole_number(seq, 'seq', 1)}")

        try:
            reply = await self._ask_repeatably("PATCH", session_id, user_id, "/messages/0", request)
        except MessageNotFoundError:
            raise MessageNotFoundError(seq) from None
        return read_message(reply)

    async def delete_message(
        self,
        session_id: str,
        user_id: str,
        seq: int,
        *,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Literal[True]:
        """Remove one message. Allowed for its author while an editor, and for the owner."""
        try:
            reply = await self._ask(
                "DELETE",
                session_id,
                user_id,
                "/messages/0",
                lambda: Request(
                    query=arguments.guards(expected_last_seq, turn),
                    tail=f"/messages/{whole_number(seq, 'seq', 1)}",
                ),
            )
        except MessageNotFoundError:
            raise MessageNotFoundError(seq) from None
        read_nothing(reply)
        return True

    async def rewind_session(
        self,
        session_id: str,
        user_id: str,
        to_seq: int,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Session:
        """Remove every message after ``to_seq``; return the resulting header."""
        reply = await self._ask(
            "POST",
            session_id,
            user_id,
            "/rewind",
            lambda: Request(
                shapes.RewindSession(
                    to_seq=arguments.integer(to_seq, "to_seq"),
                    **guards(expected_last_seq, turn),
                ),
                headers=arguments.expected(expected_revision, expected_version),
            ),
        )
        return self._read(reply)


def _updates(
    updates: Mapping[str, Any] | None,
    removals: Iterable[str],
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the request fields that change the context and the session's metadata."""
    fields: dict[str, Any] = {}
    if metadata is not None:
        fields["metadata_updates"] = arguments.mapping(metadata, "metadata_updates")
    if updates is not None:
        fields["context_updates"] = arguments.mapping(updates, "context_updates", by_key=True)
    if removals != ():
        fields["context_removals"] = arguments.names(removals, "context_removals")
    return fields


def guards(expected_last_seq: int | None, turn: str | None) -> dict[str, Any]:
    """Return the request fields for the conditions of a write."""
    fields: dict[str, Any] = {}
    if expected_last_seq is not None:
        fields["expected_last_seq"] = arguments.integer(expected_last_seq, "expected_last_seq")
    if turn is not None:
        fields["turn"] = arguments.raw(turn, "turn")
    return fields
