"""docs/flask.md, fastapi.md and django.md, followed step by step in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_documents import ROOT, blocks
from tests.test_pages import free_port, wait_for

DOCS = ROOT / "docs"
VISIT = """
import asyncio, os
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from agent_cores.session.integrations.django import sessions

user = User.objects.create_user("ann")
client = Client()
print(client.post("/chats").status_code)
client.force_login(user)
chat = client.post("/chats").json()["id"]
reply = client.post(f"/chats/{chat}/messages", {"question": "Hotels?"})
print(b"".join(reply.streaming_content).decode())
other = AsyncClient()
other.force_login(user)
for here in (client.post, lambda *given: asyncio.run(other.post(*given))):
    print(here(f"/chats/{chat}/title", {"title": "Rome"}).status_code)
session = sessions().get_session(chat, str(user.pk))
print(session.metadata.title, [message.content for message in session.messages])
stranger = Client()
stranger.force_login(User.objects.create_user("eve"))
print(stranger.post(f"/chats/{chat}/messages", {"question": "?"}).json()["code"])
"""


@pytest.mark.parametrize("page", ["flask.md", "fastapi.md"])
def test_the_application_answers_as_the_page_shows(page: str, tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(blocks(DOCS / page, "python")[0], encoding="utf-8")
    [serve], [ask], [shown] = (blocks(DOCS / page, kind) for kind in ("console", "sh", "text"))
    port = free_port()
    program, *arguments = shlex.split(serve.removeprefix("$ ").replace("8000", str(port)))
    server = subprocess.Popen([sys.executable, "-m", program, *arguments], cwd=tmp_path)
    try:
        done = subprocess.run(
            ["bash", "-euc", f"{wait_for(port)}\n{ask.replace(':8000', f':{port}')}"],
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
    finally:
        server.terminate()
        server.wait(30)
    assert done.stdout == shown.rstrip("\n")


def test_the_test_on_the_page_about_testing_passes(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(blocks(DOCS / "fastapi.md", "python")[0], encoding="utf-8")
    code = blocks(DOCS / "testing-your-app.md", "python")[-1]
    (tmp_path / "test_chat.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 passed" in done.stdout, done.stdout


def test_the_project_of_the_page_about_django_does_what_the_page_says(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "django", "startproject", "mysite", ".")
    made = {re.findall(r"^# (\S+)", code)[0]: code for code in blocks(DOCS / "django.md", "python")}
    settings = tmp_path / "mysite" / "settings.py"
    storage, [middleware] = (
        re.findall(r"^AGENT_SESSIONS = .*$", made["mysite/settings.py"], re.MULTILINE)[0],
        re.findall(r'^    "agent_cores.*$', made["mysite/settings.py"], re.MULTILINE),
    )
    text = settings.read_text().replace("MIDDLEWARE = [", f"MIDDLEWARE = [\n{middleware}")
    settings.write_text(f'{text}\n{storage}\nALLOWED_HOSTS = ["testserver"]\n')
    for name in ("mysite/views.py", "mysite/urls.py"):
        (tmp_path / name).write_text(made[name], encoding="utf-8")
    run("manage.py", "migrate", "--verbosity", "0")
    assert run("-c", VISIT).splitlines() == [
        "302",  # to the login
        "Three hotels.",
        "200",
        "200",
        "Rome ['Hotels?', 'Three hotels.']",
        "session_not_found",
    ]
    assert (tmp_path / "sessions.db").exists()
