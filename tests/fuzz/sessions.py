"""Sessions for the fuzzer, created for each case."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from typing import Any, NamedTuple

import urllib3

ADDRESS, KEY = os.environ["FUZZ_ADDRESS"], os.environ["FUZZ_KEY"]
HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "X-User-Id": "fuzzer",
    "Content-Type": "application/json",
}
TURN = "t"
_POOL = urllib3.connection_from_url(ADDRESS, timeout=10, maxsize=4)
_NUMBER = itertools.count()


class Known(NamedTuple):
    """An existing session, with one message and a turn that ``TURN`` holds."""

    id: str
    precondition: str
    item_id: str


def made() -> Known:
    """Create a session; every second one has only its revision as precondition."""
    session_id = str(uuid.uuid4())
    made, headers = _sent("POST", "/v1/sessions", {"id": session_id})
    path = f"/v1/sessions/{session_id}"
    said = {"messages": [{"role": "user", "content": "hello"}]}
    appended, _ = _sent("POST", f"{path}/messages", said)
    _sent("POST", f"{path}/turn", {"turn": TURN, "lease_seconds": 300})
    alone = next(_NUMBER) % 2
    return Known(
        session_id, f'"{made["revision"]}"' if alone else headers["ETag"], appended["data"][0]["id"]
    )


def cursor() -> str:
    """Return the cursor of the second page of the fuzzer's sessions."""
    made()
    made()
    page, _ = _sent("GET", "/v1/sessions?limit=1")
    found: str = page["next_cursor"]
    return found


def _sent(method: str, path: str, body: object = None) -> tuple[Any, Any]:
    text = None if body is None else json.dumps(body)
    answer = _POOL.urlopen(method, path, body=text, headers=HEADERS)
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {answer.data.decode()}")
    return json.loads(answer.data), answer.headers
