"""What metrics count of requests: those in flight, however they end, and the answered ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agent_cores.session import observing
from agent_cores.session.service.metrics.definitions import REQUESTS
from tests.service.measured import Measured, value
from tests.service.wire import Caller, Wire

IN_FLIGHT = "agent_sessions_http_requests_in_flight"
MESSAGES = "POST /v1/sessions/{id}/messages"
APPENDED = b'{"messages": [{"role": "user", "content": "hello"}]}'


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    """Let listeners end with the test."""
    yield
    observing.on_batch.clear()
    observing.on_retry.clear()


class Held:
    """The body of a request, which arrives once it is let go."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self._message = message

    async def __call__(self) -> dict[str, Any]:
        self.asked.set()
        await self.let_go.wait()
        return self._message


def answered(text: str, status: int, route: str = MESSAGES) -> float:
    series = f'agent_sessions_http_request_seconds_count{{route="{route}",status="{status}"}}'
    return value(text, series)


async def append(ann: Caller, session_id: str, held: Held) -> asyncio.Task[Any]:
    """Begin to append, and return once the body is asked for."""
    path = f"/v1/sessions/{session_id}/messages"
    asking = asyncio.create_task(ann("POST", path, APPENDED, receive=held))
    await held.asked.wait()
    return asking


def body(data: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": False}


@pytest.mark.parametrize(("sent", "status"), [(APPENDED, 201), (b"{", 400)])
async def test_a_request_is_in_flight_until_it_is_answered(
    wire: Wire, sent: bytes, status: int
) -> None:
    measured = Measured(wire.service)
    ann = await wire.caller("ann")
    held = Held(body(sent))
    asking = await append(ann, await ann.new_session(), held)
    assert value(await measured.exposed(), IN_FLIGHT) == 1
    held.let_go.set()
    assert (await asking).status == status
    text = await measured.exposed()
    assert value(text, IN_FLIGHT) == 0
    assert answered(text, status) == 1


async def test_a_request_whose_caller_is_gone_is_in_flight_no_more_and_counts_as_no_answer(
    wire: Wire,
) -> None:
    measured = Measured(wire.service)
    ann = await wire.caller("ann")
    held = Held({"type": "http.disconnect"})
    asking = await append(ann, await ann.new_session(), held)
    assert value(await measured.exposed(), IN_FLIGHT) == 1
    held.let_go.set()
    with pytest.raises(KeyError):  # there is no response, so the test's caller finds no headers
        await asking
    text = await measured.exposed()
    assert value(text, IN_FLIGHT) == 0
    assert MESSAGES not in text


async def test_a_cancelled_request_is_in_flight_no_more_and_is_not_counted_as_answered(
    wire: Wire,
) -> None:
    measured = Measured(wire.service)
    ann = await wire.caller("ann")
    asking = await append(ann, await ann.new_session(), Held({}))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    text = await measured.exposed()
    assert value(text, IN_FLIGHT) == 0
    assert MESSAGES not in text


async def test_a_request_whose_response_cannot_be_sent_is_in_flight_no_more(wire: Wire) -> None:
    measured = Measured(wire.service)

    async def fail(_: object) -> None:
        raise ConnectionResetError

    scope = {"type": "http", "method": "GET", "path": "/nowhere", "headers": []}
    with pytest.raises(ConnectionResetError):
        await wire.service(scope, Held({}), fail)
    text = await measured.exposed()
    assert value(text, IN_FLIGHT) == 0
    assert answered(text, 404, "none") == 0


async def test_a_request_that_fails_in_an_unexpected_place_is_in_flight_no_more(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(wire.service)

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(wire.service, "_refusal", fail)
    with pytest.raises(RuntimeError):
        await wire.request("GET", "/nowhere")
    assert value(await measured.exposed(), IN_FLIGHT) == 0


async def test_a_request_in_flight_while_values_are_handed_over_is_counted_once(
    wire: Wire,
) -> None:
    measured = Measured(wire.service)
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    held = Held(body(APPENDED))
    asking = await append(ann, session_id, held)
    assert (await ann.say(session_id)).status == 201
    assert answered(await measured.exposed(), 201) == 1
    held.let_go.set()
    assert (await asking).status == 201
    for _ in range(2):
        text = await measured.exposed()
        assert answered(text, 201) == 2
        assert value(text, 'agent_sessions_storage_seconds_count{operation="apply"}') >= 2


async def test_every_refusal_is_counted_by_its_code(wire: Wire) -> None:
    measured = Measured(wire.service)
    ann = await wire.caller("ann")
    stranger = await wire.caller("ann", key="no key")
    for _ in range(3):
        assert (await ann.say("nowhere")).status == 404
    assert (await stranger.say("nowhere")).status == 401
    for _ in range(2):
        text = await measured.exposed()
        for code, number in (("session_not_found", 3), ("unauthenticated", 1)):
            assert value(text, f'agent_sessions_http_refusals_total{{code="{code}"}}') == number


async def test_methods_that_callers_make_up_are_one_series_and_are_not_kept(wire: Wire) -> None:
    measured = Measured(wire.service)
    for number in range(20):
        assert (await wire.request(f"BREW{number}", "/nowhere")).status == 404
    [seconds] = [
        (labels, seconds)
        for (name, labels), seconds in measured.recorder.take().values.items()
        if name == REQUESTS.name
    ]
    assert seconds[0] == ("none", "404", "", "_OTHER", "http", "")
    assert len(seconds[1]) == 20
    assert wire.service.traffic is not None
    assert not wire.service.traffic.seconds


async def test_a_service_without_metrics_keeps_nothing_of_its_requests(wire: Wire) -> None:
    ann = await wire.caller("ann")
    await ann.new_session()
    assert wire.service.traffic is None
