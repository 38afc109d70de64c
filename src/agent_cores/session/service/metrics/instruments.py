"""Where the service is measured: requests, calls of the store, batches, sweeps, cached headers.

Everything is attached to objects that exist, so that a service without metrics pays nothing.
"""

from __future__ import annotations

import logging
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any

from agent_cores.session import observing
from agent_cores.session.errors import SessionError
from agent_cores.session.service.metrics import definitions as metrics
from agent_cores.session.service.metrics.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from agent_cores.session.header_cache import HeaderCache
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.models.query import Ended
    from agent_cores.session.service.app import Service
    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

_REST = 100
"""After a count, none for so many times as long as it took: at most a hundredth of the time."""
OPERATIONS = ("read", "apply", "find", "due", "count")
_NO_ROUTE = "none"


class RequestRecorder:
    """Records requests; the service calls it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def answered(self, route: str | None, status: int, seconds: float) -> None:
        """Record a request whose response has been sent."""
        self._recorder.tally(metrics.REQUESTS, route or _NO_ROUTE, str(status)).add(seconds)

    def refused(self, code: str) -> None:
        """Record a refusal or a failure, by the code of its error."""
        self._recorder.count(metrics.REFUSALS, code).value += 1


def measure(service: Service) -> Recorder:
    """Measure this service and its manager; return where that is recorded."""
    recorder = Recorder()
    runtime = service.manager.runtime
    service.observers.append(RequestRecorder(recorder))
    _measure_storage(runtime.storage, recorder)
    _count_headers(runtime.engine.headers, recorder)
    _measure_sweeps(runtime.lifecycle, runtime.clock, recorder)
    _count_after_sweeps(runtime.lifecycle, runtime.storage, runtime.clock, recorder)
    batches = recorder.tally(metrics.BATCHES)
    retries = recorder.count(metrics.RETRIES)

    def note_batch(items: int, left: int) -> None:
        batches.add(items)
        recorder.at_least(metrics.QUEUED, left)

    def note_retry() -> None:
        retries.value += 1

    observing.on_batch.append(note_batch)
    observing.on_retry.append(note_retry)
    return recorder


def note_pool(storage: StorageProvider, recorder: Recorder) -> None:
    """Note how the store's connections are used now."""
    use = storage.pool_use()
    if use is not None:
        recorder.gauges[metrics.POOL_SIZE.name] = use.size
        recorder.gauges[metrics.POOL_IN_USE.name] = use.in_use
        recorder.gauges[metrics.POOL_WAITING.name] = use.waiting


def _measure_storage(storage: StorageProvider, recorder: Recorder) -> None:
    for operation in OPERATIONS:
        setattr(storage, operation, _timed(getattr(storage, operation), operation, recorder))


def _timed(
    call: Callable[..., Awaitable[Any]], operation: str, recorder: Recorder
) -> Callable[..., Awaitable[Any]]:
    tally = recorder.tally(metrics.STORAGE, operation)

    @wraps(call)
    async def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the operation's own
        started = perf_counter()
        try:
            return await call(*args, **kwargs)
        except SessionError as error:
            recorder.count(metrics.STORAGE_ERRORS, operation, error.code).value += 1
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

    headers.get = counted  # type: ignore[method-assign]


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
        recorder.gauges[metrics.SWEEP_LAG.name] = max(lags, default=0.0)
        return removed

    lifecycle.sweep = measured  # type: ignore[method-assign]


def _count_after_sweeps(
    lifecycle: LifecycleManager,
    storage: StorageProvider,
    clock: Callable[[], datetime],
    recorder: Recorder,
) -> None:
    """Count the sessions after a sweep: what has expired is gone, so that few are due.

    Stores keep how many they hold, for each namespace; sessions by status they could only scan.
    """
    sweep = lifecycle.sweep
    next_at = 0.0

    async def counted() -> list[Ended]:
        nonlocal next_at
        removed = await sweep()
        started = perf_counter()
        if started < next_at:
            return removed
        try:
            counts = await storage.count(None, clock())
        except SessionError as error:
            logger.debug("the sessions could not be counted: %s", error)
        else:
            recorder.gauges[metrics.STORED.name] = counts.sessions
            recorder.gauges[metrics.DUE.name] = counts.due
        next_at = perf_counter() + _REST * (perf_counter() - started)
        return removed

    lifecycle.sweep = counted  # type: ignore[method-assign]
