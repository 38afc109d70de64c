"""Managers made with ``any_loop=True``: forks, and programs that end in every order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import asyncio, atexit, os, sys, threading, time
from agent_cores.session import SessionManager, SyncSessionManager, get_session_manager
from agent_cores.session.portal import lifetime
from agent_cores.session.storage.memory.provider import MemoryProvider
class Store(MemoryProvider):
    async def shutdown(self):
        print("closed", flush=True)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", HEAD + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "program",
    [
        "asyncio.run(manager.create_session('ann'))",
        "asyncio.run(manager.initialize())",
        "asyncio.run(manager.create_session('ann')); raise SystemExit(0)",
        "asyncio.run(manager.create_session('ann')); del manager",
        (
            "async def main():\n    await manager.create_session('ann')\n    sys.exit(0)\n"
            "asyncio.run(main())"
        ),
        (
            "blocking = SyncSessionManager.of(manager)\n"
            "blocking.turn(blocking.create_session('ann'), 'ann').__enter__()"
        ),
        (
            "async def main():\n"
            "    block = manager.turn(await manager.create_session('ann'), 'ann')\n"
            "    await block.__aenter__()\n"
            "asyncio.run(main())"
        ),
        (
            "def work():\n"
            "    asyncio.run(manager.create_session('ann'))\n"
            "thread = threading.Thread(target=work); thread.start(); thread.join()"
        ),
        (
            "atexit.register(lambda: asyncio.run(manager.shutdown()))\n"
            "asyncio.run(manager.create_session('ann'))"
        ),
        (
            "asyncio.run(manager.create_session('ann'))\n"
            "atexit.register(lambda: asyncio.run(manager.shutdown()))"
        ),
    ],
)
def test_a_program_that_ends_closes_the_store_once_and_says_nothing(program: str) -> None:
    ended = run(f"manager = SessionManager(Store, any_loop=True)\n{program}\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")


@pytest.mark.parametrize("hook", ["await asyncio.Event().wait()", "time.sleep(60)"])
def test_a_program_ends_while_a_loop_waits_for_a_verb(hook: str) -> None:
    ended = run(f"""
lifetime.EXIT_SECONDS = 0.2
manager = SessionManager("memory://", any_loop=True)
entered = threading.Event()
async def for_ever(event):
    entered.set()
    {hook}
manager.lifecycle.on("session.created", for_ever)
work = lambda: asyncio.run(manager.create_session("ann"))
threading.Thread(target=work, daemon=True).start()
entered.wait()
""")
    assert ended.returncode == 0


def test_a_thread_that_outlives_the_main_one_goes_on_and_is_closed_after() -> None:
    ended = run("""
manager = SessionManager(Store, any_loop=True)
def work():
    threading.main_thread().join()
    time.sleep(0.1)
    for _ in range(20):
        asyncio.run(manager.create_session("ann"))
    print(asyncio.run(manager.get_statistics())["sessions"], flush=True)
threading.Thread(target=work).start()
asyncio.run(manager.create_session("ann"))
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n21\nclosed\n", "")


@pytest.mark.parametrize(("store", "messages"), [("memory://", 1), ("sqlite", 8)])
def test_forked_children_use_the_manager_of_their_parent_with_connections_of_their_own(
    tmp_path: Path, store: str, messages: int
) -> None:
    ended = run(
        """
manager = get_session_manager(sys.argv[1], any_loop=True)
blocking = SyncSessionManager.of(manager)
told = []
manager.lifecycle.on("session.created", lambda event: told.append(os.getpid()))
async def write(text):
    await manager.add_message("talk", "ann", "user", text)
blocking.create_session("ann", session_id="talk")
over = threading.Event()
def keep_writing():
    while not over.is_set():
        asyncio.run(manager.create_session("bob"))
busy = threading.Thread(target=keep_writing)
busy.start()
children = []
for number in range(7):
    child = os.fork()
    if child == 0:
        assert get_session_manager(sys.argv[1], any_loop=True) is manager
        told.clear()
        if "sqlite" in sys.argv[1]:
            asyncio.run(write(str(number)))
        blocking.create_session("eve", session_id=f"own{number}")
        assert told == [os.getpid()], told
        sys.exit(7)
    children.append(child)
print({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children})
over.set()
busy.join()
asyncio.run(write("parent"))
print(blocking.get_session("talk", "ann").metadata.message_count)
blocking.shutdown()
""",
        f"sqlite:///{tmp_path}/sessions.db" if store == "sqlite" else store,
    )
    assert (ended.stdout, ended.stderr) == (f"{{7}}\n{messages}\n", "")


LATE = """
from agent_cores.session.portal.thread import PortalThread
lifetime.EXIT_SECONDS = 0.2
manager = SessionManager(Slow, any_loop=True)
blocking = SyncSessionManager.of(manager)
begin = PortalThread.{begin}
counted = threading.Event()
def late(thread, *arguments):
    "Begin a call that was counted while the thread went on, once that has ended."
    counted.set()
    thread.wait_until_ended()
    return begin(thread, *arguments)
"""


@pytest.mark.parametrize(
    ("begin", "call"),
    [
        ("blocking", "blocking.create_session('ann')"),
        ("awaited", "asyncio.run(manager.create_session('ann'))"),
    ],
)
def test_a_program_ends_although_a_call_begins_after_the_thread_has_ended(
    begin: str, call: str
) -> None:
    ended = run(f"""
Slow = Store
{LATE.format(begin=begin)}
def work():
    {call}
    PortalThread.{begin} = late
    try:
        {call}
    except asyncio.CancelledError:
        print("cancelled", flush=True)
threading.Thread(target=work).start()
counted.wait()
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\ncancelled\n", "")


@pytest.mark.parametrize(
    ("begin", "hold"),
    [
        ("blocking", "    with blocking.turn(talk, 'ann'):\n        leave()"),
        ("awaited", "    asyncio.run(hold(talk))"),
    ],
)
def test_a_program_ends_although_a_block_is_left_while_the_store_is_closed(
    begin: str, hold: str
) -> None:
    ended = run(f"""
held, closing, left = threading.Event(), threading.Event(), threading.Event()
class Slow(Store):
    async def shutdown(self):
        closing.set()
        while not (left.is_set() or counted.is_set()):
            await asyncio.sleep(0.001)
        await super().shutdown()
{LATE.format(begin=begin)}
def leave():
    held.set()
    closing.wait()
    PortalThread.{begin} = late
async def hold(talk):
    async with manager.turn(talk, "ann"):
        leave()
def work():
    talk = blocking.create_session("ann")
{hold}
    print("left", flush=True)
    left.set()
threading.Thread(target=work).start()
held.wait()
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\nclosed\n", "")
