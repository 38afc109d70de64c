"""``StorageProvider``: the contract between the session manager and a store.

A provider implements the seven abstract methods; every verb of the manager then works on it. The
seven handle whole sessions, so a write costs in proportion to the session, a listing or a sweep in
proportion to the store, and writes are safe from each other within one process only.

A provider for a real store extends :class:`~agent_cores.session.storage.native.NativeProvider`
instead: it implements ``read``, ``apply``, ``find``, ``due`` and ``count``, which read and write
parts of a session, and gets the seven for nothing. The manager itself calls only these five, and
``check``, ``store_time``, ``repair_lists`` and ``read_several``. What moves whole stores also calls
``namespaces`` and ``back_up``; metrics also call ``pool_use`` and ``count_archived``.

Rules for every method:

- A provider knows no roles and makes no decision about access.
- It raises the errors of :mod:`agent_cores.session.errors`, never those of its driver. If the store
  does not answer it raises ``StorageUnavailableError``, with ``outcome_unknown=True`` if a write
  may have been done nevertheless. The manager repeats what is safe to repeat.
- Every object passed in or returned belongs to the caller: copy what you keep.
- Expired sessions stay stored, and visible to a provider's callers, until they are swept.

``agent_cores.session.testing`` has the test suite for providers.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from agent_cores.session.errors import CorruptRecordError, UnsupportedError
from agent_cores.session.storage.defaults import Defaults
from agent_cores.session.storage.reference_count import counted_initialize, counted_shutdown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.query import Ended, Found, Query
    from agent_cores.session.models.session import Session, SessionStatus
    from agent_cores.session.models.snapshot import Snapshot, Window
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.findings import Finding
    from agent_cores.session.storage.pool_use import PoolUse

_CHECK_NAMESPACE = "_check"
"""A namespace that no caller can name."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do beyond the seven methods.

    ``shared``: several processes can use it at the same time. ``durable``: its sessions survive the
    process. ``flat``: no request costs more as sessions, users or the store grow.
    """

    shared: bool = False
    durable: bool = False
    flat: bool = False


class Counts(msgspec.Struct, frozen=True):
    """How many sessions are stored, expired ones included, and how many of them are due."""

    sessions: int
    due: int


class BackedUp(msgspec.Struct, frozen=True):
    """What a backup holds, and the size of its file in bytes."""

    sessions: int
    messages: int
    bytes: int


class StorageProvider(ABC):
    """A store of sessions. Implement the seven abstract methods; the rest has defaults."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    backup_command: ClassVar[str | None] = None
    """The command that backs up such a store, if that is not ``back_up``; FILE is its output."""

    def __init_subclass__(cls, **arguments: Any) -> None:  # noqa: ANN401 - the base class's own
        """Count the calls of ``initialize`` and ``shutdown``, see ``ReferenceCount``."""
        super().__init_subclass__(**arguments)
        if "initialize" in vars(cls):
            cls.initialize = counted_initialize(cls.initialize)  # type: ignore[method-assign]
        if "shutdown" in vars(cls):
            cls.shutdown = counted_shutdown(_after_changes(cls.shutdown))  # type: ignore[method-assign]

    # ── the seven ────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    async def save_session(self, session: Session) -> None:
        """Insert or replace a whole session.

        Raises ``InvalidInputError`` if ``context`` or ``messages`` is ``None`` or messages are
        missing (``metadata.message_count`` says how many there are).
        """

    @abstractmethod
    async def load_session(self, session_id: str) -> Session | None:
        """Return the whole session, also an expired one; ``None`` if there is none."""

    @abstractmethod
    async def delete_session(self, session_id: str) -> bool:
        """Remove a session with everything that belongs to it; ``False`` if there was none."""

    @abstractmethod
    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        """Return the sessions that have all the tags, newest activity first.

        ``status=None`` returns every stored session, expired ones too. A list shorter than
        ``limit`` means that there are no more, and all of it is of one instant. The defaults of
        ``find``, ``due`` and ``count`` ask for more sessions than there are, to get them all. A
        store that caps ``limit`` costs them a call a page, and a listing is then no longer of one
        instant.
        """

    @abstractmethod
    async def update_metadata(self, session_id: str, metadata_updates: Mapping[str, Any]) -> bool:
        """Set metadata keys, remove those set to ``None``; ``False`` if there is no session."""

    @abstractmethod
    async def clean_expired_sessions(self) -> int:
        """Remove every expired session; return how many."""

    @abstractmethod
    async def get_statistics(self) -> dict[str, Any]:
        """Return ``sessions``, how many are stored, and ``due``, how many of them are due."""

    # ── opening and closing ──────────────────────────────────────────────────────────────────────

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - each provider's own
        """Make a provider from a storage URL; options in the URL take precedence over ``options``.

        By default a provider has no URL: ``UnsupportedError``. ``StoreOptions`` reads the options
        of a URL.
        """
        detail = f"{cls.__name__} takes no URL"
        raise UnsupportedError(detail)

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        """Return the constructor options that the settings give this provider; none by default."""
        return {}

    def describe(self) -> str:
        """Return what this store is and where, for a log line; never a password."""
        return type(self).__name__

    @counted_initialize
    async def initialize(self) -> None:
        """Connect and prepare the schema.

        Several managers may share a provider and each calls this; only the first call runs the
        method of a subclass.
        """

    @counted_shutdown
    async def shutdown(self) -> None:
        """Finish the accepted writes, then close what this provider opened, and only that.

        Each manager calls this once for its ``initialize``; only the last call runs the method of a
        subclass, once the changes that the default ``apply`` has accepted are saved.
        """
        await self._defaults.stop()

    async def back_up(self, path: Path) -> BackedUp:
        """Copy the whole store to a new file while it is in use; the provider need not be open.

        By default ``UnsupportedError``, which names ``backup_command``.
        """
        command = self.backup_command
        how = "its own tools" if command is None else f"its own command: {command}"
        raise UnsupportedError(f"{self.describe()}: back this store up with {how}")

    async def store_time(self) -> datetime | None:
        """Return the time of the store's own clock; ``None`` if it has none."""
        return None

    async def check(self) -> None:
        """Return if the store can be read and written now; raise a ``SessionError`` if not.

        The service's readiness check calls this about once a second. By default it reads. A store
        that can be full or read-only should write something that no caller sees, and one that can
        be replaced should keep an identity: see ``StoreIdentity``. ``/readyz`` names the reason
        after the error: ``QuotaExceededError``, ``StoreFormatError``, and the ``why`` of
        ``StorageUnavailableError``.
        """
        await self.read(_CHECK_NAMESPACE, "check")

    def pool_use(self) -> PoolUse | None:
        """Return how many connections, or threads, are in use now; ``None`` if it has no pool."""
        return None

    async def inspect(self) -> list[Finding]:
        """Return what an operator should know of this store; ``agent-sessions doctor`` shows it.

        Such as the server's version, or a setting of the server that endangers sessions. The
        provider is initialized. By default there is nothing to say.
        """
        return []

    # ── the five ─────────────────────────────────────────────────────────────────────────────────

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Return one session as of one instant, also an expired one; ``None`` if there is none.

        ``context`` asks for all context entries, ``window`` for a range of messages. What was not
        asked for is ``None`` in the snapshot and should not be read.
        """
        return await self._defaults.read(namespace, session_id, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Carry out one change, all of it or nothing, with the result of ``apply_change``.

        Read, in isolation from other writers, what the change needs to know of the session, run
        ``apply_change`` on it, write what it returns and return that. An error that it raises is
        the answer. The time of the change is ``change.applied_at()``, asked once it is its turn.

        If the caller is cancelled, the change is whole or absent, and takes effect before any later
        one to the session, or never.
        """
        return await self._defaults.apply(change)

    async def find(self, query: Query) -> Found:
        """Return one page of a listing. ``ListingPage`` fills it from a walk of candidates."""
        return await self._defaults.find(query)

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Lease up to ``limit`` expired sessions, of any namespace, for a sweep.

        A session is due from its ``due_at`` on. If it has expired it is returned, and due again
        after ``lease_seconds``, so that no other sweeper gets it until then. If it lives on it is
        not returned, and due at its ``expires_at``.
        """
        return await self._defaults.due(at, limit, lease_seconds)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count the sessions of a namespace; ``None`` means all namespaces."""
        return Counts(*await self._defaults.count(namespace, at))

    async def count_archived(self) -> int | None:
        """Count the archived sessions of all namespaces, expired ones included.

        For metrics: an operation may not cost what this may. It reads no session, at most an index
        entry of each that it counts. A store that cannot do so returns ``None``, as by default.
        """
        return None

    async def read_several(
        self,
        names: Sequence[tuple[str, str]],
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> list[Snapshot | CorruptRecordError | None]:
        """Return for each namespace and session id what ``read`` returns, or that it is corrupt.

        For lists that include contexts or messages, and for walking the whole store. Each session
        is of one instant, not all of them of the same.
        """

        async def read(name: tuple[str, str]) -> Snapshot | CorruptRecordError | None:
            try:
                return await self.read(*name, context=context, window=window)
            except CorruptRecordError as error:
                return error

        return await asyncio.gather(*map(read, names))

    async def namespaces(self) -> list[str]:
        """Return the namespaces that hold sessions, sorted; some may hold none any more.

        For walking the whole store: listings by creation are made one namespace at a time.
        """
        return await self._defaults.namespaces()

    async def repair_lists(self, namespace: str, user_id: str) -> None:
        """Repair the index entries of all sessions that a user owns or that are shared with them.

        The manager calls it before it erases a user, so that ``find`` misses no session. For stores
        whose indexes can lose an entry; by default it does nothing.
        """

    @cached_property
    def _defaults(self) -> Defaults:
        """The five made of the seven; made on first use, since a subclass need not call us."""
        return Defaults(self)


def _after_changes(shutdown: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Return a ``shutdown`` that first finishes the changes of the default ``apply``."""

    @wraps(shutdown)
    async def after_changes(provider: StorageProvider) -> None:
        await provider._defaults.stop()  # noqa: SLF001 - ours
        await shutdown(provider)

    return after_changes
