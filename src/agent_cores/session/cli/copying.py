"""``agent-sessions copy``: a store into another one, by as many processes as there are cores."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from cyclopts import Parameter

from agent_cores.session.cli.cores import usable_cores
from agent_cores.session.cli.moving import Flag, finish, name_them, report
from agent_cores.session.cli.opening import Json, Line, Where, Yes, recorded
from agent_cores.session.cli.output import amount, fail, progress_bar, say, say_json
from agent_cores.session.cli.status import Status, status_of
from agent_cores.session.cli.upkeep import confirm
from agent_cores.session.errors import ConfigurationError, InvalidInputError, SessionError
from agent_cores.session.inputs import checked_namespace, whole_number
from agent_cores.session.models.times import utc_now
from agent_cores.session.moving.copying import (
    Comparison,
    compare_stores,
    copy_sessions,
    merged_comparison,
)
from agent_cores.session.moving.tally import Tally, merged
from agent_cores.session.moving.walking import EVERYTHING, Share
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.verbs import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableSequence
    from concurrent.futures import Future

    from agent_cores.session.cli.output import ShowProgress
    from agent_cores.session.storage.base import StorageProvider

FEW = 2_000
"""Up to so many sessions one process is done before another has started."""
_MOST_PROCESSES = 64
_MOST_CONNECTIONS = 64
"""To each store, of all processes together, if that is two for each: servers often allow 100."""
_COLLECTIONS = 50_000, 10, 10
"""Thresholds of the garbage collector: the usual ones cost an eighth of the time of a copy."""
_LOOK_SECONDS = 0.2
_BAR = "copy and compare"


class _Job(NamedTuple):
    """What to copy."""

    source: str
    target: str
    namespace: str | None
    replace: bool


class Done(NamedTuple):
    """What was copied, how the stores compare, and how many seconds each of the two took."""

    tally: Tally
    compared: Comparison
    copying: float
    comparing: float


class _Failure(NamedTuple):
    """An error of another process: its exit status, its text and its code."""

    status: Status
    text: str
    code: str = "internal"


class _PartFailedError(SessionError):
    """Another process of the copy has failed."""

    def __init__(self, failure: _Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def copy(
    *,
    source: Annotated[str, Parameter(name="--from")],
    target: Annotated[str, Parameter(name="--to")],
    namespace: str | None = None,
    part: str | None = None,
    processes: int | None = None,
    replace: Flag = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Copy every session of a store that nobody writes to into another store, and compare both.

    Running it again adds nothing, and ends what was interrupted.

    Parameters
    ----------
    source
        The storage URL of the store to read.
    target
        The storage URL of the store to write.
    namespace
        Only the sessions of this namespace.
    part
        Such as 1/2: only this half of the sessions, so that two machines can divide them.
    processes
        How many processes divide the sessions. Default: one for each core that the affinity
        and the CPU quota of the container leave; one for few sessions, and for a target in SQLite,
        which one process writes at a time.
    replace
        Replace sessions that the target holds in another state. Asks first.
    yes
        Do not ask.
    as_json
        Print one line of JSON.
    """
    if source == target:
        raise ConfigurationError("--from and --to are the same store")
    if namespace is not None:
        checked_namespace(namespace)
    if replace:
        confirm("Replace the sessions that the target holds in another state?", yes=yes)
    if part is not None and processes not in {None, 1}:
        raise ConfigurationError("give --part or --processes, not both")
    if processes is not None:
        whole_number(processes, "processes", 1, _MOST_PROCESSES)
    share = None if part is None else _share(part)
    job = _Job(source, target, namespace, replace)
    line = Line("copy_sessions")
    try:
        with recorded(Where(namespace=namespace), line):
            done = _audited(job, share, processes, line)
    except _PartFailedError as error:
        fail(error.failure.text, error.failure.status)
    tally, compared = done.tally, done.compared
    if as_json:
        seconds = {"copying": round(done.copying, 3), "comparing": round(done.comparing, 3)}
        equal = compared.is_equal
        say_json({"copied": tally, "compared": compared, "equal": equal, "seconds": seconds})
    else:
        report(tally, "copied", as_json=False)
        if compared.is_equal:
            both = amount(compared.sessions, compared.messages)
            say(f"Both stores hold {both}: sha256 {compared.source}")
    name_them("in another state in the target, or missing there", compared.differing)
    finish(tally, failed=not compared.is_equal)


def _audited(job: _Job, share: Share | None, processes: int | None, line: Line) -> Done:
    try:
        done = _copied(job, share, processes)
    except _PartFailedError as error:
        line.code = error.failure.code
        raise
    line.is_complete = done.tally.is_complete and done.compared.is_equal
    return done


def _copied(job: _Job, share: Share | None, processes: int | None) -> Done:
    total = asyncio.run(_prepared(job))
    if share is not None:
        return _here(job, share, total // share.of)
    if processes is None:
        alone = total <= FEW or job.target.startswith("sqlite:")
        processes = 1 if alone else min(usable_cores(), _MOST_PROCESSES)
    return _here(job, EVERYTHING, total) if processes == 1 else _divided(job, processes, total)


async def _prepared(job: _Job) -> int:
    """Open both stores, which prepares the target's tables; return how many sessions there are."""
    held, copied = _stores(job, EVERYTHING)
    await held.initialize()
    try:
        await copied.initialize()
        await copied.shutdown()
        counted = await held.count(job.namespace, utc_now())
        return counted.sessions
    finally:
        await held.shutdown()


def _here(job: _Job, share: Share, total: int) -> Done:
    """Copy and compare in this process."""
    with progress_bar(_BAR, 2 * total) as progress:
        return _run(job, share, _Progress([0, 0], 0, 1, progress))


def _divided(job: _Job, processes: int, total: int) -> Done:
    """Copy and compare in several processes, each with its share of the sessions."""
    context = get_context("spawn")
    counts = context.Array("q", 2 * processes)
    with (
        progress_bar(_BAR, 2 * total) as progress,
        ProcessPoolExecutor(processes, context, _share_counts, (counts,)) as pool,
    ):
        shares = [Share(number, processes) for number in range(1, processes + 1)]
        with _interrupts_held():  # the processes begin here, and keep that
            futures = [pool.submit(_in_process, job, share) for share in shares]
        try:
            _watch(futures, counts, progress)
            outcomes = [future.result() for future in futures]
        except BrokenProcessPool:
            detail = "a process of the copy was killed, perhaps for lack of memory; run it again"
            raise _PartFailedError(_Failure(Status.FAILED, detail)) from None
        except BaseException:
            for process in active_children():
                process.terminate()
            raise
    done: list[Done] = []
    for outcome in outcomes:
        if isinstance(outcome, _Failure):
            raise _PartFailedError(outcome)
        done.append(outcome)
    return Done(
        merged(one.tally for one in done),
        merged_comparison(one.compared for one in done),
        max(one.copying for one in done),
        max(one.comparing for one in done),
    )


def _watch(futures: list[Future[Done | _Failure]], counts: Any, show: ShowProgress | None) -> None:  # noqa: ANN401 - multiprocessing's
    """Show how far the processes are, until all have ended."""
    pending = set(futures)
    while pending:
        _, pending = wait(pending, timeout=_LOOK_SECONDS)
        if show is not None:
            show(sum(counts[:]))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back: the processes that begin in the block never get it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_counts: Any = None
"""In a process of several: how many sessions each has copied, then how many it has compared."""


def _share_counts(counts: Any) -> None:  # noqa: ANN401 - multiprocessing's
    global _counts  # noqa: PLW0603 - the way into a process of a pool
    _counts = counts
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """End this process if the one that started it was killed: nothing else would end it."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _in_process(job: _Job, share: Share) -> Done | _Failure:
    try:
        return _run(job, share, _Progress(_counts, share.number - 1, share.of))
    except (SessionError, OSError) as error:
        return _Failure(status_of(error), str(error), audit.outcome_of(error))


class _Progress(NamedTuple):
    """Where one process notes how many sessions it has copied and compared."""

    counts: MutableSequence[int]
    place: int
    processes: int
    show: Callable[[int], None] | None = None

    def copied(self, done: int) -> None:
        self._note(self.place, done)

    def compared(self, done: int) -> None:
        self._note(self.processes + self.place, done)

    def _note(self, place: int, done: int) -> None:
        self.counts[place] = done
        if self.show is not None:
            self.show(sum(self.counts))


def _run(job: _Job, share: Share, progress: _Progress) -> Done:
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECTIONS)
    try:
        return asyncio.run(_copy(job, share, progress))
    finally:
        gc.set_threshold(*before)


async def _copy(job: _Job, share: Share, progress: _Progress) -> Done:
    held, copied = _stores(job, share)
    await held.initialize()
    try:
        await copied.initialize()
        try:
            started = perf_counter()
            tally = await copy_sessions(
                held,
                copied,
                namespace=job.namespace,
                share=share,
                replace=job.replace,
                progress=progress.copied,
            )
            between = perf_counter()
            compared = await compare_stores(
                held,
                copied,
                namespace=job.namespace,
                share=share,
                progress=progress.compared,
            )
            return Done(tally, compared, between - started, perf_counter() - between)
        finally:
            await copied.shutdown()
    finally:
        await held.shutdown()


def _stores(job: _Job, share: Share) -> list[StorageProvider]:
    settings = SessionSettings.load(cleanup_interval=0)
    size = min(settings.pool_size, max(_MOST_CONNECTIONS // share.of, 2))
    settings = msgspec.structs.replace(settings, pool_size=size)
    reading = msgspec.structs.replace(settings, schema="check")  # what is read is not altered
    stores = [
        StorageFactory.create(job.source, settings=reading),
        StorageFactory.create(job.target, settings=settings),
    ]
    for store in stores:
        if not store.capabilities.durable:
            raise ConfigurationError(f"{store.describe()} keeps nothing after its process ends")
    return stores


def _share(part: str) -> Share:
    found = re.fullmatch(r"([1-9]\d{0,2})/([1-9]\d{0,2})", part)
    if found is None or int(found[1]) > int(found[2]):
        raise InvalidInputError("part", "is like 1/2 or 2/2: which part, and of how many")
    return Share(int(found[1]), int(found[2]))
