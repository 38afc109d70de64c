"""``SessionClient``: the manager's verbs over HTTP.

Code written for ``SessionManager`` moves to the service by changing one line.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from agent_cores.session.any_loop import AnyLoop, class_as_of, use_from_any_loop
from agent_cores.session.client.arguments import INPUTS
from agent_cores.session.client.calls import OTHER_NAMESPACE, Request
from agent_cores.session.client.named import NamedMessageCalls
from agent_cores.session.client.operators import OperatorCalls
from agent_cores.session.client.options import (
    checked_count,
    checked_headers,
    checked_key,
    checked_proxy,
    checked_seconds,
    checked_ssl,
    checked_url,
)
from agent_cores.session.client.reading import read
from agent_cores.session.client.runtime import ClientRuntime
from agent_cores.session.client.sharing import SharingCalls
from agent_cores.session.client.transport import Transport
from agent_cores.session.errors import ConfigurationError, UnsupportedError
from agent_cores.session.manager import SessionManager, SessionOperator
from agent_cores.session.verbs.upkeep import ErasureReceipt
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.runtime import Runtime
    from agent_cores.session.wire.shapes import Me


class AnyLoopClient(AnyLoop):
    """What a client made with ``any_loop=True`` and its views have beyond their own class."""

    _known: Callable[[], Awaitable[Me]]

    @property
    def _shared(self) -> ClientRuntime:
        runtime: ClientRuntime = self._home.runtime
        return runtime

    async def initialize(self) -> None:
        """Check with the service that the key is valid. Calls are counted; see ``shutdown()``."""
        await super().initialize()
        try:
            await self._known()  # which needs no request any more
        except UnsupportedError:
            await self.shutdown()
            raise


class SessionClient(NamedMessageCalls, SharingCalls, SessionManager):
    """Sessions in the namespace of the key, at the service at ``base_url``.

    With a key that may act for others, ``user_id`` is the user that a verb acts for, and
    ``groups_of`` gives that user's groups. With a key of one user, ``user_id`` must be that user.

    Over HTTP, idle times and leases are whole seconds, rounded up. Hooks and sweeping belong to the
    service: ``lifecycle`` and ``clean_expired_sessions`` raise ``UnsupportedError``. ``retries`` is
    how often a request is retried that was never sent. Requests that are safe to repeat are also
    retried after a lost response or a temporary refusal, not before ``Retry-After``. After other
    lost responses ``StorageUnavailableError`` says that the outcome is unknown. ``timeout`` is in
    seconds per request.

    ``ssl_context`` says which certificates are trusted, and may contain a client certificate; by
    default the system's are trusted. ``proxy`` is the address of an HTTP proxy; proxies from the
    environment are ignored. ``headers`` are sent with every request, for a gateway in front of the
    service.

    A client belongs to one event loop. With ``any_loop=True`` it may be called from any loop and
    thread, and after a fork, as a ``SessionManager`` made so; ``groups_of`` runs in its own thread.
    """

    _from_any_loop: ClassVar[type[AnyLoop]] = AnyLoopClient

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        groups_of: GroupsOf | None = None,
        timeout: float = 30.0,
        retries: int = 2,
        pool_size: int = 100,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        any_loop: bool = False,
    ) -> None:
        if groups_of is not None and not callable(groups_of):
            raise ConfigurationError("groups_of is a function from a user id to names of groups")
        new_transport = partial(
            Transport,
            checked_url(base_url),
            checked_key(api_key),
            timeout=checked_seconds(timeout, "timeout"),
            retries=checked_count(retries, "retries", 0),
            pool_size=checked_count(pool_size, "pool_size", 1),
            ssl_context=checked_ssl(ssl_context),
            proxy=checked_proxy(proxy),
            headers=checked_headers(headers),
        )
        self._shared = ClientRuntime(new_transport())
        self._groups_of = groups_of
        if any_loop:
            use_from_any_loop(self, "_shared", partial(_renewed, new_transport))

    @property
    def _is_running(self) -> bool:
        return self._transport.is_open

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        await self._shared.finish(work)

    @property
    def namespace(self) -> str:
        """The namespace of the key; known after ``initialize()`` or the first verb."""
        me = self._shared.me
        if me is None:
            raise ConfigurationError("the namespace is known after initialize()")
        return me.namespace

    @property
    def lifecycle(self) -> LifecycleManager:
        """Raise ``UnsupportedError``: there are no hooks over HTTP."""
        raise UnsupportedError("hooks run where the sessions are kept, in the service")

    @property
    def runtime(self) -> Runtime:
        """Raise ``UnsupportedError``: storage and engine belong to the service."""
        raise UnsupportedError("storage and engine are where the sessions are kept, in the service")

    @property
    def is_over(self) -> bool:
        """Whether this was shut down, its event loop is closed, or another process opened it."""
        return self._transport.is_over

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> SessionClient:
        """Return a view with other groups; another namespace requires another key.

        If the namespace of the key is not known yet, the first verb checks it.
        """
        me = self._shared.me
        if me is not None and name != me.namespace:
            raise UnsupportedError(OTHER_NAMESPACE)
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._groups_of = groups_of or self._groups_of
        view._expected_namespace = name
        return view

    def as_operator(self, name: str) -> SessionClientOperator:
        """Return a view for the program itself; the key must have the right ``operator``."""
        view: SessionClientOperator = object.__new__(class_as_of(self, SessionClientOperator))
        view.__dict__.update(self.__dict__)
        view.__dict__["_operator"] = INPUTS.user_id(name, "name")
        return view

    async def initialize(self) -> None:
        """Check with the service that the key is valid. Calls are counted; see ``shutdown()``."""
        await self._shared.acquire()
        try:
            await self._known()
        except UnsupportedError:
            await self._shared.release()
            raise

    async def shutdown(self) -> None:
        """Finish the requests in flight and close, once for every ``initialize()``.

        It waits for at most the time-out of one request. What is cut off then counts as a lost
        response.
        """
        await self._shared.release()

    async def clean_expired_sessions(self) -> int:
        """Raise ``UnsupportedError``: the service does the sweeping."""
        raise UnsupportedError("the service removes expired sessions by itself")

    async def get_statistics(self) -> dict[str, Any]:
        """Return the counts of ``sessions`` and ``due`` sessions; requires the right ``admin``."""
        await self._known()
        reply = await self._send("GET", "/v1/statistics", Request())
        return msgspec.structs.asdict(read(reply, shapes.Statistics))

    async def erase_user(self, user_id: str) -> ErasureReceipt:
        """Remove the user's sessions and grants; requires the right ``admin``."""
        await self._known()
        INPUTS.user_id(user_id)
        request = Request(shapes.EraseUser(user_id))
        reply = await self._send("POST", "/v1/users/erase", request)
        erased = read(reply, shapes.Erased)
        return ErasureReceipt(
            erased.sessions, erased.messages, erased.grants, erased.complete, tuple(erased.failed)
        )


class SessionClientOperator(OperatorCalls, SessionClient, SessionOperator):
    """A view of a client for the program itself, made by ``client.as_operator(name)``.

    It has the owner's rights in every session of the key's namespace. The service writes the audit
    log.
    """

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> SessionClient:
        """Return a view of the same namespace; another requires another key."""
        return SessionClient.for_namespace(self, name, groups_of=groups_of)


def _renewed(new_transport: Callable[[], Transport], before: ClientRuntime) -> ClientRuntime:
    """Return a runtime for a child process, for the same credential, without connections."""
    runtime = ClientRuntime(new_transport())
    runtime.me = before.me
    return runtime
