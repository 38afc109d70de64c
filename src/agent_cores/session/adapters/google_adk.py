"""``ADKSessionService``: the sessions of Google's Agent Development Kit, on a ``SessionManager``.

An ADK session is one of ours, owned by its user; its events are messages, its state is the context.
What an app or a user shares between sessions (``app:``, ``user:``) is the context of a session of
its own. The same id of two users, or in two apps, is two sessions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError as AdkNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import (
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)
from google.adk.sessions.session import Session as AdkSession
from google.adk.sessions.state import State
from pydantic_core import to_jsonable_python

from agent_cores.session.adapters.ids import id_of, id_of_parts, user_id_of
from agent_cores.session.adapters.owner import Acting, Store, manager_of
from agent_cores.session.adapters.reading import latest_messages
from agent_cores.session.errors import (
    ConflictError,
    LastSeqMismatchError,
    SessionExistsError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import new_id

try:
    from google.adk.errors import StaleSessionError
except ImportError:  # releases before it raised the base class

    class StaleSessionError(ValueError):  # type: ignore[no-redef]
        """A session object is older than what is stored."""


if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session

SCHEME = "agentsessions://"
_STALE = (
    "The session has been modified in storage since it was loaded. Please reload the session"
    " before appending."
)
_KIND = "adk"
_LISTED = 100
_ALL = 2**62
_STEP, _PAGE = 100, 1_000


class ADKSessionService(BaseSessionService):
    """Keep ADK's sessions for all apps and users.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. Each session belongs to its ``user_id``. ``operator`` is the name under which
    this service keeps ``app:`` state and lists sessions; these calls are in the audit log.
    ``ttl_hours=None`` keeps sessions until they are deleted. ``uri`` is what ``adk`` passes on.
    """

    def __init__(
        self,
        store: Store = None,
        *,
        operator: str = "google-adk",
        ttl_hours: float | None = None,
        uri: str | None = None,
        **_: Any,  # noqa: ANN401 - what adk passes to every service, such as agents_dir
    ) -> None:
        if uri is not None:
            store, ttl_hours = _from_uri(uri, ttl_hours)
        self._manager = manager_of(store)
        self._operator = user_id_of(operator)
        self._operating = self._manager.as_operator(self._operator)
        self._ttl_hours = ttl_hours
        self._opened: set[str] = set()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> AdkSession:
        """Create a session; ``AlreadyExistsError`` if the user has one of that id in the app."""
        name = (session_id or "").strip() or new_id()
        app, user, own = _divided(state or {})
        metadata = {
            "tags": [_app_tag(app_name)],
            "adk_app": app_name,
            "adk_user": user_id,
            "adk_session": name,
        }
        verbs, owner = self._acting(user_id)
        try:
            await verbs.create_session(
                owner,
                metadata,
                session_id=_session_id(app_name, user_id, name),
                context=_context(own),
                ttl_hours=self._ttl_hours,
            )
        except SessionExistsError as error:
            raise AlreadyExistsError(f"Session with id {name} already exists.") from error
        await self._share(app_name, user_id, app, user)
        created = await self.get_session(app_name=app_name, user_id=user_id, session_id=name)
        if created is None:
            raise AdkNotFoundError(f"Session {name} not found.")
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
        name = session_id.strip()
        acting, ours = self._acting(user_id), _session_id(app_name, user_id, name)
        most = config.num_recent_events if config else None
        after = config.after_timestamp if config else None
        first = _STEP if most is None else min(max(most, 1), _STEP)
        try:
            found, shared = await asyncio.gather(
                acting.verbs.get_session(ours, acting.user_id, message_limit=first),
                self._shared(app_name, user_id),
            )
            if found.metadata.owner_id != acting.user_id:
                return None
            messages = await _messages(acting, found, _ALL if most is None else most, after)
        except SessionNotFoundError:
            return None
        session = _session(found, {**_values(found.context), **shared})
        session.events = [_event(message) for message in messages]
        return session

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions of a user, or of all users, without events, oldest update first."""
        sessions: list[AdkSession] = []
        shared: dict[str, dict[str, Any]] = {}
        cursor: str | None = None
        while True:
            page = await self._operating.list_sessions(
                owner_id=None if user_id is None else user_id_of(user_id),
                tags=[_app_tag(app_name)],
                include=("context", "last_message"),
                limit=_LISTED,
                cursor=cursor,
            )
            for found in page:
                owner = found.metadata.attributes["adk_user"]
                if owner not in shared:
                    shared[owner] = await self._shared(app_name, owner)
                sessions.append(_session(found, {**_values(found.context), **shared[owner]}))
            cursor = page.next_cursor
            if cursor is None:
                break
        sessions.sort(key=lambda each: (each.last_update_time, each.user_id, each.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session; one that is not there is ignored."""
        verbs, owner = self._acting(user_id)
        try:
            await verbs.delete_session(_session_id(app_name, user_id, session_id.strip()), owner)
        except SessionNotFoundError:
            return

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what all sessions of a user in an app share, without the prefix ``user:``."""
        return await self._state(self._acting(user_id), _user_state_id(app_name, user_id))

    async def append_event(self, session: AdkSession, event: Event) -> Event:
        """Append an event and its state delta in one write.

        Raises ``StaleSessionError`` if somebody else has appended since the session was loaded.
        What an app or a user shares is written after the event.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        app, user, own = _divided(event.actions.state_delta if event.actions else {})
        known = await self._known(session)
        try:
            stored = await self._append(session, event, own, known)
        except LastSeqMismatchError as error:
            raise StaleSessionError(_STALE) from error
        except SessionNotFoundError as error:
            raise AdkNotFoundError(f"Session {session.id} not found.") from error
        if stored.seq <= known:  # delivered before
            return event
        session._storage_update_marker = str(stored.seq)  # noqa: SLF001 - ADK's own protocol
        session.last_update_time = event.timestamp
        await self._share(session.app_name, session.user_id, app, user)
        return self._commit_event_to_session(session, event)

    async def close(self) -> None:
        """Do nothing: whoever made the manager shuts it down."""

    async def _append(
        self, session: AdkSession, event: Event, state: Mapping[str, Any], known: int
    ) -> Message:
        verbs, owner = self._acting(session.user_id)
        ours = _session_id(session.app_name, session.user_id, session.id)
        message: dict[str, Any] = {
            "id": id_of(event.id),
            "role": id_of(event.author or "event"),
            "content": msgspec.Raw(event.model_dump_json(exclude_none=True).encode()),
        }
        options: dict[str, Any] = {"context_updates": _context(state), "expected_last_seq": known}
        try:
            [stored] = await verbs.add_messages(ours, owner, [message], **options)
        except LastSeqMismatchError:
            raise
        except ConflictError:  # another event has this id: ADK allows it
            del message["id"]
            [stored] = await verbs.add_messages(ours, owner, [message], **options)
        return stored

    async def _known(self, session: AdkSession) -> int:
        """Return the last seq that a session object knows."""
        marker = session._storage_update_marker  # noqa: SLF001 - ADK's own protocol
        if marker is not None:
            return int(marker)
        stored = await self.get_session(
            app_name=session.app_name,
            user_id=session.user_id,
            session_id=session.id,
            config=GetSessionConfig(num_recent_events=1),
        )
        if stored is None:
            raise AdkNotFoundError(f"Session {session.id} not found.")
        if stored.last_update_time > session.last_update_time:
            newest = session.events[-1].id if session.events else None
            if [event.id for event in stored.events] != [newest]:
                raise StaleSessionError(_STALE)
        return int(stored._storage_update_marker or 0)  # noqa: SLF001 - ADK's own protocol

    def _acting(self, user_id: str) -> Acting:
        return Acting(self._manager, user_id_of(user_id))

    async def _shared(self, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what the app and the user share, with prefixes."""
        app, user = await asyncio.gather(
            self._state(Acting(self._operating, self._operator), _app_state_id(app_name)),
            self.get_user_state(app_name=app_name, user_id=user_id),
        )
        prefixed = {f"{State.APP_PREFIX}{key}": value for key, value in app.items()}
        return prefixed | {f"{State.USER_PREFIX}{key}": value for key, value in user.items()}

    async def _state(self, acting: Acting, session_id: str) -> dict[str, Any]:
        try:
            found = await acting.verbs.get_session(session_id, acting.user_id, message_limit=0)
        except SessionNotFoundError:
            return {}
        return _values(found.context) if found.metadata.owner_id == acting.user_id else {}

    async def _share(
        self, app_name: str, user_id: str, app: Mapping[str, Any], user: Mapping[str, Any]
    ) -> None:
        if app:
            acting = Acting(self._operating, self._operator)
            await self._update(acting, _app_state_id(app_name), app)
        if user:
            await self._update(self._acting(user_id), _user_state_id(app_name, user_id), user)

    async def _update(self, acting: Acting, session_id: str, values: Mapping[str, Any]) -> None:
        """Set keys of a state; writers of different keys never undo each other."""
        verbs, owner = acting
        while True:
            if session_id not in self._opened:
                await verbs.open_session(session_id, owner, ttl_hours=None)
                self._opened.add(session_id)
            try:
                await verbs.update_session(session_id, owner, _context(values))
            except SessionNotFoundError:  # erased since
                self._opened.discard(session_id)
                continue
            return


def service_of(uri: str, **options: Any) -> ADKSessionService:  # noqa: ANN401 - adk's own
    """Return the service for ``--session_service_uri=agentsessions://…``."""
    return ADKSessionService(uri=uri, **options)


def register() -> None:
    """Make ``adk web``, ``adk api_server`` and ``adk run`` know ``agentsessions://``.

    Call it in ``services.py`` of the folder of agents.
    """
    from google.adk.cli.service_registry import get_service_registry  # noqa: PLC0415 - adk's command

    get_service_registry().register_session_service("agentsessions", service_of)


def _from_uri(uri: str, ttl_hours: float | None) -> tuple[str | None, float | None]:
    rest = uri.removeprefix(SCHEME)
    if not rest.startswith("?"):
        return rest or None, ttl_hours
    given = parse_qs(rest[1:], strict_parsing=True)
    unknown = given.keys() - {"storage", "ttl_hours"}
    if unknown:
        problem = f"{SCHEME} takes storage and ttl_hours, not {', '.join(sorted(unknown))}"
        raise ValueError(problem)
    hours = given.get("ttl_hours")
    return given.get("storage", [None])[0], ttl_hours if hours is None else float(hours[0])


async def _messages(
    acting: Acting, found: Session, most: int, after: float | None
) -> list[Message]:
    """Return the latest messages, as far back as the time; those that were read are used."""
    read = list(found.messages or ())
    first_seq = read[0].seq if read else 0
    while most > len(read) and first_seq > 1 and (after is None or _time(read[0]) >= after):
        count = min(most - len(read), _PAGE if after is None else _STEP)
        earlier = await latest_messages(acting, found.id, count, before_seq=first_seq)
        if not earlier:
            break
        read[:0] = earlier
        first_seq = earlier[0].seq
    chosen = read[len(read) - min(most, len(read)) :]
    if after is not None:
        old = [place for place, message in enumerate(chosen) if _time(message) < after]
        chosen = chosen[old[-1] + 1 if old else 0 :]
    return chosen


def _session(found: Session, state: dict[str, Any]) -> AdkSession:
    """Return ADK's session without events; the time of its last event is that of the session."""
    names, read = found.metadata.attributes, found.messages
    session = AdkSession(
        app_name=names["adk_app"],
        user_id=names["adk_user"],
        id=names["adk_session"],
        state=state,
        last_update_time=_time(read[-1]) if read else found.metadata.created_at.timestamp(),
    )
    session._storage_update_marker = str(found.metadata.last_seq)  # noqa: SLF001 - ADK's own
    return session


def _event(message: Message) -> Event:
    return Event.model_validate_json(msgspec.json.encode(message.content))


def _time(message: Message) -> float:
    content: Any = message.content
    return float(content["timestamp"])


def _divided(
    state: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the parts of app, user and session; what is temporary belongs to none."""
    app: dict[str, Any] = {}
    user: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in state.items():
        if key.startswith(State.APP_PREFIX):
            app[key.removeprefix(State.APP_PREFIX)] = value
        elif key.startswith(State.USER_PREFIX):
            user[key.removeprefix(State.USER_PREFIX)] = value
        elif not key.startswith(State.TEMP_PREFIX):
            own[key] = value
    return app, user, own


def _context(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return state as context; keys of state may be longer, or empty."""
    values = to_jsonable_python(dict(state), fallback=str)
    return {id_of(key): {"key": key, "value": value} for key, value in values.items()}


def _values(context: Mapping[str, Any] | None) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in (context or {}).values()}


def _session_id(app_name: str, user_id: str, name: str) -> str:
    return id_of_parts(_KIND, app_name, user_id, name)


def _user_state_id(app_name: str, user_id: str) -> str:
    return id_of_parts(f"{_KIND}-user", app_name, user_id)


def _app_state_id(app_name: str) -> str:
    return id_of_parts(f"{_KIND}-app", app_name)


def _app_tag(app_name: str) -> str:
    return id_of_parts(_KIND, app_name)
