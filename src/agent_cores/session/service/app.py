"""``create_app``: the service as a plain ASGI application, and the order of its checks.

A request is routed (404, 405), then checked: headers (431) and size (413), authentication (401),
the key's right (403), the user to act for (400, 403), rate (429), accepted types (406), other
headers (400), the body (413, 415, 400). All of these give the same response for every id. Then the
manager decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent_cores.session.errors import (
    ConfigurationError,
    SessionError,
    SessionNotFoundError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from agent_cores.session.manager import SessionManager
from agent_cores.session.service.components import Components
from agent_cores.session.service.cors import Cors
from agent_cores.session.service.headers import Headers
from agent_cores.session.service.log.audit import (
    is_always_recorded,
    read_anothers,
    record_call,
    record_failed_login,
)
from agent_cores.session.service.log.outline import kinds, outline
from agent_cores.session.service.log.requests import RequestLog
from agent_cores.session.service.log.users import UserIds
from agent_cores.session.service.observers import Answered
from agent_cores.session.service.openai.errors import error_response, is_conversation_path
from agent_cores.session.service.problems import Refusal, ShapeError
from agent_cores.session.service.request.bodies import longest_bodies
from agent_cores.session.service.request.budget import Budget, counted
from agent_cores.session.service.request.call import Call, CallerGoneError
from agent_cores.session.service.request.checks import check_accept, check_host, check_size
from agent_cores.session.service.request.reservation import Reservation
from agent_cores.session.service.request.time_slices import TimeSlices
from agent_cores.session.service.responses import Response, offered, problem_response, send_response
from agent_cores.session.service.routes import ROUTES
from agent_cores.session.service.routing import Router, relative_path
from agent_cores.session.service.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from starlette.types import Receive, Scope, Send

    from agent_cores.session.service.auth.api_keys import ApiKey
    from agent_cores.session.service.observers import Observer, Respond, Traffic
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.wire.health import NotReady

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
_LOG = RequestLog(logger)
_ROUTER = Router(ROUTES)
_READS = ("GET", "HEAD")
_FEWEST_READS = 4
"""How many reads run concurrently, even if the budget has no room for as many full pages."""


class Service:
    """An ASGI application over one manager.

    It starts with its first request or with the server's lifespan. A mounted application gets no
    lifespan: pass ``lifespan`` to the application that it is mounted in, or call ``aclose()``.
    """

    def __init__(
        self,
        manager: SessionManager,
        settings: ServiceSettings,
        *,
        keys: Iterable[ApiKey] = (),
        only_loopback_hosts: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manager = manager
        self.settings = settings
        self.draining: bool = False
        self.budget: Budget = Budget(settings.most_buffered)
        self._reads = asyncio.Semaphore(_reads_at_once(manager, settings))
        self._only_loopback_hosts = only_loopback_hosts
        self._components = Components(manager, settings, tuple(keys), now)
        self._slices = TimeSlices()
        self._users = UserIds(settings)
        self._most_bytes = longest_bodies(ROUTES, manager, settings)
        self._cors = Cors(settings.cors_origins)
        self.observers: list[Observer] = []
        self.traffic: Traffic | None = None
        self.respond: Respond = self._respond
        self._starters: list[Callable[[], None]] = []

    def on_start(self, starter: Callable[[], None]) -> None:
        """Call the function when the server's lifespan begins."""
        self._starters.append(starter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, or run a server's lifespan."""
        if scope["type"] == "lifespan":
            await self._server_lifespan(receive, send)
        elif scope["type"] == "http":
            await self.respond(scope, receive, send)
        else:  # a web socket, which no route has
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start before the first request and close after the last: a lifespan for a parent."""
        del app  # the parent application, which is not needed
        self.draining = False
        await self._components.start()
        try:
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Report not ready, finish the requests in flight, and close the manager."""
        self.draining = True
        await self._components.close()

    async def why_not_ready(self) -> NotReady | None:
        """Return why the service is not ready for requests; ``None`` if it is."""
        return "stopping" if self.draining else await self._components.why_not_ready()

    async def _server_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self.draining = False
        try:
            await self._components.start()
            for starter in self._starters:
                starter()
        except Exception as error:
            logger.exception("the service could not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = Headers(scope["headers"])
        request_id = _request_id(headers)
        call: Call | None = None
        code: str | None = None
        traffic = self.traffic
        reservation = Reservation(self._components, scope, traffic)
        try:
            if offered(scope) is None:
                receive = counted(receive, reservation.count_body(self.budget))
            try:
                response = self._cors.preflight(scope["method"], headers)
                if response is None:
                    call = self._call(scope, receive, headers, request_id)
                    response = reservation.count_response(
                        self.budget, await self._handle(call, reservation), scope["method"]
                    )
            except CallerGoneError:
                return
            except asyncio.CancelledError as error:
                if _is_given_up():
                    raise
                code, response = self._refusal(_UnfinishedError(error), scope, call, request_id)
            except Exception as error:  # noqa: BLE001 - every failure gets a response
                code, response = self._refusal(error, scope, call, request_id)
            self._cors.mark(response, headers)
            await send_response(response, request_id, scope, send, closes=self.draining)
        finally:
            reservation.release()
        seconds = time.perf_counter() - started
        route = None if call is None else call.route
        if traffic is not None:
            scheme = scope.get("scheme", "http")
            outcome = route, response.status, code, scope["method"], scheme
            traffic.seconds[outcome].append(seconds)
        for tell in self.observers:
            tell(Answered(scope, route, response.status, code))
        _LOG.tell(
            request_id,
            method=scope["method"],
            route=None if route is None else route.name,
            status=response.status,
            credential=None if call is None else call.credential,
            user=None if call is None else self._users.shown(call.admitted),
            seconds=seconds,
        )

    def _call(self, scope: Scope, receive: Receive, headers: Headers, request_id: bytes) -> Call:
        """Return what handlers get of a request; raise if it has no route."""
        route, path = _ROUTER.find(scope)
        return Call(
            scope,
            receive,
            route,
            path,
            headers,
            manager=self.manager,
            settings=self.settings,
            why_not_ready=self.why_not_ready,
            slices=self._slices,
            most_bytes=self._most_bytes[id(route)],
            request_id=request_id.decode("latin-1"),
        )

    async def _handle(self, call: Call, reservation: Reservation) -> Response:
        check_size(call.scope, call.headers, self.settings, call.most_bytes)
        if self._only_loopback_hosts:
            check_host(call.headers)
        route = call.route
        if route.right == "open":
            return await route.handler(call)
        components = self._components
        if not components.is_started:
            try:
                await components.start()
            except ConfigurationError as error:
                raise StorageUnavailableError(str(error)) from error
        authentication = components.authentication
        principal = authentication.recall(call.headers, route.right)
        if principal is None:
            try:
                principal = await authentication.principal(
                    call.headers, call.address, right=route.right, tell=call.recognize
                )
            except UnauthenticatedError as error:
                record_failed_login(call, error)
                raise
        call.admit(principal)
        reservation.take_caller_slot(principal)
        check_accept(call.headers)
        call.read_headers()
        if route.request is not None:
            await call.read_body()
            if call.waited:  # the key may have been revoked since, or the token have expired
                address, right = call.address, route.right
                await authentication.confirm(principal, call.headers, address, right)
        reservation.take_work_slot()
        if call.scope["method"] not in _READS:
            return await self._run_handler(call)
        async with self._reads:
            return await self._run_handler(call)

    async def _run_handler(self, call: Call) -> Response:
        """Run the handler, and record in the audit log what belongs there."""
        if not is_always_recorded(call):
            response = await self._checked_handler(call)
            if read_anothers(call):
                record_call(call, None)
            return response
        failure: BaseException | None = None
        try:
            return await self._checked_handler(call)
        except BaseException as error:
            failure = error
            raise
        finally:
            record_call(call, failure)

    async def _checked_handler(self, call: Call) -> Response:
        """Run the handler. Only callers who may do this learn that the request's shape is wrong.

        A body that is not JSON is reported before either, even if the query was checked first.
        """
        route = call.route
        try:
            if not route.query and call.scope.get("query_string"):
                call.query()
            return await route.handler(call)
        except ShapeError:
            call.check_syntax()
            await self._check_access(call)
            raise

    async def _check_access(self, call: Call) -> None:
        """Raise the error of a caller who may not do this; a create needs no session."""
        route = call.route
        if route.action is None:
            return
        try:
            await call.view.check(call.session_id, call.user_id, route.action)
        except SessionNotFoundError:
            if not (route.creates and b'"create"' in call.raw):
                raise

    def _refusal(
        self, error: Exception, scope: Scope, call: Call | None, request_id: bytes
    ) -> tuple[str, Response]:
        """Return the code of an error, and the response."""
        names = call.route.names if call is not None else {}
        number, at = request_id.decode("latin-1"), self._components.clock()
        if is_conversation_path(relative_path(scope)):
            repeatable = call is None or call.is_repeatable
            response = error_response(error, names, at, repeatable=repeatable)
        else:
            response = problem_response(error, names, at)
        if not isinstance(error, SessionError | Refusal):
            logger.error("request %s failed: %s", number, outline(error))
        elif response.status >= 500:  # noqa: PLR2004
            logger.error("request %s: %s: %s", number, error.code, kinds(error))
        return _code_of(error), response


def _code_of(error: Exception) -> str:
    return error.code if isinstance(error, SessionError | Refusal) else "internal"


class _UnfinishedError(Exception):
    """Something that the request waited for was cancelled, but not the request itself."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.__cause__ = cause


def _is_given_up() -> bool:
    """Whether the server cancelled this request."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def create_app(
    source: SessionManager | SessionSettings | None = None,
    *,
    settings: ServiceSettings | None = None,
    keys: Iterable[ApiKey] = (),
    only_loopback_hosts: bool = False,
) -> Service:
    """Return the service as an ASGI application.

    ``source`` is a manager, or the settings to make one from; by default the settings are loaded.
    ``keys`` are accepted in addition to the stored ones. A given manager is initialized and shut
    down like by any other user.
    """
    if not isinstance(source, SessionManager):
        source = SessionManager(settings=source)
    return Service(
        source,
        settings or ServiceSettings.load(),
        keys=keys,
        only_loopback_hosts=only_loopback_hosts,
    )


def _reads_at_once(manager: SessionManager, settings: ServiceSettings) -> int:
    """Return how many reads may run concurrently.

    What a read holds counts only once it is a response. Until then it may be a page as it was
    stored, and again as it is sent.
    """
    pages = settings.most_buffered // manager.runtime.limits.page_bytes
    return max(_FEWEST_READS, pages // 2)


def _request_id(headers: Headers) -> bytes:
    """Return the request id that a proxy sent, or a new one."""
    for value in headers.values(b"x-request-id"):
        if _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return b"%016x" % random.getrandbits(64)
