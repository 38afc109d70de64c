"""Where the service is measured: requests, calls of the store, batches, sweeps, cached headers.

Everything is attached to objects that exist, so that a service without metrics pays nothing.
"""

from __future__ import annotations

import asyncio
import logging
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any

from agent_cores.session import observing
from agent_cores.session.errors import SessionError
from agent_cores.session.models.session import SessionStatus
from agent_cores.session.service.metrics import definitions as metrics
from agent_cores.session.service.observers import method_of
from agent_cores.session.service.store_calls import OPERATIONS, system_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from starlette.types import Receive, Scope, Send

    from agent_cores.session.header_cache import HeaderCache
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.models.query import Ended
    from agent_cores.session.service.app import Service
    from agent_cores.session.service.metrics.recorder import Recorder, Tally
    from agent_cores.session.service.observers import Answered, Respond
    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

_REST = 100
"""After a count, none for so many times as long as it took: at most a hundredth of the time."""
_LONGEST_COUNT = 5.0
"""Seconds after which a count is given up."""
_NO_ROUTE = "none"


class RequestRecorder:
    """Records requests."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._active: dict[tuple[str, str], int] = {}
        self._tallies: dict[tuple[str | int | None, ...], Tally] = {}

    def around(self, respond: Respond) -> Respond:
        """Return what responds, and counts how many requests it is responding to."""
        active = self._active

        async def respond_counted(scope: Scope, receive: Receive, send: Send) -> None:
            kind = _kind(scope)
            active[kind] = active.get(kind, 0) + 1
            try:
                await respond(scope, receive, send)
            finally:
                active[kind] -= 1

        return respond_counted

    def answered(self, answer: Answered) -> None:
        """Record a request whose response has been sent."""
        path = None if answer.route is None else answer.route.path
        key = (path, answer.status, answer.code, *_kind(answer.scope))
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = self._tally(answer)
        tally.add(answer.seconds)
        if answer.code is not None:
            self._recorder.count(metrics.REFUSALS, answer.code).value += 1

    def _tally(self, answer: Answered) -> Tally:
        route, code = answer.route, answer.code
        return self._recorder.tally(
            metrics.REQUESTS,
            _NO_ROUTE if route is None else route.name,
            str(answer.status),
            "" if route is None else route.path,
            *_kind(answer.scope),
            (code or str(answer.status)) if answer.failed else "",
        )

    def note_active(self) -> None:
        """Note how many requests are being served now."""
        for kind, number in self._active.items():
            self._recorder.put(metrics.IN_FLIGHT, number, *kind)


def _kind(scope: Scope) -> tuple[str, str]:
    return method_of(scope), scope.get("scheme", "http")


class Measurement:
    """Measures a service and its manager from now on, into a recorder.

    ``by_status``: whether this process counts the archived sessions.
    """

    def __init__(self, service: Service, recorder: Recorder, *, by_status: bool = True) -> None:
        runtime = service.manager.runtime
        self._storage = runtime.storage
        self._recorder = recorder
        self._requests = RequestRecorder(recorder)
        self._batches = recorder.tally(metrics.BATCHES)
        self._retries = recorder.count(metrics.RETRIES)
        service.respond = self._requests.around(service.respond)
        service.observers.append(self._requests.answered)
        _measure_storage(runtime.storage, recorder)
        _count_headers(runtime.engine.headers, recorder)
        _measure_sweeps(runtime.lifecycle, runtime.clock, recorder)
        _Counts(service, recorder, by_status=by_status)
        observing.on_batch.append(self._note_batch)
        observing.on_retry.append(self._note_retry)

    def note_now(self) -> None:
        """Note what is read from time to time: requests in flight, and the use of connections."""
        self._requests.note_active()
        use, name = self._storage.pool_use(), system_of(self._storage)
        if use is not None:
            self._recorder.put(metrics.POOL_SIZE, use.size, name)
            self._recorder.put(metrics.POOL_IN_USE, use.in_use, name, "used")
            self._recorder.put(metrics.POOL_WAITING, use.waiting, name)

    def _note_batch(self, items: int, left: int) -> None:
        self._batches.add(items)
        self._recorder.at_least(metrics.QUEUED, left)

    def _note_retry(self) -> None:
        self._retries.value += 1


def _measure_storage(storage: StorageProvider, recorder: Recorder) -> None:
    system = system_of(storage)
    for operation in OPERATIONS:
        call = getattr(storage, operation)
        setattr(storage, operation, _timed(call, operation, system, recorder))


def _timed(
    call: Callable[..., Awaitable[Any]], operation: str, system: str, recorder: Recorder
) -> Callable[..., Awaitable[Any]]:
    done = recorder.tally(metrics.STORAGE, operation, system, "")

    @wraps(call)
    async def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the operation's own
        started, tally = perf_counter(), done
        try:
            return await call(*args, **kwargs)
        except SessionError as error:
            recorder.count(metrics.STORAGE_ERRORS, operation, error.code).value += 1
            tally = recorder.tally(metrics.STORAGE, operation, system, error.code)
            raise
        finally:
            tally.add(perf_counter() - started)

    return timed


def _count_headers(headers: HeaderCache, recorder: Recorder) -> None:
    hits = recorder.count(metrics.HEADERS, "hit")
    misses = recorder.count(metrics.HEADERS, "miss")
    get = headers.get

    def counted(key: Any) -> Any:  # noqa: ANN401 - as the cache has it
        header = get(key)
        if header is None:
            misses.value += 1
        else:
            hits.value += 1
        return header

    headers.get = counted


def _measure_sweeps(
    lifecycle: LifecycleManager, clock: Callable[[], datetime], recorder: Recorder
) -> None:
    tally = recorder.tally(metrics.SWEEPS)
    swept = recorder.count(metrics.SWEPT)
    sweep = lifecycle.sweep

    async def measured() -> list[Ended]:
        started = perf_counter()
        removed = await sweep()
        tally.add(perf_counter() - started)
        swept.value += len(removed)
        now = clock()
        ends = [one.header.expires_at for one in removed if one.header is not None]
        lags = [(now - end).total_seconds() for end in ends if end is not None]
        recorder.put(metrics.SWEEP_LAG, max(lags, default=0.0))
        return removed

    lifecycle.sweep = measured  # type: ignore[method-assign]


class _Counts:
    """Counts the sessions after a sweep: what has expired is gone, so that few are due.

    A store keeps how many sessions it holds. The archived ones it counts in an index, so of several
    workers only one asks for them.
    """

    def __init__(self, service: Service, recorder: Recorder, *, by_status: bool) -> None:
        runtime = service.manager.runtime
        self._storage = runtime.storage
        self._clock = runtime.clock
        self._recorder = recorder
        self._by_status = by_status
        self._next_at = 0.0
        self._sweep = runtime.lifecycle.sweep
        runtime.lifecycle.sweep = self._counted  # type: ignore[method-assign]

    async def _counted(self) -> list[Ended]:
        removed = await self._sweep()
        started = perf_counter()
        if started >= self._next_at:
            try:
                async with asyncio.timeout(_LONGEST_COUNT):
                    await self._count()
            except (SessionError, TimeoutError) as error:
                logger.debug("the sessions could not be counted: %s", error)
            self._next_at = perf_counter() + _REST * (perf_counter() - started)
        return removed

    async def _count(self) -> None:
        counts = await self._storage.count(None, self._clock())
        self._recorder.put(metrics.STORED, counts.sessions)
        self._recorder.put(metrics.DUE, counts.due)
        archived = await self._storage.count_archived() if self._by_status else None
        if archived is not None:
            active = max(counts.sessions - counts.due - archived, 0)
            for status, number in (
                (SessionStatus.ACTIVE, active),
                (SessionStatus.ARCHIVED, archived),
                (SessionStatus.EXPIRED, counts.due),
            ):
                self._recorder.put(metrics.SESSIONS, number, status.value)
