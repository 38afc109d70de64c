"""Forks, threads that outlive the main one, gevent, and an account without a home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STORES = ("memory://", "sqlite:///{folder}/sessions.db")


def run(
    program: str, folder: Path, store: str = "memory://", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; its argument is the URL of the store."""
    command = [sys.executable, "-W", "ignore", "-c", program, store.format(folder=folder)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
    )


# ── forks ────────────────────────────────────────────────────────────────────────────────────────

FORKS = """
import asyncio, os, sys, threading
from agent_cores.session import SyncSessionManager, get_session_manager

url = sys.argv[1]
loop = asyncio.new_event_loop()
wait = loop.run_until_complete
parent = get_session_manager(url)
wait(parent.create_session("ann", session_id="talk"))
busy = SyncSessionManager(url)
busy.create_session("bob", session_id="busy")
said = []

def keep_writing():
    while not over.is_set():
        busy.add_message("busy", "bob", "user", str(len(said)))
        said.append(len(said))

async def child(number):
    own = get_session_manager(url)
    assert own is not parent and get_session_manager(url) is own
    async with own:
        if "sqlite" in url:
            await own.add_message("talk", "ann", "user", str(number))
        else:
            await own.create_session("ann")

over = threading.Event()
writing = threading.Thread(target=keep_writing)
writing.start()
children = []
for number in range(5):
    wait(parent.add_message("talk", "ann", "user", "parent"))
    pid = os.fork()
    if pid == 0:
        asyncio.run(child(number))
        sys.exit(7)  # with all that an interpreter does at its end
    children.append(pid)
ended = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
over.set()
writing.join()
assert busy.get_session("busy", "bob").metadata.message_count == len(said) > 0
busy.shutdown()
print(ended, wait(parent.get_session("talk", "ann")).metadata.message_count)
wait(parent.shutdown())
"""


@pytest.mark.parametrize(("store", "messages"), [(STORES[0], 5), (STORES[1], 10)])
def test_a_forked_child_gets_a_manager_of_its_own(
    tmp_path: Path, store: str, messages: int
) -> None:
    ended = run(FORKS, tmp_path, store)
    assert (ended.stdout, ended.stderr) == (f"{{7}} {messages}\n", "")


def test_what_a_child_has_written_outlives_a_parent_that_closes_the_file_first(
    tmp_path: Path,
) -> None:
    program = """
import os, sys
from agent_cores.session import SyncSessionManager
with SyncSessionManager(sys.argv[1]) as parent:
    parent.create_session("ann", session_id="talk")
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        own = SyncSessionManager(sys.argv[1])
        own.add_message("talk", "ann", "user", "one")
        assert os.read(told, 1)
        own.add_message("talk", "ann", "user", "two")
        os._exit(0)  # as if it were killed: the log is not tidied up
os.write(tell, b"x")
assert os.waitpid(pid, 0)[1] == 0
with SyncSessionManager(sys.argv[1]) as later:
    print([message.content for message in later.get_session_messages("talk", "ann")])
"""
    ended = run(program, tmp_path, STORES[1])
    assert (ended.stdout, ended.stderr) == ("['one', 'two']\n", "")


def test_a_child_forked_before_anything_was_opened_uses_the_manager_that_there_is(
    tmp_path: Path,
) -> None:
    program = """
import asyncio, os, sys
from agent_cores.session import get_session_manager
made = get_session_manager(sys.argv[1])
pid = os.fork()
assert get_session_manager(sys.argv[1]) is made
asyncio.run(made.create_session("ann"))
if pid:
    print(os.waitpid(pid, 0)[1])
"""
    ended = run(program, tmp_path)
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_a_forked_child_gets_a_client_of_its_own(tmp_path: Path) -> None:
    program = """
import asyncio, http.server, os, sys, threading
from agent_cores.session import get_session_manager

class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b'{"namespace": "default", "rights": [], "sessions": 3, "due": 0}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()

def client():
    return get_session_manager(f"http://127.0.0.1:{server.server_port}", api_key="a" * 40)

async def count():
    return (await client().get_statistics())["sessions"]

loop = asyncio.new_event_loop()
parents = client()
assert loop.run_until_complete(count()) == 3
pid = os.fork()
if pid == 0:
    assert client() is not parents
    async def own():
        async with client():
            return await count()
    assert asyncio.run(own()) == 3
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), client() is parents)
assert loop.run_until_complete(count()) == 3
loop.run_until_complete(parents.shutdown())
"""
    ended = run(program, tmp_path)
    assert (ended.stdout, ended.stderr) == ("7 True\n", "")


def test_a_child_does_not_wait_for_a_thread_that_its_parent_has(tmp_path: Path) -> None:
    program = """
import os, sys, threading
import agent_cores.session.session_manager as module
module._lock.acquire()  # as a thread does that is in the middle of it
if os.fork() == 0:
    module.get_session_manager(sys.argv[1])
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert run(program, tmp_path).stdout == "7\n"


# ── threads that outlive the main one ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("store", STORES)
def test_a_thread_that_outlives_the_main_one_opens_managers_of_its_own(
    tmp_path: Path, store: str
) -> None:
    program = """
import sys, threading

def late():
    threading.main_thread().join()
    import asyncio
    from agent_cores.session import SessionManager, SyncSessionManager

    async def count():
        async with SessionManager(sys.argv[1]) as sessions:
            await sessions.create_session("ann")
            return len(await sessions.list_user_sessions("ann"))

    with SyncSessionManager(sys.argv[1]) as sessions:
        talk = sessions.create_session("ann")
        with sessions.turn(talk, "ann") as turn:
            sessions.add_message(talk, "ann", "user", "hi", turn=turn.token)
        print(sessions.get_session(talk, "ann").metadata.message_count, asyncio.run(count()))

threading.Thread(target=late).start()
"""
    ended = run(program, tmp_path, store)
    assert (ended.stdout, ended.stderr) == (f"1 {2 if 'sqlite' in store else 1}\n", "")


# ── gevent ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("store", STORES)
def test_greenlets_share_a_manager_and_event_loops_run_beside_it(
    tmp_path: Path, store: str
) -> None:
    program = """
from gevent import monkey
monkey.patch_all()
import asyncio, sys, gevent
from agent_cores.session import SyncSessionManager
from agent_cores.session.errors import SessionNotFoundError

ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0)

def say(number):
    for _ in range(5):
        sessions.add_message("talk", "ann", "user", str(number))

with SyncSessionManager(sys.argv[1]) as sessions:
    sessions.create_session("ann", session_id="talk")
    ticking = gevent.spawn(tick)
    before = len(ticks)
    gevent.joinall([gevent.spawn(say, number) for number in range(10)], raise_error=True)
    assert len(ticks) > before + 10, "other greenlets stood still"
    ticking.kill()
    assert asyncio.run(asyncio.sleep(0, "beside")) == "beside"
    assert gevent.spawn(asyncio.run, asyncio.sleep(0, "beside")).get() == "beside"
    with sessions.turn("talk", "ann") as turn:
        sessions.add_message("talk", "ann", "user", "turn", turn=turn.token)
    try:
        sessions.get_session("none", "ann")
    except SessionNotFoundError:
        print(sessions.get_session("talk", "ann").metadata.message_count)
    with gevent.Timeout(0.001, False):
        for _ in range(10_000):
            sessions.add_message("talk", "ann", "user", "late")
    assert sessions.get_session("talk", "ann").metadata.message_count >= 51
"""
    ended = run(program, tmp_path, store)
    assert (ended.stdout, ended.stderr) == ("51\n", "")


# ── no home ──────────────────────────────────────────────────────────────────────────────────────

NAMELESS = """
import asyncio, os, pwd
def nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
os.environ.pop("HOME", None)
from agent_cores.session import SessionManager
from agent_cores.session.errors import ConfigurationError
try:
    asyncio.run(SessionManager().create_session("ann"))
    print("kept")
except ConfigurationError as error:
    print(error)
"""


def test_a_user_without_a_home_keeps_sessions_where_xdg_data_home_says(tmp_path: Path) -> None:
    ended = run(NAMELESS, tmp_path, XDG_DATA_HOME=str(tmp_path / "data"))
    assert (ended.stdout, ended.stderr) == ("kept\n", "")
    assert (tmp_path / "data/agent-cores-session/sessions.db").is_file()


def test_a_user_without_any_folder_is_told_what_to_set(tmp_path: Path) -> None:
    ended = run(NAMELESS, tmp_path, XDG_DATA_HOME="")
    assert ended.stderr == ""
    for name in ("HOME", "XDG_DATA_HOME", "SESSION_STORAGE_URL"):
        assert name in ended.stdout
