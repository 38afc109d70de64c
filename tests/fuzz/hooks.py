"""What the fuzzer has to know: a session that exists, made anew for each case about one."""
# ruff: noqa: ANN401, S310 - the fuzzer's own types, and a server that the run has started

from __future__ import annotations

import atexit
import json
import os
import urllib.request
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

ADDRESS, KEY = os.environ["FUZZ_ADDRESS"], os.environ["FUZZ_KEY"]
HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "X-User-Id": "fuzzer",
    "Content-Type": "application/json",
}
TURN = "t"
ANSWERS: Counter[tuple[str, int]] = Counter()


def _post(path: str, body: object) -> Any:
    asked = urllib.request.Request(
        ADDRESS + path, json.dumps(body).encode(), HEADERS, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.load(answer)


def _session() -> str:
    session_id = str(uuid.uuid4())
    _post("/v1/sessions", {"id": session_id})
    said = {"messages": [{"role": "user", "content": "hello"}]}
    _post(f"/v1/sessions/{session_id}/messages", said)
    _post(f"/v1/sessions/{session_id}/turn", {"turn": TURN, "lease_seconds": 300})
    return session_id


def _is_positive(case: Any, place: str) -> bool:
    component = case.meta.components.get(ParameterLocation(place)) if case.meta else None
    return component is None or component.mode.is_positive


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Point a right case at a session that exists, and give it values that only a program knows."""
    if _is_positive(case, "path"):
        _point_at_a_session(case)
    if _is_positive(case, "header") and case.headers:
        _fit_headers(case.headers)
    if _is_positive(case, "query") and case.query:
        _fit_query(case.query)
    if _is_positive(case, "body") and isinstance(case.body, dict):
        case.body = _known(case.operation.definition.raw["operationId"], _fitting(case.body))


def _point_at_a_session(case: Any) -> None:
    if case.path_parameters and "id" in case.path_parameters:
        case.path_parameters["id"] = _session()
        for name, known in (("seq", 1), ("turn", TURN)):
            if name in case.path_parameters:
                case.path_parameters[name] = known


def _fit_headers(headers: Any) -> None:
    if "If-Match" in headers:
        headers["If-Match"] = '"1"'
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = str(uuid.uuid4())


def _fit_query(query: dict[str, Any]) -> None:
    query.pop("cursor", None)
    if "after_seq" in query:
        query.pop("before_seq", None)
    if "tag" in query:
        query["tag"] = _fitting(query["tag"])


def _fitting(value: Any) -> Any:
    """Return a body that keeps to what a schema cannot say: bytes of UTF-8, and 1 for 1.0."""
    if isinstance(value, dict):
        return {str(key)[:60]: _fitting(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_fitting(item) for item in value[:60]]
    if isinstance(value, str):
        return value[:60]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _known(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with what has to fit the session."""
    if operation == "append_messages":
        body.pop("turn", None)
        body.pop("expected_last_seq", None)
        for message in body.get("messages", []):
            message.pop("id", None)
        removed = set(body.get("context_removals") or ())
        body["context_updates"] = _without(body.get("context_updates") or {}, removed)
    if operation == "update_session":
        removed = set(body.get("context_removals") or ())
        body["context_updates"] = _without(body.get("context_updates") or {}, removed)
    for name in ("metadata", "metadata_updates"):
        if name in body:
            body[name] = _without(body[name] or {}, {"title", "tags"})
    if operation in {"create_session", "fork_session"}:
        body.pop("id", None)
    if operation == "share_session":
        body["subject"] = f"someone {uuid.uuid4()}"
        if body.get("expires_at"):
            body["expires_at"] = "2999-01-01T00:00:00Z"
    if operation == "take_turn":
        body["turn"] = TURN
    return body


def _without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count the answers."""
    ANSWERS[case.operation.label, response.status_code] += 1


@atexit.register
def _write() -> None:
    counts = [[label, status, count] for (label, status), count in sorted(ANSWERS.items())]
    Path(os.environ["FUZZ_COUNTS"]).write_text(json.dumps(counts))
