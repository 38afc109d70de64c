"""Write ``docs/http-*.md``: an example of every route, as the service answers it.

A test runs the story again and compares. ``python -m tests.service.http_examples`` writes.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_cores.session.service.document.openapi import document
from agent_cores.session.service.routes import ROUTES
from agent_cores.session.service.routing import Router
from tests.service.http_steps import STORY, Step
from tests.service.wire import Caller, Reply, Wire

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
PAGES = {
    "http-sessions.md": ("Examples: sessions and messages", ("Sessions", "Messages")),
    "http-access.md": ("Examples: access, life and turns", ("Access", "Life", "Turns")),
    "http-more.md": (
        "Examples: conversations, operators, the service",
        ("Conversations", "Operators", "Service"),
    ),
}
KEYS = {
    "app": ("read", "write", "act-as"),
    "console": ("read", "write", "operator"),
    "billing": ("admin",),
}
INTRODUCTION = """\
These are real requests and responses: a program sends them and writes this page, and a test repeats
them. Every request also has `Authorization: Bearer <key>`, unless its route is open,
`Content-Type: application/json` if it has a body, and `X-User-Id: ann` where nobody else is named.
Of the headers of a response only those that matter are shown. `…` stands for fields that have not
changed since they were last shown. [The HTTP interface](http.md#routes) describes the routes."""
SHOWN_HEADERS = ("Location", "ETag", "Retry-After", "Idempotent-Replayed", "Had-Grant")
WIDTH = 96
REST = {"…": "…"}
VOLATILE = (
    (re.compile(r"\b\d{1,19}(?=\.\d+\.\d+\b)"), ("4611686018427387904", "3074457345618258602")),
    (re.compile(r"\bconv_[\w-]{10,}"), ("conv_c2Vzc2lvbi1vZi1hbm4tMQ",)),
    (re.compile(r"\bmsg_[\w-]{10,}"), ("msg_Zt3mQ0yS7pWk1sB4nUeHdA", "msg_q9Xv2bR7LkT0wYc5JpGf3E")),
)
"""What is drawn at random, and what is shown instead, in the order of appearance."""


class Story:
    """A service on an empty store, its clock, and what the responses so far have said."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.wire.clock._now = BEGIN  # noqa: SLF001 - it begins at real time
        self.known: dict[str, str] = {}
        self.masks: dict[str, str] = {}
        self.key_ids: list[str] = []

    async def tell(self) -> list[tuple[Step, Step, Reply]]:
        """Run every step; return it as written and as sent, with its response."""
        keys = {name: await self.wire.key(*rights) for name, rights in KEYS.items()}
        self.key_ids = [key.split("_")[1] for key in keys.values()]
        told = []
        for step in STORY:
            self.wire.clock.advance(1)
            sent = self._filled(step)
            caller = Caller(self.wire.service, step.user, keys.get(step.key), sent.headers)
            reply = await caller(sent.method, sent.path, sent.body)
            assert reply.status == step.status, (step, reply)
            self._note(step, reply)
            told.append((step, sent, reply))
        await self.wire.service.aclose()
        return told

    def _filled(self, step: Step) -> Step:
        def fill(text: str) -> str:
            return re.sub(r"\{(\w+)\}", lambda found: self.known[found[1]], text)

        headers = {name: fill(value) for name, value in step.headers.items()}
        return Step(step.method, fill(step.path), step.body, headers=headers, user=step.user)

    def _note(self, step: Step, reply: Reply) -> None:
        self.known["etag"] = reply.headers.get("etag", self.known.get("etag", ""))
        if step.path == "/v1/conversations":
            self.known["conversation"] = reply.json()["id"]
        elif step.path.endswith("/items"):
            self.known["item"] = reply.json()["last_id"]

    def masked(self, text: str) -> str:
        """Return a text with the random parts replaced."""
        for pattern, names in VOLATILE:
            for found in pattern.findall(text):
                if found not in self.masks:
                    used = len(set(self.masks.values()) & set(names))
                    self.masks[found] = names[min(used, len(names) - 1)]
        for found, name in self.masks.items():
            text = text.replace(found, name)
        for key_id in self.key_ids:
            text = text.replace(key_id, "7f3a5c0e91d2b846")
        return text


def pretty(value: Any, indent: int = 0) -> str:  # noqa: ANN401 - JSON
    """Return JSON in lines that are not too long."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not value or not isinstance(value, list | dict):
        return line
    margin = " " * (indent + 2)
    if isinstance(value, list):
        items = [pretty(item, indent + 2) for item in value]
        opening, closing = "[]"
    else:
        opening, closing = "{}"
        items = [f'"{name}": {pretty(item, indent + 2)}' for name, item in value.items()]
    inner = f",\n{margin}".join(items)
    return f"{opening}\n{margin}{inner}\n{' ' * indent}{closing}"


def changed(body: Any, before: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return sessions and messages with only what has changed since they were shown last."""
    if isinstance(body, list):
        return [changed(item, before) for item in body]
    if not isinstance(body, dict):
        return body
    new = {name: changed(value, before) for name, value in body.items()}
    if not {"owner_id", "author_id"} & body.keys():
        return new
    last = before.get(body["id"], {})
    before[body["id"]] = {**last, **body}
    new = {name: new[name] for name in body if name == "id" or body[name] != last.get(name, ...)}
    return new if len(new) == len(body) else {**new, **REST}


def shown_body(reply: Reply, before: dict[str, Any]) -> str:
    """Return the body of a response; that of a document or page is left out."""
    if not reply.body:
        return ""
    if "json" not in reply.headers["content-type"] or b'"openapi"' in reply.body:
        return "\n…\n"
    text = pretty(changed(reply.json(), before))
    return f"\n{text.replace(json.dumps(REST, ensure_ascii=False)[1:-1], '…')}\n"


def block(step: Step, sent: Step, reply: Reply, before: dict[str, Any]) -> str:
    """Return a request and its response."""
    headers = dict(sent.headers)
    if step.user not in {"ann", None}:
        headers["X-User-Id"] = str(step.user)
    request = f"{sent.method} {sent.path} HTTP/1.1\n"
    request += "".join(f"{name}: {value}\n" for name, value in headers.items())
    if sent.body is not None:
        request += f"\n{pretty(sent.body)}\n"
    response = f"HTTP/1.1 {reply.status}\n"
    for name in SHOWN_HEADERS:
        if name.lower() in reply.headers:
            response += f"{name}: {reply.headers[name.lower()]}\n"
    if reply.body and "json" not in reply.headers["content-type"]:
        response += f"Content-Type: {reply.headers['content-type']}\n"
    response += shown_body(reply, before)
    note = f"{step.note}\n\n" if step.note else ""
    return f"{note}```http\n{request}```\n\n```http\n{response}```\n"


async def pages() -> dict[str, str]:
    """Run the story and return the pages."""
    story = Story()
    told = await story.tell()
    router = Router(ROUTES)
    operations = json.loads(document(ROUTES))["paths"]
    found: dict[str, str] = {}
    for name, (title, tags) in PAGES.items():
        before: dict[str, Any] = {}
        sections: dict[str, dict[str, str]] = {tag: {} for tag in tags}
        for step, sent, reply in told:
            path = sent.path.partition("?")[0]
            route, _ = router.find({"method": sent.method, "path": path, "raw_path": path.encode()})
            tag = operations[route.path][route.method.lower()]["tags"][0]
            if tag in sections and step.shown:
                heading = f"### {route.summary}\n\n"
                shown = sections[tag].get(route.name, heading)
                text = block(step, sent, reply, before)
                sections[tag][route.name] = shown + story.masked(text) + "\n"
        body = "".join(f"## {tag}\n\n{''.join(made.values())}" for tag, made in sections.items())
        found[name] = f"# {title}\n\n{INTRODUCTION}\n\n{body}".rstrip() + "\n"
    return found


def main() -> None:
    """Write the pages."""
    for name, text in asyncio.run(pages()).items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
