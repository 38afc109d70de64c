"""Which sessions a command works on: a storage or a service, a namespace, and in whose name."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, NamedTuple, TextIO, TypeVar

from cyclopts import Parameter

from agent_cores.session.cli.unknown_names import refuse_misspelt
from agent_cores.session.errors import ConfigurationError, MissingDependencyError
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.settings import SessionSettings
from agent_cores.session.verbs import audit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from agent_cores.session.errors import SessionError
    from agent_cores.session.storage.base import StorageProvider

KEY = "AGENT_SESSIONS_KEY"
"""The environment variable that holds the API key for ``--server``."""
T = TypeVar("T")

Json = Annotated[bool, Parameter(name="--json", negative=())]
Yes = Annotated[bool, Parameter(name="--yes", negative=())]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """Which sessions to work on.

    Parameters
    ----------
    server
        The address of a service; its key is in AGENT_SESSIONS_KEY.
    storage
        The storage URL, instead of the configured one.
    namespace
        The namespace; with --server it is that of the key.
    user
        Act as this user.
    as_operator
        Act as the operator of this name, with the owner's rights in every session. Each call is
        a line in the audit log: the service's, or with a storage standard error.
    """

    server: str | None = None
    storage: str | None = None
    namespace: str | None = None
    user: str | None = None
    as_operator: str | None = None

    @property
    def user_id(self) -> str:
        """In whose name the command acts."""
        name = self.user or self.as_operator
        if name is None:
            raise ConfigurationError("say who acts: --user ID or --as-operator NAME")
        return name

    def require_user(self) -> None:
        """Raise ``ConfigurationError`` unless it is known in whose name the command acts."""
        _ = self.user_id


@dataclass
class Line:
    """What the audit log says of a command, in a line for each session, if sessions are named.

    ``outcomes`` has the error, or ``None``, of each session whose outcome is known; the others end
    as the command does. ``is_verb`` says whether the manager has a verb of this name.
    """

    verb: str
    session_ids: Sequence[str] = ()
    is_verb: bool = False
    erased_user: str | None = None
    is_complete: bool = True
    code: str | None = None
    outcomes: dict[str | None, SessionError | None] = field(default_factory=dict)


class Opened(NamedTuple):
    """The verbs of a command, and in whose name to call them."""

    verbs: SessionManager
    where: Where

    @property
    def user_id(self) -> str:
        """In whose name the command acts."""
        return self.where.user_id


def with_sessions(
    where: Where | None,
    use: Callable[[Opened], Awaitable[T]],
    line: Line | None = None,
) -> T:
    """Open the sessions, use them, and close them.

    With a line, it is written to the audit log, as in ``with_store``, unless the service writes
    one, or the view of an operator, of which this is a verb.
    """
    where = where or Where()
    by_view = where.as_operator is not None and line is not None and line.is_verb
    if line is None or where.server is not None or by_view:
        return asyncio.run(_with_sessions(where, use))
    here = replace(where, namespace=where.namespace or DEFAULT_NAMESPACE)
    with recorded(here, line):
        return asyncio.run(_with_sessions(where, use))


def with_store(
    where: Where,
    line: Line,
    use: Callable[[StorageProvider], Awaitable[T]],
    *,
    only_reads: bool = False,
) -> T:
    """Open the storage itself, below the verbs, use it, and close it.

    That is a line in the audit log, or one for each session that is named. If the storage is only
    read, its tables must be there: they are neither made nor altered.
    """
    if where.server is not None:
        raise ConfigurationError(
            "a service does not give everything there is of a session: name its --storage instead"
        )
    with recorded(where, line):
        return asyncio.run(_in_store(where, use, only_reads=only_reads))


async def _in_store(
    where: Where, use: Callable[[StorageProvider], Awaitable[T]], *, only_reads: bool
) -> T:
    async with manager_for(where, only_reads=only_reads) as manager:
        return await use(manager.runtime.storage)


async def _with_sessions(where: Where, use: Callable[[Opened], Awaitable[T]]) -> T:
    if where.as_operator is not None and where.server is None:  # a service has a log of its own
        with audit_log_shown(), audit.run_by(_os_user()):
            return await _in_sessions(where, use)
    return await _in_sessions(where, use)


async def _in_sessions(where: Where, use: Callable[[Opened], Awaitable[T]]) -> T:
    async with manager_for(where) as manager:
        verbs = manager if where.as_operator is None else manager.as_operator(where.as_operator)
        return await use(Opened(verbs, where))


@contextmanager
def recorded(where: Where, line: Line) -> Iterator[None]:
    """Write a line of the audit log about what the block does, or one for each session."""
    failure: BaseException | None = None
    with audit_log_shown():
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            is_cut_off = isinstance(failure, BrokenPipeError)  # by the reader, such as `head`
            namespace = where.namespace or "every namespace"
            operator = where.as_operator
            runs = machine_user()
            for session_id in line.session_ids or (None,):
                audit.record(
                    operator,
                    namespace,
                    line.verb,
                    session_id,
                    line.outcomes.get(session_id, failure),
                    key=_os_user(),
                    user=where.user if where.user or operator else runs,
                    erased_user=line.erased_user,
                    is_complete=line.is_complete,
                    code="cancelled" if is_cut_off else line.code,
                )


def machine_user() -> str:
    """Return the name of this machine's user who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return str(os.getuid())


def _os_user() -> str:
    """Return this machine's user, as the field ``key`` of the audit log has it."""
    return f"os-user:{machine_user()}"


class _Shown(logging.StreamHandler[TextIO]):
    """Writes lines to standard error."""


@contextmanager
def audit_log_shown() -> Iterator[None]:
    """Write the lines of the audit log to standard error during the block, each once."""
    if any(isinstance(handler, _Shown) for handler in audit.logger.handlers):
        yield
        return
    handler = _Shown()
    audit.logger.addHandler(handler)
    audit.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        audit.logger.removeHandler(handler)


def manager_for(where: Where, *, only_reads: bool = False) -> SessionManager:
    """Return a client of the service, or a manager that does not sweep in the background.

    With ``only_reads`` it neither makes nor alters the tables of a store.
    """
    if where.server is not None:
        return _client(where)
    refuse_misspelt()
    schema = {"schema": "check"} if only_reads else {}
    settings = SessionSettings.load(cleanup_interval=0, **schema)
    namespace = where.namespace or DEFAULT_NAMESPACE
    manager = SessionManager(where.storage, settings=settings, namespace=namespace)
    if not manager.runtime.storage.capabilities.durable:
        raise ConfigurationError(
            "this store keeps nothing after its process ends; name another one with --storage or"
            " SESSION_STORAGE_URL, or a service with --server"
        )
    return manager


def _client(where: Where) -> SessionManager:
    if where.storage is not None:
        raise ConfigurationError("give --server or --storage, not both")
    key = os.environ.get(KEY)
    if not key:
        raise ConfigurationError(f"--server needs an API key: set {KEY}")
    try:
        from agent_cores.session.client.session_client import SessionClient  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingDependencyError("aiohttp", "client") from error
    client: SessionManager = SessionClient(str(where.server), key)
    return client if where.namespace is None else client.for_namespace(where.namespace)
