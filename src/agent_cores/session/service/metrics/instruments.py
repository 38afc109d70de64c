"""Where the service is measured: requests, calls of the store, batches, sweeps, cached headers.

Everything is attached to objects that exist, so that a service without metrics pays nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any

from agent_cores.session import observing
from agent_cores.session.errors import SessionError
from agent_cores.session.models.session import SessionStatus
from agent_cores.session.service.metrics import definitions as metrics
from agent_cores.session.service.observers import Traffic, has_failed, known_method, method_of
from agent_cores.session.service.store_calls import operations_of, system_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from agent_cores.session.header_cache import HeaderCache
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.query import Ended
    from agent_cores.session.service.app import Service
    from agent_cores.session.service.metrics.recorder import Recorder
    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

_REST = 100
"""After a count, none for so many times as long as it took: at most a hundredth of the time."""
_LONGEST_COUNT = 5.0
"""Seconds after which a count is given up."""
_NO_ROUTE = "none"


class RequestRecorder:
    """Records requests: the service keeps their times as they are, and this sorts them."""

    def __init__(self, recorder: Recorder, traffic: Traffic) -> None:
        self._recorder = recorder
        self._traffic = traffic
        self._kinds: set[tuple[str, str]] = set()
        recorder.before_taking(self._sort)

    def _sort(self) -> None:
        """Record the requests that were answered since the last time."""
        for (route, status, code, method, scheme), seconds in self._traffic.take().items():
            kind = known_method(method), scheme
            self._kinds.add(kind)
            self._recorder.values(
                metrics.REQUESTS,
                _NO_ROUTE if route is None else route.name,
                str(status),
                "" if route is None else route.path,
                *kind,
                (code or str(status)) if has_failed(status) else "",
            ).extend(seconds)
            if code is not None:
                self._recorder.count(metrics.REFUSALS, code).value += len(seconds)

    def note_in_flight(self) -> None:
        """Note how many requests are being served now, of each kind that there has been."""
        self._sort()
        scopes = self._traffic.in_flight.values()
        numbers = Counter((method_of(one), one.get("scheme", "http")) for one in scopes)
        self._kinds |= numbers.keys()
        for kind in self._kinds:
            self._recorder.put(metrics.IN_FLIGHT, numbers[kind], *kind)


class Measurement:
    """Measures a service and its manager from now on, into a recorder.

    ``by_status``: whether this process counts the archived sessions.
    """

    def __init__(self, service: Service, recorder: Recorder, *, by_status: bool = True) -> None:
        runtime = service.manager.runtime
        self._storage = runtime.storage
        self._recorder = recorder
        service.traffic = Traffic()
        self._requests = RequestRecorder(recorder, service.traffic)
        self._batches = recorder.values(metrics.BATCHES)
        self._left: list[int] = []
        self._retries = recorder.count(metrics.RETRIES)
        _measure_storage(runtime.storage, recorder)
        _count_headers(runtime.engine.headers, recorder)
        _measure_sweeps(runtime.lifecycle, runtime.clock, recorder)
        _Counts(service, recorder, by_status=by_status)
        recorder.before_taking(self._note_queued)
        observing.on_batch.append(self._note_batch)
        observing.on_retry.append(self._note_retry)

    def note_now(self) -> None:
        """Note what is read from time to time: requests in flight, and the use of connections."""
        self._requests.note_in_flight()
        use, name = self._storage.pool_use(), system_of(self._storage)
        if use is not None:
            self._recorder.put(metrics.POOL_SIZE, use.size, name)
            self._recorder.put(metrics.POOL_IN_USE, use.in_use, name, "used")
            self._recorder.put(metrics.POOL_WAITING, use.waiting, name)

    def _note_batch(self, items: int, left: int) -> None:
        self._batches.append(items)
        self._left.append(left)

    def _note_queued(self) -> None:
        if self._left:
            self._recorder.put(metrics.QUEUED, max(self._left))
            self._left.clear()

    def _note_retry(self) -> None:
        self._retries.value += 1


def _measure_storage(storage: StorageProvider, recorder: Recorder) -> None:
    system = system_of(storage)
    for operation in operations_of(storage):
        times = _CallTimes(operation, system, recorder)
        timed = times.of_apply if operation == "apply" else times.of_call
        setattr(storage, operation, timed(getattr(storage, operation)))


class _CallTimes:
    """How long the calls of one operation of the store take."""

    def __init__(self, operation: str, system: str, recorder: Recorder) -> None:
        self._operation = operation
        self._system = system
        self._recorder = recorder
        self._of_successes = recorder.values(metrics.STORAGE, operation, system, "")

    def _of_failures(self, error: SessionError) -> list[float]:
        """Count a call that was refused or failed, and return the times of such calls."""
        code = error.code
        self._recorder.count(metrics.STORAGE_ERRORS, self._operation, code).value += 1
        return self._recorder.values(metrics.STORAGE, self._operation, self._system, code)

    def of_call(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return what calls the operation, and records how long it takes."""
        successes = self._of_successes

        @wraps(call)
        async def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the operation's own
            started, times = perf_counter(), successes
            try:
                return await call(*args, **kwargs)
            except SessionError as error:
                times = self._of_failures(error)
                raise
            finally:
                times.append(perf_counter() - started)

        return timed

    def of_apply(
        self, apply: Callable[[Change], Awaitable[Applied]]
    ) -> Callable[[Change], Awaitable[Applied]]:
        """Do the same for ``apply``; to pass on any arguments takes a quarter of the time."""
        successes = self._of_successes

        @wraps(apply)
        async def timed(change: Change) -> Applied:
            started, times = perf_counter(), successes
            try:
                return await apply(change)
            except SessionError as error:
                times = self._of_failures(error)
                raise
            finally:
                times.append(perf_counter() - started)

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
    times = recorder.values(metrics.SWEEPS)
    swept = recorder.count(metrics.SWEPT)
    sweep = lifecycle.sweep

    async def measured() -> list[Ended]:
        started = perf_counter()
        removed = await sweep()
        times.append(perf_counter() - started)
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
