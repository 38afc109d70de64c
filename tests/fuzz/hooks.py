"""Hooks of the fuzzer: they make valid cases match a session that exists."""
# ruff: noqa: ANN401 - the fuzzer's own types

from __future__ import annotations

import atexit
import json
import os
import threading
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from tests.fuzz import sessions

_OPERATORS = "/v1/operator/"
_FOR_OPERATORS = ("created_at", "author_id")
"""Fields of a message that only an operator may give: elsewhere the fuzzer is none."""
_SELECTORS = ("ids", "seqs", "before_seq", "keep_last")
ANSWERS: Counter[tuple[str, int]] = Counter()
_COUNTING = threading.Lock()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Point a valid case at an existing session, and fill in values that no schema can give."""
    known = None
    if _is_positive(case, "path") and "id" in (case.path_parameters or {}):
        known = sessions.made()
        fitting = {"id": known.id, "seq": 1, "turn": sessions.TURN, "item_id": known.item_id}
        case.path_parameters = {name: fitting[name] for name in case.path_parameters}
    if _is_positive(case, "header") and case.headers:
        _fit_headers(case.headers, known)
    if _is_positive(case, "query") and case.query:
        case.query = _fit_query(case.query, known)
    if case.operation.path.startswith(_OPERATORS):
        _fit_operator(case)
    elif _is_positive(case, "header") and case.headers:
        case.headers.pop("X-Operator", None)
    if _is_positive(case, "body") and isinstance(case.body, dict):
        case.body = _fit_body(
            case.operation.definition.raw["operationId"], _within_limits(case.body)
        )


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count the responses."""
    with _COUNTING:
        ANSWERS[case.operation.label, response.status_code] += 1


@atexit.register
def _write() -> None:
    counts = [[label, status, count] for (label, status), count in sorted(ANSWERS.items())]
    Path(os.environ["FUZZ_COUNTS"]).write_text(json.dumps(counts))


def _is_positive(case: Any, place: str) -> bool:
    component = case.meta.components.get(ParameterLocation(place)) if case.meta else None
    return component is None or component.mode.is_positive


def _fit_headers(headers: Any, known: sessions.Known | None) -> None:
    if "If-Match" in headers and known is not None:
        headers["If-Match"] = known.precondition
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = str(uuid.uuid4())


def _fit_operator(case: Any) -> None:
    """Call as an operator, in an order that the listing has, from its beginning."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    case.headers.pop("X-User-Groups", None)
    case.headers["X-Operator"] = "fuzzer"
    if case.query:
        case.query = _without(case.query, {"order", "cursor"})


def _fit_query(query: dict[str, Any], known: sessions.Known | None) -> dict[str, Any]:
    if "after" in query and known is not None:
        query = {**query, "after": known.item_id}
    if "cursor" in query:
        return {"limit": 1, "cursor": sessions.cursor()}
    if "id" in query:
        query = _without(query, {"limit", "after_seq", "before_seq"})
    if "after_seq" in query:
        query = _without(query, {"before_seq"})
    if "tag" in query:
        query = {**query, "tag": _within_limits(query["tag"])}
    return query


def _within_limits(value: Any) -> Any:
    """Return a body within limits that no schema can express: bytes of UTF-8, and 1 for 1.0."""
    if isinstance(value, dict):
        return {str(key)[:60]: _within_limits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_within_limits(item) for item in value[:60]]
    if isinstance(value, str):
        return value[:60]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _fit_body(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the values that must match the session."""
    known: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "turn": sessions.TURN,
        "expected_last_seq": 1,
        "subject": f"someone {uuid.uuid4()}",
        "expires_at": "2999-01-01T00:00:00Z",
    }
    body = {name: known.get(name, value) if value else value for name, value in body.items()}
    for message in [*body.get("messages", []), *(body.get("items") or [])]:
        _fit_message(message)
    for kind in ("context", "metadata"):
        updates = f"{kind}_updates"
        if updates in body:
            removed = set(body.get(f"{kind}_removals") or ())
            body[updates] = _without(body[updates] or {}, removed)
    for name in ("metadata", "metadata_updates"):
        if name in body:
            body[name] = _without(body[name] or {}, {"title", "tags"})
    if operation == "delete_messages":
        body = _with_one_selector(body)
    if operation == "take_turn":
        body["turn"] = sessions.TURN
    return body


def _fit_message(message: dict[str, Any]) -> None:
    """Give a message an id of its own, where it has one, and nothing that is for operators."""
    if message.get("id"):
        message["id"] = str(uuid.uuid4())
    for name in _FOR_OPERATORS:
        message.pop(name, None)


def _with_one_selector(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the first way to name messages that it has, or with one."""
    given = [name for name in _SELECTORS if body.get(name) is not None]
    if not given:
        return {**body, "seqs": [1]}
    return _without(body, set(given[1:]))


def _without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
