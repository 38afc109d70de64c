"""``SyncSessionManager``: the same verbs for blocking code, from any number of threads."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent_cores.session import (
    DEFAULT_TTL_HOURS,
    SessionEvent,
    SessionManager,
    SyncSessionManager,
)
from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    SessionNotFoundError,
    StorageUnavailableError,
    TurnHeldError,
    WrongContextError,
)
from agent_cores.session.storage.memory.provider import MemoryProvider
from scripts.generate_sync_manager import OF_THE_EVENT_LOOP, TARGET, generate

if TYPE_CHECKING:
    from types import FrameType

THREADS = 20


def members(kind: type) -> dict[str, object]:
    """Return the public members, but for those that are of use only in the manager's own loop."""
    names = [name for name in dir(kind) if not name.startswith("_")]
    return {name: getattr(kind, name) for name in names if name not in OF_THE_EVENT_LOOP}


@pytest.fixture
def sessions() -> Iterator[SyncSessionManager]:
    with SyncSessionManager("memory://") as manager:
        yield manager


@pytest.fixture
def new_threads() -> NewThreads:
    return NewThreads()


class NewThreads:
    """Counts the threads that were started since the test began."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def __len__(self) -> int:
        return len(set(threading.enumerate()) - self._before)


# ── what it is ───────────────────────────────────────────────────────────────────────────────────


def test_the_module_is_what_the_generator_makes_of_the_manager() -> None:
    assert TARGET.read_text(encoding="utf-8") == generate()


def test_both_managers_have_the_same_public_members() -> None:
    assert members(SyncSessionManager).keys() - {"of"} == members(SessionManager).keys()


@pytest.mark.parametrize("name", ["__init__", *members(SessionManager)])
def test_a_verb_has_the_arguments_of_its_asynchronous_twin(name: str) -> None:
    twin, verb = getattr(SessionManager, name), getattr(SyncSessionManager, name)
    if isinstance(twin, property):
        twin, verb = twin.fget, verb.fget
    expected = dict(inspect.signature(twin).parameters)
    expected.pop("any_loop", None)  # it always may
    assert inspect.signature(verb).parameters == expected
    assert not inspect.iscoroutinefunction(verb)
    assert verb.__doc__ or name == "__init__"


def test_a_ttl_left_out_is_told_from_a_24_that_was_given() -> None:
    default = inspect.signature(SyncSessionManager.create_session).parameters["ttl_hours"].default
    assert default is DEFAULT_TTL_HOURS
    with SyncSessionManager("memory://") as sessions:
        left_out = sessions.create_session("ann")
        assert sessions.get_session(left_out, "ann").metadata.ttl_seconds == 86_400
        sessions.renew_session(left_out, "ann", ttl_hours=None)
        assert sessions.get_session(left_out, "ann").metadata.ttl_seconds is None
        sessions.renew_session(left_out, "ann")
        assert sessions.get_session(left_out, "ann").metadata.ttl_seconds is None


# ── the verbs ────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_is_created_continued_and_read(sessions: SyncSessionManager) -> None:
    session_id = sessions.create_session("ann", {"tags": ["demo"]}, title="Rome")
    first = sessions.add_message(session_id, "ann", "user", "你好")
    added = sessions.add_messages(session_id, "ann", [{"role": "assistant", "content": "Hi"}])
    assert [first.seq, added[0].seq] == [1, 2]
    page = sessions.get_session_messages(session_id, "ann", 1)
    assert [message.content for message in page] == ["Hi"]
    assert page.has_more
    updated = sessions.update_session(session_id, "ann", {"city": "Rome"}, {"title": "Roma"})
    assert updated.metadata.title == "Roma"
    session = sessions.get_session(session_id, "ann")
    assert session.context == {"city": "Rome"}
    listed = sessions.list_user_sessions("ann", tags=["demo"])
    assert [session.id for session in listed] == [session_id]
    assert sessions.get_statistics() == {"sessions": 1, "due": 0}


def test_a_conversation_is_shared_transferred_and_erased(sessions: SyncSessionManager) -> None:
    session_id = sessions.create_session("ann")
    assert sessions.share_session(session_id, "ann", "bob").subject == "bob"
    assert sessions.revoke_access(session_id, "ann", "bob")
    assert sessions.set_visibility(session_id, "ann", "public").visibility == "public"
    assert sessions.transfer_ownership(session_id, "ann", "bob") is not None
    assert sessions.set_visibility(session_id, "bob", "private").owner_id == "bob"
    assert sessions.erase_user("bob").sessions == 1
    with pytest.raises(SessionNotFoundError):
        sessions.get_session(session_id, "bob")


def test_a_conversation_is_forked_rewound_archived_and_deleted(
    sessions: SyncSessionManager,
) -> None:
    session_id = sessions.create_session("ann")
    sessions.add_messages(session_id, "ann", [{"role": "user", "content": "x"}] * 3)
    fork = sessions.fork_session(session_id, "ann", up_to_seq=2)
    assert sessions.get_session(fork, "ann").metadata.message_count == 2
    assert sessions.rewind_session(session_id, "ann", 2).metadata.message_count == 2
    assert sessions.delete_message(session_id, "ann", 1)
    assert sessions.archive_session(session_id, "ann").status == "archived"
    assert sessions.unarchive_session(session_id, "ann").status == "active"
    assert sessions.delete_session(session_id, "ann")
    assert sessions.clean_expired_sessions() == 0


def test_an_error_reaches_the_caller_as_it_is(sessions: SyncSessionManager) -> None:
    session_id = sessions.create_session("ann")
    sessions.share_session(session_id, "ann", "bob")
    with pytest.raises(AccessDeniedError):
        sessions.add_message(session_id, "bob", "user", "x")
    with pytest.raises(InvalidInputError) as caught:
        sessions.create_session("")
    assert caught.value.field == "user_id"


def test_a_view_works_in_its_own_namespace_and_in_the_same_thread(
    sessions: SyncSessionManager, new_threads: NewThreads
) -> None:
    view = sessions.for_namespace("acme", groups_of=lambda _: ["staff"])
    session_id = view.create_session("ann")
    view.share_session(session_id, "ann", "group:staff")
    assert view.get_session(session_id, "bob").id == session_id
    with pytest.raises(SessionNotFoundError):
        sessions.get_session(session_id, "ann")
    assert [view.namespace, sessions.namespace] == ["acme", "default"]
    assert view.lifecycle is sessions.lifecycle
    assert len(new_threads) == 0


# ── turns ────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_is_held_for_the_length_of_a_block(sessions: SyncSessionManager) -> None:
    session_id = sessions.create_session("ann")
    with sessions.turn(session_id, "ann") as turn:
        message = sessions.add_message(session_id, "ann", "assistant", "x", turn=turn.token)
        assert message.seq == 1
        with pytest.raises(TurnHeldError), sessions.turn(session_id, "ann"):
            pytest.fail("two workers held one turn")
    with sessions.turn(session_id, "ann") as again:
        assert again.token != turn.token


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_a_block_passes_and_gives_the_turn_back(
    sessions: SyncSessionManager, error: type[BaseException]
) -> None:
    session_id = sessions.create_session("ann")
    with pytest.raises(error), sessions.turn(session_id, "ann"):
        raise error
    assert sessions.take_turn(session_id, "ann").token


def test_the_parts_of_a_turn_work_without_a_block(sessions: SyncSessionManager) -> None:
    session_id = sessions.create_session("ann")
    token = sessions.take_turn(session_id, "ann", token="mine").token or ""
    assert sessions.renew_turn(session_id, "ann", token).token == "mine"
    assert sessions.release_turn(session_id, "ann", token)


# ── threads ──────────────────────────────────────────────────────────────────────────────────────


def test_twenty_threads_append_to_one_session_without_loss(sessions: SyncSessionManager) -> None:
    session_id = sessions.create_session("ann")

    def append(number: int) -> list[int]:
        return [
            sessions.add_message(session_id, "ann", "user", f"{number}.{index}").seq
            for index in range(10)
        ]

    with ThreadPoolExecutor(THREADS) as pool:
        seqs = [seq for batch in pool.map(append, range(THREADS)) for seq in batch]
    assert sorted(seqs) == list(range(1, 10 * THREADS + 1))
    messages = sessions.get_session_messages(session_id, "ann", 1000)
    assert len({message.content for message in messages}) == 10 * THREADS


def test_twenty_request_threads_share_one_manager_that_nobody_initialized(
    new_threads: NewThreads,
) -> None:
    manager = SyncSessionManager("memory://")
    entered = threading.Barrier(THREADS)

    def request(number: int) -> int:
        user_id = f"user{number}"
        entered.wait()
        session_id = manager.create_session(user_id)
        with manager.turn(session_id, user_id) as turn:
            manager.add_message(session_id, user_id, "user", "x", turn=turn.token)
        with suppress(SessionNotFoundError):
            manager.get_session(session_id, "stranger")
            pytest.fail("a stranger has read it")
        return len(manager.list_user_sessions(user_id))

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(request, range(THREADS))) == [1] * THREADS
    assert len(new_threads) == 1
    manager.shutdown()
    assert len(new_threads) == 0


# ── starting and stopping ────────────────────────────────────────────────────────────────────────


def test_no_thread_runs_before_the_first_verb_or_after_the_last_shutdown(
    new_threads: NewThreads,
) -> None:
    manager = SyncSessionManager("memory://")
    assert len(new_threads) == 0
    manager.create_session("ann")
    assert len(new_threads) == 1
    manager.shutdown()
    assert len(new_threads) == 0


def test_a_manager_stops_with_the_shutdown_that_matches_the_last_initialize(
    new_threads: NewThreads,
) -> None:
    manager = SyncSessionManager("memory://")
    with manager:
        with manager:
            manager.initialize()
        manager.shutdown()
        assert len(new_threads) == 1
    assert len(new_threads) == 0
    manager.shutdown()


def test_a_manager_that_was_shut_down_starts_again() -> None:
    provider = MemoryProvider()
    manager = SyncSessionManager(provider)
    for number in range(3):
        with manager:
            manager.create_session("ann", session_id=f"s{number}")
    assert manager.get_statistics()["sessions"] == 3
    manager.shutdown()


def test_a_store_that_does_not_start_leaves_no_thread(new_threads: NewThreads) -> None:
    class Broken(MemoryProvider):
        async def initialize(self) -> None:
            detail = "no answer"
            raise StorageUnavailableError(detail)

    with pytest.raises(StorageUnavailableError, match="no answer"):
        SyncSessionManager(Broken).initialize()
    assert len(new_threads) == 0


def test_shutdown_waits_for_the_calls_under_way(new_threads: NewThreads) -> None:
    manager = SyncSessionManager("memory://")
    entered, release = threading.Event(), threading.Event()

    async def slow(_event: SessionEvent) -> None:
        entered.set()
        await asyncio.to_thread(release.wait)

    manager.lifecycle.on("session.created", slow)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(manager.create_session, "ann")
        entered.wait()
        stop = pool.submit(manager.shutdown)
        assert wait([stop], timeout=0.05).not_done
        release.set()
        assert call.result()
        stop.result()
    assert len(new_threads) == 0


def test_a_shutdown_within_a_turn_takes_effect_at_its_end(new_threads: NewThreads) -> None:
    manager = SyncSessionManager("memory://")
    session_id = manager.create_session("ann")
    with manager.turn(session_id, "ann") as turn:
        manager.shutdown()
        assert manager.add_message(session_id, "ann", "user", "x", turn=turn.token).seq == 1
        assert len(new_threads) == 1
    assert len(new_threads) == 0


def test_a_manager_taken_up_again_within_a_turn_lives_on(new_threads: NewThreads) -> None:
    manager = SyncSessionManager("memory://")
    manager.initialize()
    session_id = manager.create_session("ann")
    with manager.turn(session_id, "ann"):
        manager.shutdown()
        manager.initialize()
    assert len(new_threads) == 1
    manager.shutdown()
    assert len(new_threads) == 0
    with manager:
        assert manager.get_statistics()["sessions"] == 1


def test_an_interrupted_wait_cancels_its_verb(sessions: SyncSessionManager) -> None:
    cancelled = threading.Event()

    async def for_ever(_event: SessionEvent) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    sessions.lifecycle.on("session.created", for_ever)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            sessions.create_session("ann")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert cancelled.wait(10)
    assert sessions.get_statistics()["sessions"] == 1


# ── where it may not be used ─────────────────────────────────────────────────────────────────────


def test_a_handler_that_calls_a_verb_is_told_that_it_would_wait_for_itself(
    sessions: SyncSessionManager,
) -> None:
    errors: list[BaseException] = []

    def handler(event: SessionEvent) -> None:
        for attempt in (
            lambda: sessions.get_session(event.session_id, "ann"),
            lambda: sessions.turn(event.session_id, "ann").__enter__(),
            sessions.initialize,
            sessions.shutdown,
        ):
            with pytest.raises(WrongContextError, match="own event loop") as caught:
                attempt()
            errors.append(caught.value)

    sessions.lifecycle.on("session.created", handler)
    sessions.create_session("ann")
    assert len(errors) == 4


def run(program: str) -> subprocess.CompletedProcess[str]:
    head = "import os\nfrom agent_cores.session import SyncSessionManager\n"
    command = [sys.executable, "-W", "ignore", "-c", head + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_forked_child_is_refused_what_its_parent_has_opened() -> None:
    program = """
from agent_cores.session.errors import WrongContextError
from agent_cores.session.storage.memory.provider import MemoryProvider
manager = SyncSessionManager(MemoryProvider())
manager.create_session("ann")
child = os.fork()
if child == 0:
    try:
        manager.create_session("ann")
    except WrongContextError as error:
        os._exit(7 if "after a fork" in str(error) else 1)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), manager.get_statistics()["sessions"])
"""
    assert run(program).stdout.split() == ["7", "1"]


def test_a_manager_made_before_a_fork_works_in_the_child() -> None:
    program = """
manager = SyncSessionManager("memory://")
child = os.fork()
with manager:
    manager.create_session("ann")
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(program).stdout.split() == ["0"]


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "manager.initialize()"])
def test_a_program_that_forgets_to_shut_down_ends_and_closes_its_store(ending: str) -> None:
    program = f"""
from agent_cores.session.storage.memory.provider import MemoryProvider
class Told(MemoryProvider):
    async def shutdown(self):
        print("closed")
manager = SyncSessionManager(Told)
manager.create_session("ann")
{ending}
"""
    ended = run(program)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")


@pytest.mark.parametrize("held", ["", "block = manager.turn(session_id, 'ann'); block.__enter__()"])
def test_a_program_that_forgets_to_shut_down_closes_an_sqlite_file(
    tmp_path: Path, held: str
) -> None:
    program = f"""
manager = SyncSessionManager("sqlite:///{tmp_path}/sessions.db")
session_id = manager.create_session("ann")
manager.add_message(session_id, "ann", "user", "x")
{held}
"""
    ended = run(program)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["sessions.db"]  # no log is left to replay


@pytest.mark.parametrize("wait", ["await asyncio.Event().wait()", "threading.Event().wait()"])
def test_a_program_ends_though_another_thread_waits_for_a_verb(wait: str) -> None:
    program = f"""
import asyncio, threading
from agent_cores.session.portal import lifetime
lifetime.EXIT_SECONDS = 0.2
manager = SyncSessionManager("memory://")
entered = threading.Event()
async def for_ever(event):
    entered.set()
    {wait}
manager.lifecycle.on("session.created", for_ever)
threading.Thread(target=manager.create_session, args=("ann",), daemon=True).start()
entered.wait()
"""
    assert run(program).returncode == 0


def test_a_thread_that_outlives_the_main_one_can_go_on() -> None:
    program = """
import threading
manager = SyncSessionManager("memory://")
def work():
    threading.main_thread().join()
    for _ in range(100):
        manager.create_session("ann")
    print(manager.get_statistics()["sessions"])
threading.Thread(target=work).start()
manager.create_session("ann")
"""
    ended = run(program)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "101\n", "")
