"""``SessionClient``: the manager's verbs over HTTP.

Code that was written for ``SessionManager`` moves to the service by changing one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.client.arguments import INPUTS
from agent_cores.session.client.calls import OTHER_NAMESPACE, Request
from agent_cores.session.client.messages import MessageCalls
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
from agent_cores.session.manager import SessionManager
from agent_cores.session.verbs.upkeep import ErasureReceipt
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Mapping

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.runtime import Runtime


class SessionClient(MessageCalls, SharingCalls, SessionManager):
    """Sessions of the namespace that the key opens, at the service at ``base_url``.

    With a key that may act as others, ``user_id`` is whom a verb acts as, and ``groups_of`` gives
    their groups; with a key of one user it has to be that user.

    Idle times and leases are whole seconds over HTTP, rounded up. Hooks and sweeping belong to the
    service: ``lifecycle`` and ``clean_expired_sessions`` raise ``UnsupportedError``. A request that
    did not leave is sent again, up to ``retries`` times, and one that is safe to repeat after a
    lost answer or a refusal for a while, no sooner than ``Retry-After`` says. After other lost
    answers ``StorageUnavailableError`` says that the outcome is unknown. ``timeout`` is seconds a
    request.

    ``ssl_context`` says which certificates are trusted, and may hold one of the client's own;
    left out, the system's are. ``proxy`` is the address of an HTTP proxy; none is taken from the
    environment. ``headers`` are sent with every request, for a gateway in front of the service.
    """

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
    ) -> None:
        if groups_of is not None and not callable(groups_of):
            raise ConfigurationError("groups_of is a function from a user id to names of groups")
        transport = Transport(
            checked_url(base_url),
            checked_key(api_key),
            timeout=checked_seconds(timeout, "timeout"),
            retries=checked_count(retries, "retries", 0),
            pool_size=checked_count(pool_size, "pool_size", 1),
            ssl_context=checked_ssl(ssl_context),
            proxy=checked_proxy(proxy),
            headers=checked_headers(headers),
        )
        self._shared = ClientRuntime(transport)
        self._groups_of = groups_of

    @property
    def _is_running(self) -> bool:
        return self._transport.is_open

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        await self._shared.finish(work)

    @property
    def namespace(self) -> str:
        """The namespace of the key; known once ``initialize()`` or a verb has asked for it."""
        me = self._shared.me
        if me is None:
            raise ConfigurationError("the namespace is known after initialize()")
        return me.namespace

    @property
    def lifecycle(self) -> LifecycleManager:
        """There are no hooks over HTTP."""
        raise UnsupportedError("hooks run where the sessions are kept, in the service")

    @property
    def runtime(self) -> Runtime:
        """There is none here: storage and engine are the service's."""
        raise UnsupportedError("storage and engine are where the sessions are kept, in the service")

    @property
    def is_over(self) -> bool:
        """Whether this was shut down, its event loop is closed, or another process opened it."""
        return self._transport.is_over

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> SessionClient:
        """Return a view with other groups; another namespace takes another key.

        Before the namespace of the key is known, that is found out by the first verb.
        """
        me = self._shared.me
        if me is not None and name != me.namespace:
            raise UnsupportedError(OTHER_NAMESPACE)
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._groups_of = groups_of or self._groups_of
        view._expected_namespace = name
        return view

    async def initialize(self) -> None:
        """Ask the service whether it knows the key. May be called again, and counts."""
        await self._shared.acquire()
        try:
            await self._known()
        except UnsupportedError:
            await self._shared.release()
            raise

    async def shutdown(self) -> None:
        """Finish the requests at work and close, once for every ``initialize()``.

        They are waited for as long as one of them may take; what is cut then is told as a lost
        answer.
        """
        await self._shared.release()

    async def clean_expired_sessions(self) -> int:
        """Raise ``UnsupportedError``: the service sweeps by itself."""
        raise UnsupportedError("the service removes what has ended by itself")

    async def get_statistics(self) -> dict[str, Any]:
        """Return ``sessions`` stored in the namespace, and ``due``; takes the right ``admin``."""
        await self._known()
        reply = await self._send("GET", "/v1/statistics", Request())
        return msgspec.structs.asdict(read(reply, shapes.Statistics))

    async def erase_user(self, user_id: str) -> ErasureReceipt:
        """Remove what the user owns, and the grants that name them; takes the right ``admin``."""
        await self._known()
        INPUTS.user_id(user_id)
        request = Request(shapes.EraseUser(user_id))
        reply = await self._send("POST", "/v1/users/erase", request)
        erased = read(reply, shapes.Erased)
        return ErasureReceipt(
            erased.sessions, erased.messages, erased.grants, erased.complete, tuple(erased.failed)
        )
