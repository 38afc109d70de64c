"""What a reader finds in a framework's store: sessions, their messages, and what is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent_cores.session.adapters.ids import user_id_of
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.files import local_path
from agent_cores.session.models.message import NewContent
from agent_cores.session.models.representation import hides

if TYPE_CHECKING:
    from pathlib import Path


class LeftOut(msgspec.Struct, frozen=True):
    """Something that cannot be imported: where it is, and why. Neither holds message text."""

    where: str
    why: str


@hides("content", "metadata")
class FoundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message. ``created_at`` is aware; ``author_id`` is the owner if it is ``None``."""

    id: str
    role: str
    content: NewContent
    created_at: datetime | None = None
    author_id: str | None = None
    metadata: dict[str, Any] = {}


Messages = Callable[[], AsyncIterator[FoundMessage | LeftOut]]


@hides("title", "attributes", "context")
class FoundSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session, with ids of ours.

    ``messages`` reads the messages from the first on; it is called twice for a long session. Times
    that are ``None`` are those of the first and the last message.
    """

    session_id: str
    owner_id: str
    messages: Messages
    created_at: datetime | None = None
    last_active_at: datetime | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, Any] = {}
    context: dict[str, Any] = {}


class Reader(Protocol):
    """Reads one store."""

    async def total(self) -> int | None:
        """Return about how many sessions there are, if that is cheap to say."""

    def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield the sessions. ``StoreFormatError`` if this is not such a store."""


class Given(msgspec.Struct, frozen=True):
    """What the caller says: where the store is, and whose sessions are in it."""

    source: str
    user: str | None = None

    @property
    def folder(self) -> Path:
        """The source, where it must be a folder."""
        folder = local_path(self.source, "the source").expanduser().absolute()
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is not a folder")
        return folder

    @property
    def owner(self) -> str:
        """The owner of sessions in a store that names none."""
        if self.user is None:
            raise ConfigurationError("this store names no user: give --user ID, who will own them")
        return user_id_of(self.user)
