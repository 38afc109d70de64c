"""The applications on the pages about FastAPI and Flask do what the pages say."""

# ruff: noqa: S102 - what our own pages define

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

DOCS = Path(__file__).parents[2] / "docs"
ANN = {"X-User-Id": "ann"}
SAID = [("user", "Hotels?"), ("assistant", "Three hotels.")]


def blocks(name: str) -> list[dict[str, Any]]:
    """Run each Python block of a page; return what it defines."""
    made = []
    for code in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text("utf-8"), re.DOTALL):
        names: dict[str, Any] = {"__name__": name}
        exec(code, names)
        made.append(names)
    return made


def test_the_applications_of_the_page_about_fastapi() -> None:
    first, second, third = blocks("fastapi.md")
    with TestClient(first["app"]) as client:
        chat = client.post("/chats", headers=ANN).json()["id"]
        asked = client.post(f"/chats/{chat}/messages?question=Hotels?", headers=ANN)
        assert asked.text == "Three hotels."
        page = client.get(f"/chats/{chat}/messages", headers=ANN).json()
        assert [(message["role"], message["content"]) for message in page["data"]] == SAID
    with TestClient(second["app"]) as client:
        assert client.app_state == {"sessions": second["manager"], "model": "…"}
    assert "hold_turn" in third


def test_the_application_of_the_page_about_flask() -> None:
    [names] = blocks("flask.md")
    client = names["app"].test_client()
    chat = client.post("/chats", headers=ANN).get_json()["id"]
    asked = client.post(f"/chats/{chat}/messages", headers=ANN, data="Hotels?")
    assert asked.text == "Three hotels."
    with names["app"].app_context():
        sessions = names["current_sessions"]()
        kept = sessions.get_session_messages(chat, "ann")
        assert [(message.role, message.content) for message in kept] == SAID
        sessions.shutdown()
