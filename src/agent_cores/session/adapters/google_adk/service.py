"""``ADKSessionService``: the sessions of Google's Agent Development Kit, on a ``SessionManager``.

An ADK session is one of ours, owned by its user; its events are messages, its state is the context.
What an app or a user shares between sessions (``app:``, ``user:``) is the context of a session of
its own. The same id of two users, or in two apps, is two sessions.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Self

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError as AdkNotFoundError
from google.adk.sessions.base_session_service import (
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)

from agent_cores.session.adapters.google_adk.events import (
    STEP,
    adk_session,
    check_time,
    is_adk_session,
    last_event_id,
    last_update_time,
    latest_events,
    message_of,
    metadata_of,
    of_a_taken_id,
    shows_state,
    without_temporary_state,
)
from agent_cores.session.adapters.google_adk.state import (
    KnownIds,
    SharedState,
    context_of,
    divided,
    with_prefixes,
)
from agent_cores.session.adapters.google_adk.turns import Turns
from agent_cores.session.adapters.google_adk.uri import of_uri
from agent_cores.session.adapters.ids import user_id_of
from agent_cores.session.adapters.layouts.google_adk import app_tag, session_id_of
from agent_cores.session.adapters.owner import Acting, Store, manager_of
from agent_cores.session.adapters.reading import sessions_tagged
from agent_cores.session.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    LastSeqMismatchError,
    SessionExistsError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from google.adk.events.event import Event
    from google.adk.sessions.session import Session as AdkSession

    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session
    from agent_cores.session.verbs.listing import Included

_STALE = (
    "The session has been modified in storage since it was loaded. Please reload the session"
    " before appending."
)
_FOREIGN_MARKER = (
    "The session object comes from another service, and the session may have been modified in"
    " storage since. Please reload the session before appending."
)
_MARKER = re.compile(r"[0-9]{1,18}", re.ASCII)
_LISTED = 100
_INCLUDED: tuple[Included, ...] = ("context", "last_message")
_ALL = 2**62


class ADKSessionService(BaseSessionService):
    """Keep ADK's sessions for all apps and users.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. Each session belongs to its ``user_id``. ``operator`` is the name under which
    this service lists the sessions of all users; these calls are in the audit log.
    ``ttl_hours=None`` keeps sessions until they are deleted. ``uri`` and ``agents_dir`` are what
    ``adk`` passes to every service; the latter has no meaning here.
    """

    def __init__(
        self,
        store: Store = None,
        *,
        operator: str = "google-adk",
        ttl_hours: float | None = None,
        uri: str | None = None,
        agents_dir: str | None = None,  # noqa: ARG002 - adk's own
    ) -> None:
        if uri is not None:
            if store is not None:
                raise ConfigurationError("give store or uri=, not both")
            store, ttl_hours = of_uri(uri, ttl_hours)
        self._manager = manager_of(store)
        self._operating = self._manager.as_operator(user_id_of(operator))
        self._ttl_hours = ttl_hours
        self._shared = SharedState(self._manager)
        self._own = KnownIds()
        self._turns = Turns()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> AdkSession:
        """Create a session; ``AlreadyExistsError`` if the user has one of that id in the app.

        What an app or a user shares is written before the session. If the call fails in between
        there is no session, and the call can be repeated.
        """
        name = (session_id or "").strip() or new_id()
        delta = divided(state or {})
        acting, ours = self._acting(user_id), session_id_of(app_name, user_id, name)
        exists = AlreadyExistsError(f"Session with id {name} already exists.")
        if delta.app or delta.user:
            if await _read(acting, ours, 0) is not None:
                raise exists
            await self._shared.write(app_name, user_id, delta)
        try:
            await acting.verbs.create_session(
                acting.user_id,
                metadata_of(app_name, user_id, name),
                session_id=ours,
                context=context_of(delta.own),
                ttl_hours=self._ttl_hours,
            )
        except SessionExistsError as error:
            raise exists from error
        created = await self.get_session(app_name=app_name, user_id=user_id, session_id=name)
        if created is None:
            raise _not_found(name)
        return created

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> AdkSession | None:
        """Return a session with its events and the whole state; ``None`` if there is none."""
        acting, ours = self._acting(user_id), session_id_of(app_name, user_id, session_id)
        most = config.num_recent_events if config else None
        after = config.after_timestamp if config else None
        first = STEP if most is None else min(max(most, 1), STEP)
        found, shared = await asyncio.gather(
            self._read_own(acting, ours, first), self._shared.of(app_name, user_id)
        )
        if found is None:
            return None
        session = adk_session(found, shared)
        try:
            session.events = await latest_events(
                acting, found, _ALL if most is None else most, after
            )
        except SessionNotFoundError:  # deleted just now
            return None
        return session

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions of a user, or of all users, without events, oldest update first.

        Those of all users are listed as operator.
        """
        tag = app_tag(app_name)
        if user_id is None:
            listed = self._listed_of_all(tag)
        else:
            listed = sessions_tagged(self._acting(user_id), tag, include=_INCLUDED)
        app = await self._shared.of_app(app_name)
        shared: dict[str, dict[str, Any]] = {}
        sessions: list[AdkSession] = []
        async for found in listed:
            if not is_adk_session(found.metadata):
                continue
            owner: str = found.metadata.attributes["adk_user"]
            if owner not in shared:
                shared[owner] = with_prefixes(app, await self._shared.of_user(app_name, owner))
            sessions.append(adk_session(found, shared[owner]))
        sessions.sort(key=lambda each: (each.last_update_time, each.user_id, each.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session. One that is not there, or is not the user's, is ignored."""
        acting, ours = self._acting(user_id), session_id_of(app_name, user_id, session_id)
        self._own.discard(ours)
        try:
            await acting.verbs.delete_session(ours, acting.user_id)
        except SessionNotFoundError:
            return
        except AccessDeniedError:
            found = await _read(acting, ours, 0)
            if found is not None and found.metadata.owner_id == acting.user_id:
                raise  # the key of a service lacks a right

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what all sessions of a user in an app share, without the prefix ``user:``."""
        return await self._shared.of_user(app_name, user_id)

    async def append_event(self, session: AdkSession, event: Event) -> Event:
        """Append an event and its state delta in one write.

        Raises ``StaleSessionError`` if somebody else has appended since the session was loaded.
        What an app or a user shares is written after the event; the session object changes after
        that. If the call fails in between, repeat it with the same event: it completes what is
        missing, and stores nothing twice. Concurrent calls with one session object, which agents
        that run in parallel make, are carried out one after the other.
        """
        if event.partial:
            return event
        check_time(event)
        ours = session_id_of(session.app_name, session.user_id, session.id)
        async with self._turns.of(ours):
            return await self._append_in_turn(ours, session, event)

    async def close(self) -> None:
        """Do nothing: whoever made the manager shuts it down."""

    async def __aenter__(self) -> Self:
        """Return the service, which ADK's own one in a database also does."""
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Close the service."""
        await self.close()

    async def _append_in_turn(self, ours: str, session: AdkSession, event: Event) -> Event:
        stored_event = without_temporary_state(event)
        delta = divided(stored_event.actions.state_delta)
        acting = self._acting(session.user_id)
        known = await self._known(acting, ours, session)
        await self._shared.open(session.app_name, session.user_id, delta)
        try:
            stored = await _append(acting, ours, message_of(stored_event), delta.own, known)
        except LastSeqMismatchError as error:
            raise StaleSessionError(_STALE) from error
        except SessionNotFoundError as error:
            raise _not_found(session.id) from error
        if stored.seq > known + 1:  # others delivered it after events that are unknown here
            raise StaleSessionError(_STALE)
        if stored.seq < known or (stored.seq == known and shows_state(session, stored_event)):
            return self._trim_temp_delta_state(event)  # it was delivered before
        await self._shared.write(session.app_name, session.user_id, delta)
        return self._show(session, event, stored.seq, repeated=stored.seq == known)

    def _show(self, session: AdkSession, event: Event, seq: int, *, repeated: bool) -> Event:
        """Change the session object as the store has changed."""
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        session._storage_update_marker = str(seq)  # noqa: SLF001 - ADK's own protocol
        session.last_update_time = event.timestamp
        if repeated and session.events and session.events[-1].id == event.id:
            self._update_session_state(session, event)
            return event
        return self._commit_event_to_session(session, event)

    async def _known(self, acting: Acting, session_id: str, session: AdkSession) -> int:
        """Return the last seq that a session object knows; check that the session is the user's."""
        marker = session._storage_update_marker  # noqa: SLF001 - ADK's own protocol
        if marker is not None and not _MARKER.fullmatch(marker):
            raise StaleSessionError(_FOREIGN_MARKER)
        if marker is not None and session_id in self._own:
            return int(marker)
        found = await self._read_own(acting, session_id, 1)
        if found is None:
            raise _not_found(session.id)
        if marker is not None:
            return int(marker)
        if last_update_time(found) > session.last_update_time:
            newest = session.events[-1].id if session.events else None
            if last_event_id(found) != newest:
                raise StaleSessionError(_STALE)
        return found.metadata.last_seq

    async def _read_own(self, acting: Acting, session_id: str, limit: int) -> Session | None:
        """Return the session with its latest messages; ``None`` unless it is the user's."""
        found = await _read(acting, session_id, limit)
        if found is None or not is_adk_session(found.metadata):
            self._own.discard(session_id)
            return None
        self._own.add(session_id)
        return found

    async def _listed_of_all(self, tag: str) -> AsyncIterator[Session]:
        """Yield the sessions of all users with context and last message, as operator."""
        cursor: str | None = None
        while True:
            page = await self._operating.list_sessions(
                tags=[tag], include=_INCLUDED, limit=_LISTED, cursor=cursor
            )
            for found in page:
                yield found
            cursor = page.next_cursor
            if cursor is None:
                return

    def _acting(self, user_id: str) -> Acting:
        return Acting(self._manager, user_id_of(user_id))


def service_of(uri: str, **options: Any) -> ADKSessionService:  # noqa: ANN401 - adk's own
    """Return the service for ``--session_service_uri=agentsessions://…``."""
    return ADKSessionService(uri=uri, **options)


def register() -> None:
    """Make ``adk web``, ``adk api_server`` and ``adk run`` know ``agentsessions://``.

    Call it in ``services.py`` of the folder of agents.
    """
    from google.adk.cli.service_registry import get_service_registry  # noqa: PLC0415 - adk's command

    get_service_registry().register_session_service("agentsessions", service_of)


async def _read(acting: Acting, session_id: str, limit: int) -> Session | None:
    """Return a session with its latest messages; ``None`` if the user may read none."""
    try:
        return await acting.verbs.get_session(session_id, acting.user_id, message_limit=limit)
    except SessionNotFoundError:
        return None


async def _append(
    acting: Acting,
    session_id: str,
    message: Mapping[str, Any],
    state: Mapping[str, Any],
    known: int,
) -> Message:
    """Append a message where the session is as known; one that is stored is returned as it is."""
    verbs, user_id = acting
    options: dict[str, Any] = {
        "context_updates": context_of(state) if state else None,
        "expected_last_seq": known,
    }
    try:
        return await verbs.add_message(session_id, user_id, **message, **options)
    except LastSeqMismatchError:
        raise
    except ConflictError:
        if not await verbs.get_messages(session_id, user_id, ids=[message["message_id"]]):
            raise
    return await verbs.add_message(session_id, user_id, **of_a_taken_id(message), **options)


def _not_found(name: str) -> AdkNotFoundError:
    return AdkNotFoundError(f"Session {name} not found.")
