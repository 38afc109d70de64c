"""What was sent is let go of with the answer, by itself: the collector of cycles seldom runs."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from agent_cores.session.service.request.call import Call
from tests.service.wire import Wire

S = "/v1/sessions"
FULL = f"{S}/full/messages"
LONG = 80_000


def message(content: str, more: str = "") -> bytes:
    """Return the body of an append."""
    return b'{"messages":[{"role":"user","content":%b}]%b}' % (content.encode(), more.encode())


BODIES: dict[str, tuple[str, str, bytes, int]] = {
    "taken": ("POST", FULL, message('"' + "x" * LONG + '"'), 201),
    "short, of another shape": ("POST", FULL, b'{"messages":7}', 422),
    "short, no JSON": ("POST", FULL, b'{"messages":', 400),
    "short, too deep": ("POST", FULL, b"[" * 5_000, 422),
    "too long a field": ("POST", S, b'{"metadata":{"a":"' + b"x" * LONG + b'"}}', 422),
    "unknown field": ("POST", FULL, message('"' + "x" * LONG + '"', ',"more":1'), 422),
    "too deep": ("POST", FULL, message("[" * 500 + "]" * 500 + " " * LONG), 422),
    "much too deep": ("POST", FULL, message("[" * LONG + "]" * LONG), 422),
    "too large a number": ("POST", FULL, message("[1e999," + "1," * LONG + "1]"), 422),
    "many digits": ("POST", FULL, message("1" * LONG), 422),
    "no JSON": ("POST", FULL, message('"' + "x" * LONG + '"')[:-1], 400),
    "key given twice": ("POST", FULL, message('[{"a":1,"a":2}]' + " " * LONG), 400),
    "of another type": ("POST", FULL, b'{"messages":"' + b"x" * LONG + b'"}', 422),
    "too many": ("POST", FULL, b'{"messages":[' + b"{}," * LONG + b"{}]}", 422),
    "no such session": ("POST", f"{S}/none/messages", message('"' + "x" * LONG + '"'), 404),
    "no such session, of another shape": ("POST", f"{S}/none/messages", b'{"messages":7}', 404),
    "long, no such session": ("POST", f"{S}/none/messages", message("1" * LONG), 404),
    "larger than any": ("PUT", f"{S}/full/grants", b" " * LONG, 413),
    "a query": ("GET", f"{S}?limit=x", b"", 422),
}


def calls() -> int:
    return sum(type(each) is Call for each in gc.get_objects())


@pytest.mark.parametrize("body", BODIES)
async def test_what_was_sent_is_let_go_of_with_the_answer(body: str) -> None:
    method, path, raw, status = BODIES[body]
    wire = Wire()
    caller: Any = await wire.caller("ann")
    await caller.new_session(id="full")
    gc.collect()
    gc.disable()
    try:
        before = calls()
        reply = await caller(method, path, raw)
        assert reply.status == status, reply.body
        assert calls() == before
    finally:
        gc.enable()
    await wire.service.aclose()
