"""The audit log of the service: what is recorded, with which fields, and what never is."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from agent_cores.session.header_cache import HeaderCache
from agent_cores.session.service.log.lines import JsonFormatter
from agent_cores.session.verbs.audit import FIELDS
from agent_cores.session.verbs.upkeep import UpkeepVerbs
from tests.service.wire import Wire

LOGGER = "agent_cores.session.audit"
SECRET = "hunter2"
S = "/v1/sessions"
Line = dict[str, Any]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, LOGGER)
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[Line]:
    """Return the lines of the audit log, as the service writes them."""
    return [
        msgspec.json.decode(JsonFormatter().format(record), type=Line)
        for record in log.records
        if record.name == LOGGER
    ]


def told(log: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    return [(line["user"], line["verb"], line["outcome"]) for line in lines(log)]


async def test_who_may_see_a_session_is_recorded_with_every_field(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann = await wire.caller("ann", **{"X-Request-ID": "req-1"})
    session_id = await ann.new_session(title=SECRET)
    grant = {"subject": "bob", "role": "viewer"}
    reply = await ann("PUT", f"{S}/{session_id}/grants", grant, client=("10.0.0.9", 4711))
    assert reply.status < 300, reply
    [line] = lines(log)
    assert {name: line[name] for name in FIELDS} == {
        "operator": None,
        "user": "ann",
        "key": ann.headers["Authorization"].split("_")[1],
        "address": "10.0.0.9",
        "namespace": "default",
        "verb": "share_session",
        "session_id": session_id,
        "erased_user": None,
        "outcome": "done",
        "request_id": "req-1",
    }


async def test_changes_of_access_and_removals_are_recorded_also_if_refused(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    session_id = await ann.new_session()
    place = f"{S}/{session_id}"
    await ann("PUT", f"{place}/grants", {"subject": "bob", "role": "viewer"})
    await ann("PUT", f"{place}/visibility", {"visibility": "public"})
    await bob("DELETE", place)
    await ann("PUT", f"{place}/owner", {"owner_id": "bob"})
    await ann("DELETE", place)
    await bob("DELETE", place)
    assert told(log) == [
        ("ann", "share_session", "done"),
        ("ann", "set_visibility", "done"),
        ("bob", "delete_session", "access_denied"),
        ("ann", "transfer_ownership", "done"),
        ("ann", "delete_session", "access_denied"),
        ("bob", "delete_session", "done"),
    ]


async def test_an_erasure_names_the_user_and_whether_something_is_left(
    wire: Wire, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def partly(*_: object) -> bool:
        return False

    ann = await wire.caller("ann", await wire.key("admin", "act-as"))
    assert (await ann("POST", "/v1/users/erase", {"user_id": "bob"})).status == 200
    monkeypatch.setattr(UpkeepVerbs, "_erase_all", partly)
    assert (await ann("POST", "/v1/users/erase", {"user_id": "bob"})).status == 200
    assert [(line["erased_user"], line["outcome"]) for line in lines(log)] == [
        ("bob", "done"),
        ("bob", "incomplete"),
    ]


async def test_reads_of_somebody_elses_session_are_recorded_and_ones_own_are_not(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    session_id = await ann.new_session()
    await ann.say(session_id, SECRET)
    await ann("PUT", f"{S}/{session_id}/grants", {"subject": "bob", "role": "viewer"})
    log.clear()
    for caller in (ann, bob):
        for path in ("", "/messages", "/messages/1", "/grants"):
            assert (await caller("GET", f"{S}/{session_id}{path}")).status == 200
        assert (await caller("POST", f"{S}/{session_id}/fork", {})).status == 201
    assert told(log) == [
        ("bob", verb, "done")
        for verb in (
            "get_session",
            "get_session_messages",
            "get_message",
            "list_grants",
            "fork_session",
        )
    ]
    assert SECRET not in str(lines(log))


async def test_a_list_of_somebody_elses_sessions_is_one_line_and_one_of_ones_own_is_none(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    for _ in range(2):
        session_id = await ann.new_session()
        await ann("PUT", f"{S}/{session_id}/grants", {"subject": "bob", "role": "viewer"})
    log.clear()
    for caller in (ann, bob):
        for query in ("", "?shared=true"):
            assert (await caller("GET", f"{S}{query}")).status == 200
    assert told(log) == [("bob", "list_user_sessions", "done")]


async def test_opening_somebody_elses_session_is_a_read(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    session_id = await ann.new_session(id="trip")
    await ann("PUT", f"{S}/{session_id}/grants", {"subject": "bob", "role": "editor"})
    log.clear()
    for caller in (ann, bob):
        body = {"id": session_id, "if_exists": "return_shared"}
        assert (await caller("POST", S, body)).status == 200
    [line] = lines(log)
    assert (line["user"], line["verb"], line["session_id"]) == ("bob", "create_session", "trip")


async def test_whose_session_was_read_is_known_without_cached_headers(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    wire.manager.runtime.engine.headers = HeaderCache(0, 0)
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    session_id = await ann.new_session()
    await ann("PUT", f"{S}/{session_id}/visibility", {"visibility": "public"})
    log.clear()
    for caller in (ann, bob):
        assert (await caller("GET", f"{S}/{session_id}/messages")).status == 200
    assert told(log) == [("bob", "get_session_messages", "done")]


async def test_a_failed_login_is_recorded_without_the_credential(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    stranger = await wire.caller("ann", f"ask_0123456789abcdef_{SECRET}")
    assert (await stranger("GET", S, client=("10.0.0.9", 4711))).status == 401
    [line] = lines(log)
    assert (line["verb"], line["outcome"], line["address"]) == (
        "login",
        "unauthenticated",
        "10.0.0.9",
    )
    assert SECRET not in str(line)
    assert "0123456789abcdef" not in str(line)


async def test_what_is_appended_and_listed_is_not_recorded(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    await ann.say(session_id)
    await ann("GET", S)
    assert lines(log) == []


class Broken(logging.Handler):
    """An audit store that is down."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise, as a handler of a program's own may."""
        raise RuntimeError


async def test_a_hook_that_raises_fails_no_request(
    wire: Wire, log: pytest.LogCaptureFixture
) -> None:
    ann = await wire.caller("ann")
    stranger = await wire.caller("ann", "ask_0000000000000000_none")
    session_id = await ann.new_session()
    broken = Broken()
    logging.getLogger(LOGGER).addHandler(broken)
    try:
        assert (await stranger("GET", S)).status == 401
        assert (await ann("DELETE", f"{S}/{session_id}")).status == 204
    finally:
        logging.getLogger(LOGGER).removeHandler(broken)
    told = [one.getMessage() for one in log.records if one.levelno == logging.ERROR]
    assert ["login" in text for text in told] == [True, False]
    assert f"delete_session, session '{session_id}': done" in told[1]
