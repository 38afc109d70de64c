"""gunicorn and Celery run what docs/workers.md, docs/flask.md and docs/fastapi.md show."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_cores.session import SyncSessionManager
from tests.servers.redis import RedisServer
from tests.test_documents import ROOT, blocks

SECONDS = 60
DOCS = ROOT / "docs"
WORKERS = DOCS / "workers.md"
USED_BY_THE_PARENT = """
with app.app_context():
    current_sessions().create_session("parent")
"""
PID_IN_FLASK = """
@app.get("/pid")
def pid():
    import os
    return str(os.getpid())
"""
PID_IN_FASTAPI = PID_IN_FLASK.replace("return str(os.getpid())", "return os.getpid()")


def commands(program: str) -> list[list[str]]:
    """Return the arguments of the commands on the page that start with this program."""
    lines = "".join(blocks(WORKERS, "console")).splitlines()
    return [line.split()[2:] for line in lines if line.startswith(f"$ {program} ")]


@contextmanager
def started(folder: Path, program: str, *arguments: str) -> Iterator[str]:
    """Run a program in a folder until it is interrupted; yield what it says until it is ready."""
    log = folder / "log"
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *arguments],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SESSION_CLEANUP_INTERVAL": "1"},
        )
    try:
        ready = re.compile(r"Booting worker|Application startup complete|celery@.* ready")
        wait_until(lambda: ready.search(log.read_text()) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(SECONDS)
    assert status == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def asked(url: str, method: str = "GET", body: bytes | None = None) -> str:
    request = urllib.request.Request(  # noqa: S310 - our own server
        url, body, {"X-User-Id": "ann", "Connection": "close"}, method=method
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310 - as above
        text: str = response.read().decode()
    return text


def ask_all(address: str, path: str) -> str:
    """Ask twenty questions of one conversation at once, and reach both workers; return its id."""
    chat: str = json.loads(asked(f"{address}/chats", "POST"))["id"]
    url = f"{address}/chats/{chat}/messages{path}"
    with ThreadPoolExecutor(8) as pool:
        replies = pool.map(lambda n: asked(url, "POST", f"Hotels {n}?".encode()), range(20))
    assert set(replies) == {"Three hotels."}
    first = asked(f"{address}/pid")
    wait_until(lambda: asked(f"{address}/pid") != first)
    return chat


def listening(log: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", log)
    assert found is not None, log
    return found[0]


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("threads", [1, 4])
def test_gunicorn_serves_the_application_of_the_page_about_flask(
    tmp_path: Path, preload: bool, threads: int
) -> None:
    [code] = blocks(DOCS / "flask.md", "python")
    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    parent = USED_BY_THE_PARENT if preload else ""
    (tmp_path / "chat.py").write_text(code.replace("memory://", store) + PID_IN_FLASK + parent)
    arguments = commands("gunicorn")[0]
    assert arguments == ["--workers", "4", "--preload", "chat:app"]
    arguments[1] = "2"
    if not preload:
        arguments.remove("--preload")
    extra = ["--bind", "127.0.0.1:0", "--threads", str(threads)]
    with started(tmp_path, "gunicorn", *extra, *arguments) as log:
        chat = ask_all(listening(log), "")
    with SyncSessionManager(store) as sessions:
        stored = sessions.get_session_messages(chat, "ann", 100)
        assert Counter(message.role for message in stored) == {"user": 20, "assistant": 20}
        assert len({message.content for message in stored}) == 21
        assert len(sessions.list_user_sessions("parent")) == preload


def test_gunicorn_serves_the_application_of_the_page_about_fastapi(tmp_path: Path) -> None:
    code = blocks(DOCS / "fastapi.md", "python")[0]
    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    (tmp_path / "chat.py").write_text(code.replace("memory://", store) + PID_IN_FASTAPI)
    arguments = commands("gunicorn")[1]
    assert arguments == ["--workers", "4", "--worker-class", "asgi", "chat:app"]
    arguments[1] = "2"
    with started(tmp_path, "gunicorn", "--bind", "127.0.0.1:0", *arguments) as log:
        chat = ask_all(listening(log), "?question=Hotels?")
    with SyncSessionManager(store) as sessions:
        stored = sessions.get_session_messages(chat, "ann", 100)
        assert Counter(message.role for message in stored) == {"user": 20, "assistant": 20}


def test_a_celery_worker_answers_each_question_once(tmp_path: Path) -> None:
    [code] = [block for block in blocks(WORKERS, "python") if block.startswith("# tasks.py")]
    [arguments] = commands("celery")
    with RedisServer() as server, SyncSessionManager(server.url) as sessions:
        address = f"127.0.0.1:{server.port}"
        (tmp_path / "tasks.py").write_text(code.replace("localhost:6379", address))
        chats = [sessions.create_session("ann") for _ in range(3)]
        for chat in chats:
            sessions.add_message(chat, "ann", "user", "Hello", message_id="question")
        with sessions.turn(chats[0], "ann"):  # somebody else answers there
            queue(tmp_path, chats)
            with started(tmp_path, "celery", *arguments):
                wait_until(lambda: all(len(said_in(sessions, chat)) == 2 for chat in chats[1:]))
                wait_until(lambda: "Retry in 2s" in (tmp_path / "log").read_text())
                assert said_in(sessions, chats[0]) == ["Hello"]
        with started(tmp_path, "celery", *arguments):  # what the first has put off
            wait_until(lambda: len(said_in(sessions, chats[0])) == 2)
        assert [said_in(sessions, chat) for chat in chats] == [["Hello", "You asked: Hello"]] * 3


def queue(folder: Path, chats: list[str]) -> None:
    """Put the task of each conversation into the queue twice."""
    program = f"import tasks\nfor c in {chats!r} * 2: tasks.answer.delay(c, 'ann', 'question')"
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, timeout=SECONDS)


def said_in(sessions: SyncSessionManager, chat: str) -> list[object]:
    return [message.content for message in sessions.get_session_messages(chat, "ann")]
