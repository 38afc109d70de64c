"""The client's verbs on whole sessions."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from agent_cores.session.client import arguments
from agent_cores.session.client.calls import FORK, Calls, Request
from agent_cores.session.client.reading import read_nothing, read_session, read_sessions
from agent_cores.session.errors import (
    InvalidInputError,
    SessionError,
    SessionExpiredError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.inputs import DEFAULT_TTL_HOURS, flag
from agent_cores.session.models.session import AccessRole, RenewOn
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from msgspec import UnsetType

    from agent_cores.session.client.pool import Reply
    from agent_cores.session.models.message import NewMessage
    from agent_cores.session.models.session import Page, Session, SessionStatus
    from agent_cores.session.verbs.listing import Included

_CREATED = {
    "id": "session_id",
    "ttl_seconds": "ttl_hours",
    "max_lifetime_seconds": "max_lifetime_hours",
}


class ConversationCalls(Calls):
    """Create, read, update, list, archive, renew, fork and delete."""

    async def create_session(
        self,
        user_id: str,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
        *,
        session_id: str | None = None,
        title: str | None = None,
        context: Mapping[str, Any] | None = None,
        messages: Sequence[NewMessage | Mapping[str, Any]] = (),
        public: bool = False,
        max_lifetime_hours: float | None = None,
        renew_on: RenewOn | str = RenewOn.WRITE,
        if_exists: Literal["error", "return", "return_shared"] = "error",
    ) -> str:
        """Create a session. ``session_id`` requires a key that may act for others."""
        headers = await self._acting(user_id, "user_id")
        given = shapes.CreateSession(
            **arguments.new_session(
                {
                    "metadata": metadata,
                    "public": public,
                    "max_lifetime_hours": max_lifetime_hours,
                    "renew_on": renew_on,
                    "ttl_hours": ttl_hours,
                    "title": title,
                }
            ),
            context=arguments.mapping(context, "context", by_key=True),
            messages=arguments.messages(messages),
            if_exists=arguments.raw(if_exists, "if_exists"),
            id=arguments.optional(session_id, "session_id"),
        )
        if if_exists == "return_shared":  # which depends on the caller's groups
            headers |= await self._groups(user_id)
        headers["Idempotency-Key"] = str(uuid.uuid4())
        return (await self._create(given, headers)).id

    async def open_session(
        self,
        session_id: str,
        user_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
        title: str | None = None,
        context: Mapping[str, Any] | None = None,
        messages: Sequence[NewMessage | Mapping[str, Any]] = (),
        public: bool = False,
        max_lifetime_hours: float | None = None,
        renew_on: RenewOn | str = RenewOn.WRITE,
        shared: bool = False,
    ) -> Session:
        """Return the session's header; create it if it is missing. One request.

        This requires a key that may act for others.
        """
        headers = await self._acting(user_id, "user_id")
        shared = flag(shared, "shared")
        given = shapes.CreateSession(
            **arguments.new_session(
                {
                    "metadata": metadata,
                    "public": public,
                    "max_lifetime_hours": max_lifetime_hours,
                    "renew_on": renew_on,
                    "ttl_hours": ttl_hours,
                    "title": title,
                }
            ),
            context=arguments.mapping(context, "context", by_key=True),
            messages=arguments.messages(messages),
            if_exists="return_shared" if shared else "return",
            id=arguments.text(session_id, "session_id"),
        )
        if shared:
            headers |= await self._groups(user_id)
        return await self._create(given, headers)

    async def _create(self, given: shapes.CreateSession, headers: dict[str, str]) -> Session:
        request = Request(given, headers=headers)
        reply = await self._send("POST", "/v1/sessions", request, names=_CREATED, repeatable=True)
        created = self._read(reply)
        self._shared.versions.note(created.id, created.version)
        return created

    async def get_session(
        self, session_id: str, user_id: str, *, message_limit: int = 50
    ) -> Session:
        """Return the session with its latest messages, and the context if that may be read."""

        def request() -> Request:
            limit = arguments.integer(message_limit, "message_limit")
            return Request(query={"message_limit": limit})

        session = self._read(await self._ask("GET", session_id, user_id, "", request))
        if session.access_role is AccessRole.VIEWER:
            groups = await self._groups(user_id)
            if groups:  # they may make the caller an editor, who can read the context too
                reply = await self._ask(
                    "GET",
                    session_id,
                    user_id,
                    "",
                    lambda: msgspec.structs.replace(request(), headers=groups),
                )
                return self._read(reply)
        return session

    async def update_session(
        self,
        session_id: str,
        user_id: str,
        context_updates: Mapping[str, Any] | None = None,
        metadata_updates: Mapping[str, Any] | None = None,
        *,
        context_removals: Iterable[str] = (),
        expected_revision: int | None = None,
        expected_version: str | None = None,
    ) -> Session:
        """Set context and metadata keys, remove context keys; return the resulting header."""
        reply = await self._ask(
            "PATCH",
            session_id,
            user_id,
            "",
            lambda: Request(
                shapes.UpdateSession(
                    context_updates=arguments.mapping(
                        context_updates, "context_updates", by_key=True
                    ),
                    metadata_updates=arguments.mapping(metadata_updates, "metadata_updates"),
                    context_removals=arguments.names(context_removals, "context_removals"),
                ),
                headers=arguments.expected(expected_revision, expected_version),
            ),
        )
        return self._read(reply)

    async def list_user_sessions(
        self,
        user_id: str,
        status: SessionStatus | str | None = None,
        limit: int = 10,
        offset: int = 0,
        *,
        tags: Sequence[str] | None = None,
        shared: bool = False,
        metadata: Mapping[str, Any] | None = None,
        include: Iterable[Included] = (),
        cursor: str | None = None,
    ) -> Page[Session]:
        """Return headers of the user's own sessions, or of those shared with the user.

        ``include`` adds contexts and last messages.
        """
        headers = await self._acting(user_id, "user_id")
        if not isinstance(shared, bool):
            raise InvalidInputError("shared", f"True or False, not {type(shared).__name__}")
        query: dict[str, Any] = {
            "status": None if status is None else arguments.text(status, "status"),
            "limit": arguments.integer(limit, "limit"),
            "offset": arguments.integer(offset, "offset") or None,
            "shared": "true" if shared else None,
            "include": arguments.texts(include, "include") or None,
            "cursor": None if cursor is None else arguments.text(cursor, "cursor"),
        }
        if tags is not None:
            query["tag"] = arguments.texts(tags, "tags")
        if metadata is not None:
            query["metadata"] = arguments.json_text(metadata, "metadata")
        if shared:
            headers |= await self._groups(user_id)
        request = Request(query=query, headers=headers)
        reply = await self._send("GET", "/v1/sessions", request, names={"tag": "tags"})
        return read_sessions(reply, self._namespace)

    async def delete_session(
        self,
        session_id: str,
        user_id: str,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Literal[True]:
        """Delete the session with everything in it. Owner only.

        A lost response is not retried: another session may have taken the id since. If the session
        is gone, the delete has succeeded.
        """
        try:
            reply = await self._ask(
                "DELETE",
                session_id,
                user_id,
                "",
                lambda: Request(
                    query=arguments.guards(expected_last_seq, turn),
                    headers=arguments.expected(expected_revision, expected_version),
                ),
            )
            read_nothing(reply)
        except StorageUnavailableError as error:
            if not error.outcome_unknown or not await self._is_gone(session_id, user_id):
                raise
        return True

    async def _is_gone(self, session_id: str, user_id: str) -> bool:
        """Whether the session's former owner can no longer see it."""
        try:
            await self._ask("GET", session_id, user_id, "", Request)
        except SessionExpiredError:
            return False  # it expired, which does not prove that it was deleted
        except SessionNotFoundError:
            return True
        except SessionError:
            return False
        return False

    async def archive_session(self, session_id: str, user_id: str) -> Session:
        """Make the session read-only and hide it from the default listing."""
        reply = await self._ask("POST", session_id, user_id, "/archive", Request, repeatable=True)
        return self._read(reply)

    async def unarchive_session(self, session_id: str, user_id: str) -> Session:
        """Make an archived session active again."""
        reply = await self._ask("POST", session_id, user_id, "/unarchive", Request, repeatable=True)
        return self._read(reply)

    async def renew_session(
        self, session_id: str, user_id: str, *, ttl_hours: float | UnsetType | None = UNSET
    ) -> Session:
        """Restart the idle time; ``ttl_hours``, if given, replaces it."""

        def request() -> Request:
            return Request(shapes.RenewSession(ttl_seconds=arguments.renewed_ttl(ttl_hours)))

        names = {"ttl_seconds": "ttl_hours"}
        reply = await self._ask("POST", session_id, user_id, "/renew", request, names=names)
        return self._read(reply)

    async def fork_session(
        self,
        session_id: str,
        user_id: str,
        *,
        new_session_id: str | None = None,
        up_to_seq: int | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
    ) -> str:
        """Copy a session that the caller may read into a new one of their own; return its id."""

        def request() -> Request:
            body = shapes.ForkSession(
                metadata=arguments.mapping(metadata, "metadata"),
                ttl_seconds=arguments.ttl(ttl_hours),
                id=arguments.optional(new_session_id, "new_session_id"),
                up_to_seq=None if up_to_seq is None else arguments.integer(up_to_seq, "up_to_seq"),
                title=arguments.optional(title, "title"),
            )
            return Request(body, headers={"Idempotency-Key": str(uuid.uuid4())})

        names = {"id": "new_session_id", "ttl_seconds": "ttl_hours"}
        reply = await self._ask(
            "POST",
            session_id,
            user_id,
            FORK,
            request,
            names=names,
            repeatable=True,
            groups_tell=True,
        )
        forked = self._read(reply)
        self._shared.versions.note(forked.id, forked.version)
        return forked.id

    def _read(self, reply: Reply) -> Session:
        return read_session(reply, self._namespace)

    @property
    def _namespace(self) -> str:
        me = self._shared.me
        return "" if me is None else me.namespace
