"""The state of ADK's sessions: which part belongs to whom, and where the shared parts are kept.

What the sessions of an app share (``app:``), and those of a user in an app (``user:``), is the
context of a session of its own. It is trusted only if its owner made it: ids can be guessed, so
somebody else may have made it, shared it, even given it away. The proof is its first message, which
nobody but its author can write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from google.adk.sessions.state import State
from pydantic_core import to_jsonable_python

from agent_cores.session.adapters.ids import user_id_of
from agent_cores.session.adapters.layouts.google_adk import (
    APP_OWNER,
    MARK,
    app_state_id,
    entries_of,
    user_state_id,
)
from agent_cores.session.errors import SessionExistsError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session
    from agent_cores.session.session_manager import SessionManager

_MOST_KNOWN = 10_000


class Delta(NamedTuple):
    """Changes of state, by whom they belong to, without prefixes."""

    app: dict[str, Any]
    user: dict[str, Any]
    own: dict[str, Any]


class KnownIds:
    """The sessions that were seen to be what they should be. It forgets all when it is full."""

    def __init__(self, most: int = _MOST_KNOWN) -> None:
        self._most = most
        self._ids: set[str] = set()

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._ids

    def add(self, session_id: str) -> None:
        """Remember a session."""
        if len(self._ids) >= self._most:
            self._ids.clear()
        self._ids.add(session_id)

    def discard(self, session_id: str) -> None:
        """Forget a session."""
        self._ids.discard(session_id)


class SharedState:
    """The state that the sessions of an app, and those of a user in an app, share."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._opened = KnownIds()

    async def of(self, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what the app and the user share, with prefixes."""
        app, user = await asyncio.gather(self.of_app(app_name), self.of_user(app_name, user_id))
        return with_prefixes(app, user)

    async def of_app(self, app_name: str) -> dict[str, Any]:
        """Return what the app shares, without prefix."""
        return await self._values(app_state_id(app_name), APP_OWNER)

    async def of_user(self, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what the sessions of a user in an app share, without prefix."""
        return await self._values(user_state_id(app_name, user_id), user_id_of(user_id))

    async def open(self, app_name: str, user_id: str, delta: Delta) -> None:
        """Make the sessions that a delta needs, where they are missing.

        Raises ``SessionExistsError`` if somebody else made one.
        """
        for session_id, owner, _ in _parts(app_name, user_id, delta):
            await self._open(session_id, owner)

    async def write(self, app_name: str, user_id: str, delta: Delta) -> None:
        """Set keys; writers of different keys never undo each other.

        Raises ``SessionExistsError`` if somebody else made the session that should keep them.
        """
        for session_id, owner, values in _parts(app_name, user_id, delta):
            await self._write(session_id, owner, values)

    async def _write(self, session_id: str, owner: str, values: Mapping[str, Any]) -> None:
        while True:
            await self._open(session_id, owner)
            try:
                await self._manager.update_session(session_id, owner, context_of(values))
            except SessionNotFoundError:  # erased since
                self._opened.discard(session_id)
                continue
            return

    async def _open(self, session_id: str, owner: str) -> None:
        if session_id in self._opened:
            return
        if await self._read(session_id, owner) is None:
            try:
                await self._manager.create_session(
                    owner, session_id=session_id, ttl_hours=None, messages=[MARK]
                )
            except SessionExistsError as error:
                # a concurrent call made it, or somebody else
                if await self._read(session_id, owner) is None:
                    raise SessionExistsError(_foreign(session_id)) from error
        self._opened.add(session_id)

    async def _values(self, session_id: str, owner: str) -> dict[str, Any]:
        found = await self._read(session_id, owner)
        return {} if found is None else values_of(found.context)

    async def _read(self, session_id: str, owner: str) -> Session | None:
        """Return the session; ``None`` if it is missing, or somebody else made it."""
        try:
            found = await self._manager.get_session(session_id, owner, message_limit=1)
        except SessionNotFoundError:
            return None
        if found.metadata.owner_id != owner:
            return None
        first: Sequence[Message] = found.messages or ()
        if found.metadata.last_seq > 1:  # somebody wrote a message after the mark
            try:
                first = await self._manager.get_session_messages(session_id, owner, 1, after_seq=0)
            except SessionNotFoundError:
                return None
        marks = [(message.seq, message.role, message.author_id) for message in first]
        return found if marks == [(1, MARK["role"], owner)] else None


def divided(state: Mapping[str, Any]) -> Delta:
    """Divide state by prefixes; what is temporary belongs to nobody."""
    delta = Delta({}, {}, {})
    for key, value in state.items():
        if key.startswith(State.APP_PREFIX):
            delta.app[key.removeprefix(State.APP_PREFIX)] = value
        elif key.startswith(State.USER_PREFIX):
            delta.user[key.removeprefix(State.USER_PREFIX)] = value
        elif not key.startswith(State.TEMP_PREFIX):
            delta.own[key] = value
    return delta


def with_prefixes(app: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """Return shared state as the sessions show it."""
    prefixed = {f"{State.APP_PREFIX}{key}": value for key, value in app.items()}
    return prefixed | {f"{State.USER_PREFIX}{key}": value for key, value in user.items()}


def context_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return state as context.

    Values become JSON as in ADK's events: bytes base64, NaN and infinities null, the rest text.
    """
    values = to_jsonable_python(dict(state), fallback=str, bytes_mode="base64", inf_nan_mode="null")
    return entries_of(values)


def values_of(context: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return context as state. What others have put there is no state."""
    entries = (context or {}).values()
    return {entry["key"]: entry["value"] for entry in entries if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"key", "value"}
        and isinstance(entry["key"], str)
    )


def _parts(
    app_name: str, user_id: str, delta: Delta
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield for each shared part its session, the owner and the values."""
    if delta.app:
        yield app_state_id(app_name), APP_OWNER, delta.app
    if delta.user:
        yield user_state_id(app_name, user_id), user_id_of(user_id), delta.user


def _foreign(session_id: str) -> str:
    return f"session {session_id!r}, which should keep state of ADK, is somebody else's; delete it"
