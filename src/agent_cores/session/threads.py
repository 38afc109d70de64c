"""``Workers``: threads for blocking calls that an event loop awaits; and ``start_thread``.

``ThreadPoolExecutor``, and with it ``asyncio.to_thread``, accepts no work once the main thread has
ended, although other threads and their event loops may go on. These threads do. They are threads of
the operating system even if gevent has replaced ``threading``.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agent_cores.session.mailbox import own_mailbox
from agent_cores.session.process import Pause, original

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from agent_cores.session.mailbox import Mailbox

T = TypeVar("T")


def _gevent_is_active() -> bool:
    """Whether ``threading`` makes greenlets instead of threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _hub() -> Any:  # noqa: ANN401 - gevent's event loop of this thread
    return importlib.import_module("gevent").get_hub()


def _nothing() -> None:
    pass


def start_thread(work: Callable[[], None], name: str) -> Callable[[], None]:
    """Run ``work`` in a daemon thread of the operating system; return its ``join``.

    Under gevent, which can join only its own threads, ``join`` returns at once.
    """
    if _gevent_is_active():
        _hub()  # two threads that import its modules concurrently would deadlock
        original("_thread", "start_new_thread")(work, ())
        return _nothing
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread.join


def wait_for(future: Future[T], timeout: float | None = None) -> T:
    """Return ``future.result(timeout)``; under gevent, other greenlets run in the meantime.

    A gevent lock cannot wait for another thread, but its event loop can.
    """
    if not _gevent_is_active():
        return future.result(timeout)
    ready = importlib.import_module("gevent.event").Event()
    watcher = _hub().loop.async_()
    watcher.start(ready.set)
    try:
        future.add_done_callback(lambda _: watcher.send())
        ready.wait(timeout)
        return future.result(0)
    finally:
        watcher.stop()
        watcher.close()


class Workers:
    """Up to ``count`` threads, started when they are needed. Used from one event loop.

    Before this process forks, running jobs are finished, no other job starts, and ``before_fork``
    is called, which should close what a child must not inherit.
    """

    def __init__(
        self, count: int, name: str, *, before_fork: Callable[[], None] | None = None
    ) -> None:
        self._count = count
        self._name = name
        self._pause = Pause(before_fork)
        self._jobs: Any = original("queue", "SimpleQueue")()
        self._threads: list[_Thread] = []
        self._pending = 0

    @property
    def count(self) -> int:
        """The most threads there may be."""
        return self._count

    @property
    def pending(self) -> int:
        """How many jobs run, or wait for a thread."""
        return self._pending

    async def run(self, job: Callable[[], T]) -> T:
        """Run ``job`` in one of the threads; return its result or raise its error.

        Cancelling the caller does not stop a job that is running.
        """
        mailbox = own_mailbox()
        result: asyncio.Future[T] = mailbox.loop.create_future()
        self._pending += 1
        if self._pending > len(self._threads) and len(self._threads) < self._count:
            self._start(mailbox.loop)
        self._jobs.put(_Job(job, result, mailbox, self))
        return await result

    async def close(self) -> None:
        """Finish the queued jobs, then end the threads."""
        loop, threads = asyncio.get_running_loop(), self._threads
        self.end()
        for thread in threads:
            if thread.ended.get_loop() is loop:
                await thread.ended
                thread.join()

    def end(self) -> None:
        """Do what ``close`` does, without waiting."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)

    def __del__(self) -> None:
        self.end()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        ended: asyncio.Future[None] = loop.create_future()
        # Not self: the threads end with the last reference to it.
        answer = partial(_call_soon, loop, _end, ended)
        work = partial(_work, self._jobs, self._pause.new_lock(), answer)
        self._threads.append(_Thread(ended, start_thread(work, self._name)))

    def settle(
        self, future: asyncio.Future[Any], result: object, error: BaseException | None
    ) -> None:
        """Hand the result of a job to its caller. Called in the event loop."""
        self._pending -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class _Thread(NamedTuple):
    """One thread: a future that is done when its work is over, and its ``join``."""

    ended: asyncio.Future[None]
    join: Callable[[], None]


class _Job(NamedTuple):
    """A job, and the future that its caller awaits."""

    work: Callable[[], Any]
    result: asyncio.Future[Any]
    mailbox: Mailbox
    workers: Workers

    def run(self) -> None:
        result, failure = None, None
        if not self.result.cancelled():
            try:
                result = self.work()
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                failure = error
        self.mailbox.post(partial(self.workers.settle, self.result, result, failure))


def _work(jobs: Any, at_work: Any, ended: Callable[[], None]) -> None:  # noqa: ANN401 - a queue
    while True:
        job: _Job | None = jobs.get()
        if job is None:
            break
        with at_work:
            job.run()
        del job  # keep nothing alive while waiting
    ended()


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: Any) -> None:  # noqa: ANN401
    with suppress(RuntimeError):  # the event loop is closed, so nobody is waiting
        loop.call_soon_threadsafe(callback, *args)


async def in_thread(job: Callable[[], T], name: str) -> T:
    """Run one job in a thread of its own."""
    return await Workers(1, name).run(job)
