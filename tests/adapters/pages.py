"""The programs on the pages of the adapters, run as a reader would: as a file, in an empty folder.

What is put in their place are addresses: each SDK is told by its own environment variable where its
model is, and there a script answers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
REPLY = "Fifteen degrees and rain."


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page in a language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def printed_by(code: str, folder: Path, **environment: str) -> str:
    """Run a program in a folder; return what it prints."""
    (folder / "page.py").write_text(code, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env={**kept, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class Model(NamedTuple):
    """Where a script answers for a model, and the requests that it got."""

    address: str
    asked: list[Any]


@contextmanager
def scripted(reply: Callable[[Any], tuple[str, str]]) -> Iterator[Model]:
    """Answer each POST with the content type and body that ``reply`` makes of its JSON."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            asked.append(json.loads(self.rfile.read(length)))
            kind, text = reply(asked[-1])
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Model(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_openai(_: object) -> tuple[str, str]:
    """Answer as ``POST /v1/responses`` of OpenAI does."""
    part = {"type": "output_text", "text": REPLY, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": "scripted",
        "output": [{**item, "content": [part]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    return "application/json", json.dumps(response)


def as_gemini(_: object) -> tuple[str, str]:
    """Answer as ``generateContent`` of Gemini does."""
    content = {"role": "model", "parts": [{"text": REPLY}]}
    return "application/json", json.dumps(
        {"candidates": [{"content": content, "finishReason": "STOP"}]}
    )


def as_anthropic(request: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON
    """Answer as ``POST /v1/messages`` of Anthropic does, with events where they are wanted."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    text = {"type": "text", "text": REPLY}
    if not request.get("stream"):
        whole = {**message, "content": [text], "stop_reason": "end_turn"}
        return "application/json", json.dumps(whole)
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": REPLY},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return "text/event-stream", "".join(lines)
