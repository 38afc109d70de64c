"""What the log of the service holds, and what it never does."""

# ruff: noqa: SLF001 - tests look behind the service

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_cores.session.errors import (
    ConfigurationError,
    CorruptRecordError,
    StorageUnavailableError,
)
from agent_cores.session.models import Applied, Change
from agent_cores.session.service import ServiceSettings
from agent_cores.session.service.log.lines import JsonFormatter
from agent_cores.session.service.log.users import hashed_user
from agent_cores.session.testing.wrapping import WrappingProvider
from tests.service.processes import get, logged, run, serving
from tests.service.wire import Wire, request

S = "/v1/sessions"
SAID, NAME, USER = "what-was-said", "session-name", "user-name"
LOG_KEY = "a-key-of-the-log"


class FailingProvider(WrappingProvider):
    """Fails every write with an error whose words repeat what was to be written."""

    error: BaseException = RuntimeError()

    async def apply(self, change: Change) -> Applied:
        raise self.error from ValueError(f"cannot write {SAID!r}")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Gather the lines of JSON that a service would write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("agent_cores")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError(SAID), "internal", "failed: RuntimeError"),
        (CorruptRecordError("default", NAME, SAID), "corrupt_record", "corrupt_record: agent_"),
        (StorageUnavailableError(SAID), "storage_unavailable", "from ValueError"),
    ],
)
async def test_the_log_tells_how_it_went_and_nothing_of_what_was_said(
    wire: Wire, log: io.StringIO, error: Exception, code: str, words: str
) -> None:
    who = await wire.caller(USER)
    await who.new_session(id=NAME, title=SAID)
    assert (await who.say(NAME, SAID)).status == 201
    assert (await who("GET", f"{S}/{NAME}/messages")).status == 200
    failing = FailingProvider(wire.manager._runtime.storage)
    failing.error = error
    wire.manager._runtime.engine.storage = failing
    reply = await who.say(NAME, SAID)
    assert (reply.code, SAID in reply.body.decode()) == (code, False)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.getvalue().splitlines()]
    failed = [line for line in lines if line["level"] == "error"]
    assert words in failed[0]["message"]
    assert reply.headers["x-request-id"] in failed[0]["message"]
    assert lines[-1]["request_id"] == reply.headers["x-request-id"]
    assert (lines[-1]["route"], lines[-1]["status"]) == (
        "POST /v1/sessions/{id}/messages",
        reply.status,
    )
    for secret in (SAID, NAME, USER, who.headers["Authorization"].split("_", 2)[2]):
        assert secret not in log.getvalue()


async def test_an_error_that_another_part_logs_shows_where_it_was_and_not_its_words(
    wire: Wire, log: io.StringIO
) -> None:
    def hook(event: object) -> None:
        raise RuntimeError(SAID)

    wire.manager.lifecycle.on("message.appended", hook)
    who = await wire.caller(USER)
    assert (await who.say(await who.new_session(), SAID)).status == 201
    assert "in hook" in log.getvalue()
    assert SAID not in log.getvalue()


async def test_a_request_that_lacks_a_right_is_logged_with_its_key(
    wire: Wire, log: io.StringIO
) -> None:
    reader = await wire.caller(USER, key=await wire.key("read", "act-as"))
    assert (await reader("POST", S, {})).status == 403
    line = json.loads(log.getvalue().splitlines()[-1])
    assert (line["status"], bool(line["credential"])) == (403, True)


async def test_a_line_names_its_user_by_a_keyed_hash_or_plainly(
    wire: Wire, log: io.StringIO
) -> None:
    key = await wire.key()

    async def shown(user_id: str | None, **settings: str) -> object:
        service = wire.another(**settings)
        headers = {} if user_id is None else {"X-User-Id": user_id}
        await request(service, "GET", S, headers={"Authorization": f"Bearer {key}", **headers})
        return json.loads(log.getvalue().splitlines()[-1])["user"]

    kept = await shown(USER, log_key=LOG_KEY)
    assert kept == await shown(USER, log_key=LOG_KEY) == hashed_user(LOG_KEY, "default", USER)
    assert isinstance(kept, str)
    assert re.fullmatch("[0-9a-f]{16}", kept)
    others = [
        await shown("another", log_key=LOG_KEY),
        await shown(USER, log_key="b" * 16),
        await shown(USER),
    ]
    assert len({kept, *others, hashed_user(LOG_KEY, "team-a", USER)}) == 5
    assert await shown(USER, log_user_ids="plain") == USER
    assert await shown(None, log_key=LOG_KEY) is None


def test_a_key_that_could_be_tried_out_is_refused() -> None:
    assert len(LOG_KEY) == 16
    assert ServiceSettings(log_key=LOG_KEY).log_key == LOG_KEY
    for short in (LOG_KEY[1:], "a", ""):
        with pytest.raises(
            ConfigurationError, match="SESSION_SERVICE_LOG_KEY is at least 16"
        ) as no:
            ServiceSettings(log_key=short)
        assert LOG_KEY[1:] not in str(no.value)


@pytest.mark.parametrize(
    "error", [ConnectionResetError(SAID), BrokenPipeError(SAID), asyncio.CancelledError(SAID)]
)
async def test_a_failure_of_the_applications_own_is_answered_and_logged(
    wire: Wire, log: io.StringIO, error: BaseException
) -> None:
    """A directory of groups that hangs up is no caller who went away."""
    who = await wire.caller(USER)
    session_id = await who.new_session()
    failing = FailingProvider(wire.manager._runtime.storage)
    failing.error = error
    wire.manager._runtime.engine.storage = failing
    reply = await who.say(session_id, SAID)
    assert (reply.status, reply.code) == (500, "internal")
    assert f"{type(error).__name__}" in log.getvalue()
    assert reply.headers["x-request-id"] in log.getvalue()
    assert json.loads(log.getvalue().splitlines()[-1])["status"] == 500
    assert SAID not in log.getvalue()


async def test_groups_that_cannot_be_had_are_answered_and_logged(
    wire: Wire, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang_up(*_: object, **__: object) -> None:
        raise ConnectionResetError(SAID)

    monkeypatch.setattr("agent_cores.session.decision.Scope.with_groups", hang_up)
    who = await wire.caller(USER)
    session_id = await who.new_session()
    await who("PUT", f"{S}/{session_id}/grants", {"subject": "group:g", "role": "viewer"})
    other = await wire.caller("other")
    reply = await other("GET", f"{S}/{session_id}")
    assert (reply.status, reply.code) == (500, "internal")
    assert "ConnectionResetError" in log.getvalue()


async def test_a_request_that_the_server_gives_up_is_not_answered(wire: Wire) -> None:
    who = await wire.caller(USER)
    session_id = await who.new_session()
    task = asyncio.create_task(
        who("POST", f"{S}/{session_id}/messages", None, {}, receive=asyncio.Event().wait)
    )
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_hash_of_a_user_in_the_log_of_several_workers_can_be_asked_for(tmp_path: Path) -> None:
    key = run(tmp_path, "keys", "create", "test").stdout.strip()
    headers = {"Authorization": f"Bearer {key}", "X-User-Id": USER}
    kept = {"SESSION_SERVICE_LOG_KEY": LOG_KEY}
    for more in ({}, kept):
        with serving(tmp_path, "--workers", "2", first_run=False, **more) as (_, address, _):
            for _ in range(20):  # a connection each, so that both workers get some
                assert get(f"{address}/v1/me", headers)[0] == 200
        users = {line["user"] for line in logged(tmp_path) if "status" in line}
        assert len(users) == 1, "one key for all workers"
        asked = run(tmp_path, "log-id", USER, **more)
        if more:
            assert {asked.stdout.strip()} == users
        else:
            assert asked.returncode == 2
            assert "set SESSION_SERVICE_LOG_KEY" in asked.stderr
