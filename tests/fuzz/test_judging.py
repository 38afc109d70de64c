"""A run of the fuzzer is held to what it has to reach, also where it reached nothing."""

from __future__ import annotations

from agent_cores.session.service.routes import ROUTES
from tests.fuzz.run import CASES, GOOD_CASES, judged

ENOUGH = [(route.name, 200, CASES) for route in ROUTES]


def test_a_run_that_reached_everything_passes() -> None:
    assert judged(ENOUGH) == []


def test_an_operation_that_was_never_called_fails_the_run() -> None:
    never = judged([one for one in ENOUGH if one[0] != "GET /v1/me"])
    assert never == [f"GET /v1/me: 0 cases that end in 2xx, wanted {GOOD_CASES}"]
    assert len(judged([one for one in ENOUGH if one[0] != "GET /healthz"])) == 1


def test_an_operation_that_was_only_refused_fails_the_run() -> None:
    refused = [(name, 422 if name == "GET /v1/me" else 200, n) for name, _, n in ENOUGH]
    assert judged(refused) == [f"GET /v1/me: 0 cases that end in 2xx, wanted {GOOD_CASES}"]


def test_an_error_of_the_server_and_too_few_cases_fail_the_run() -> None:
    assert judged([*ENOUGH, ("GET /v1/me", 503, 1)]) == ["GET /v1/me answered 503"]
    few = [(name, status, GOOD_CASES) for name, status, _ in ENOUGH]
    assert judged(few) == [f"{GOOD_CASES * len(ENOUGH)} cases, wanted {CASES}"]
