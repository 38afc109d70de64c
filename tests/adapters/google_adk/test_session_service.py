"""ADK's sessions: its memory service beside ours, state, stale writers, users, its own server."""
# ruff: noqa: ANN401 - services of two kinds

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from agent_cores.session.errors import InvalidInputError
from tests.adapters.google_adk.conftest import APP, event, texts

AGENTS = Path(__file__).parent / "agents"


async def test_what_comes_back_is_equal(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s", state={"k": [1, None, {"a": 2}]})
    blob = types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="image/png"))
    sent = Event(
        author="agent",
        invocation_id="i",
        content=types.Content(role="model", parts=[blob, types.Part(text="会话")]),
        custom_metadata={"a": [1, None]},
        long_running_tool_ids={"x", "y"},
        timestamp=1732881234.1234567,
    )
    await service.append_event(session, sent)
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert stored.events == [sent]
    assert stored.events[0].timestamp == stored.last_update_time == sent.timestamp
    assert stored.state == {"k": [1, None, {"a": 2}]}


@pytest.mark.parametrize("time", [float("nan"), float("inf"), float("-inf")])
async def test_a_time_that_json_cannot_hold_is_refused_before_anything_is_written(
    service: ADKSessionService, time: float
) -> None:
    session = await service.create_session(**APP, session_id="s", state={"app:a": 1, "own": 1})
    sent = event("text", delta={"app:a": 2, "own": 2}, timestamp=time)
    with pytest.raises(InvalidInputError, match=f"event/timestamp: must be finite, not {time}"):
        await service.append_event(session, sent)
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert (stored.events, stored.state) == ([], {"app:a": 1, "own": 1})
    assert (session.events, session.state) == ([], stored.state)
    await service.append_event(session, sent.model_copy(update={"timestamp": 1.0}))
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert [each.timestamp for each in stored.events] == [1.0]


async def test_state_goes_where_its_prefix_says(service: ADKSessionService) -> None:
    state = {"app:a": 1, "user:u": 2, "own": 3, "temp:t": 4}
    first = await service.create_session(**APP, session_id="1", state=state)
    assert first.state == {"app:a": 1, "user:u": 2, "own": 3}
    await service.append_event(
        first, event(delta={"app:a": 10, "user:v": None, "own": {"x": 1}, "temp:t": 5})
    )
    assert first.state["temp:t"] == 5
    second = await service.create_session(**APP, session_id="2")
    assert second.state == {"app:a": 10, "user:u": 2, "user:v": None}
    other = await service.create_session(app_name="app", user_id="bob", session_id="1")
    assert other.state == {"app:a": 10}
    assert await service.get_user_state(**APP) == {"u": 2, "v": None}
    assert await service.get_user_state(app_name="else", user_id="ann") == {}
    stored = await service.get_session(**APP, session_id="1")
    assert stored is not None
    assert stored.state == {"app:a": 10, "user:u": 2, "user:v": None, "own": {"x": 1}}
    assert stored.events[0].actions.state_delta == {"app:a": 10, "user:v": None, "own": {"x": 1}}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (print, str(print)),
        (b"\xff", "_w=="),
        (float("nan"), None),
        ((1, {2: "x"}), [1, {"2": "x"}]),
        (2**70, 2**70),
    ],
)
async def test_a_value_that_is_no_json_is_stored_as_some(
    service: ADKSessionService, value: Any, stored: Any
) -> None:
    state = {"k": value, "app:k": value, "user:k": value}
    created = await service.create_session(**APP, session_id="s", state=dict(state))
    assert created.state == dict.fromkeys(state, stored)
    await service.append_event(created, event(delta={"app:new": value, "new": value}))
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert found.state == dict.fromkeys([*state, "app:new", "new"], stored)


async def test_a_state_may_have_more_keys_than_one_change(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s")
    for part in range(3):
        delta = {f"{prefix}{part}-{n}": n for n in range(1_000) for prefix in ("", "app:", "user:")}
        await service.append_event(session, event(delta=delta))
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert len(found.state) == 9_000
    with pytest.raises(InvalidInputError, match="at most 1000"):
        await service.append_event(found, event(delta={str(n): n for n in range(1_001)}))


@pytest.mark.parametrize("key", ["", "k" * 400, "a/b", "a\nb", "键"])
async def test_any_key_of_state_is_kept(service: ADKSessionService, key: str) -> None:
    session = await service.create_session(**APP, session_id="s")
    await service.append_event(session, event(delta={key: "v", f"user:{key}": "u"}))
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert stored.state == {key: "v", f"user:{key}": "u"}


async def test_a_stale_session_is_refused_and_nothing_is_written(
    service: ADKSessionService,
) -> None:
    await service.create_session(**APP, session_id="s")
    mine, theirs = [await service.get_session(**APP, session_id="s") for _ in range(2)]
    assert mine is not None
    assert theirs is not None
    await service.append_event(mine, event("mine"))
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(theirs, event("theirs", delta={"k": 1, "app:k": 1}))
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert (texts(stored), stored.state) == (["mine"], {})
    await service.append_event(stored, event("again"))


async def test_of_many_writers_each_event_is_stored_once(service: ADKSessionService) -> None:
    await service.create_session(**APP, session_id="s")

    async def write(n: int) -> None:
        while True:
            session = await service.get_session(
                **APP, session_id="s", config=GetSessionConfig(num_recent_events=0)
            )
            assert session is not None
            try:
                await service.append_event(session, event(str(n), delta={f"app:{n}": n}))
            except StaleSessionError:
                continue
            return

    await asyncio.gather(*map(write, range(8)))
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert sorted(texts(stored)) == [str(n) for n in range(8)]
    assert stored.state == {f"app:{n}": n for n in range(8)}


async def test_agents_in_parallel_share_one_session_object(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="one")
    events = [event(str(n), delta={f"k{n}": n, "last": n}) for n in range(40)]
    await asyncio.gather(*(service.append_event(session, each) for each in events))
    stored = await service.get_session(**APP, session_id="one")
    assert stored is not None
    assert texts(stored) == texts(session)
    assert sorted(texts(stored)) == sorted(map(str, range(40)))
    assert stored.state == session.state
    await service.append_event(session, event("after"))


async def test_partial_events_are_not_stored(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s")
    await service.append_event(session, event(partial=True))
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert stored.events == session.events == []


async def test_ids_of_users_and_apps_do_not_meet(service: ADKSessionService) -> None:
    for app, user in [("app", "ann"), ("app", "bob"), ("other", "ann"), ("app:ann", "x")]:
        made = await service.create_session(app_name=app, user_id=user, session_id=" same ")
        assert made.id == "same"
        await service.append_event(made, event(f"{app} {user}"))
        with pytest.raises(AlreadyExistsError):
            await service.create_session(app_name=app, user_id=user, session_id="same")
    found = await service.get_session(**APP, session_id=" same")
    assert found is not None
    assert texts(found) == ["app ann"]
    await service.delete_session(**APP, session_id="same ")
    await service.delete_session(**APP, session_id="same")
    assert await service.get_session(**APP, session_id="same") is None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(found, event())
    left = await service.list_sessions(app_name="app")
    assert [(each.user_id, each.id) for each in left.sessions] == [("bob", "same")]


@pytest.mark.parametrize("odd", ["a/b", "..", "group:x", "会话", "x" * 300, "a:b", "\n"])
async def test_odd_names_lead_back(service: ADKSessionService, odd: str) -> None:
    made = await service.create_session(app_name=odd, user_id=odd, session_id=f"_{odd}_")
    await service.append_event(made, event(delta={"user:k": 1}))
    [listed] = (await service.list_sessions(app_name=odd)).sessions
    assert (listed.app_name, listed.user_id, listed.id) == (odd, odd, f"_{odd}_")
    assert await service.get_user_state(app_name=odd, user_id=odd) == {"k": 1}


async def test_lists_are_oldest_first_with_state_and_without_events(
    service: ADKSessionService,
) -> None:
    made = [
        await service.create_session(**APP, session_id=str(n), state={"n": n, "user:u": n})
        for n in range(3)
    ]
    await service.append_event(made[0], event())
    listed = (await service.list_sessions(**APP)).sessions
    assert [each.id for each in listed] == ["1", "2", "0"]
    assert [each.state for each in listed] == [{"n": int(s.id), "user:u": 2} for s in listed]
    assert all(each.events == [] for each in listed)
    assert (await service.list_sessions(app_name="none")).sessions == []


async def test_a_list_of_more_than_a_page_leaves_nothing_out(service: ADKSessionService) -> None:
    names = [str(n) for n in range(130)]
    made = await asyncio.gather(
        *(service.create_session(**APP, session_id=name, state={"k": name}) for name in names)
    )
    await asyncio.gather(*(service.append_event(session, event()) for session in made[::3]))
    for user in ("ann", None):
        listed = (await service.list_sessions(app_name="app", user_id=user)).sessions
        assert sorted(each.id for each in listed) == sorted(names)
        assert all(each.state == {"k": each.id} for each in listed)


@pytest.mark.parametrize("count", [0, 1, 3, 150, 1_300, 5_000, None])
async def test_the_latest_events_are_read(service: ADKSessionService, count: int | None) -> None:
    session = await service.create_session(**APP, session_id="s")
    verbs, owner = service._acting("ann")  # noqa: SLF001 - to fill it quickly
    sent = [event(str(n), timestamp=float(n)) for n in range(1_500)]
    for first in range(0, 1_500, 500):
        batch = [
            {"role": "user", "content": json.loads(each.model_dump_json(exclude_none=True))}
            for each in sent[first : first + 500]
        ]
        await verbs.add_messages("adk:app:ann:s", owner, batch)
    for after in (None, 1_400.0, 1_450.5, 200.0, 9_999.0):
        config = GetSessionConfig(num_recent_events=count, after_timestamp=after)
        found = await service.get_session(**APP, session_id=session.id, config=config)
        assert found is not None
        expected = sent if count is None else sent[len(sent) - min(count, 1_500) :]
        expected = [each for each in expected if after is None or each.timestamp >= after]
        assert texts(found) == texts(type("S", (), {"events": expected}))
        assert found.last_update_time == 1_499.0


async def test_several_loops_use_one_service(service: ADKSessionService) -> None:
    def talk(n: int) -> None:
        async def run() -> None:
            session = await service.create_session(**APP, session_id=str(n))
            for step in range(3):
                await service.append_event(session, event(str(step), delta={f"user:{n}": step}))

        asyncio.run(run())

    await asyncio.gather(*(asyncio.to_thread(talk, n) for n in range(4)))
    assert await service.get_user_state(**APP) == {str(n): 2 for n in range(4)}


SESSIONS = st.sampled_from(["1", "2"])
USERS = st.sampled_from(["ann", "bob"])
DELTAS = st.dictionaries(
    st.sampled_from(["a", "b", "app:a", "user:a", "temp:a"]),
    st.none() | st.integers(0, 3) | st.lists(st.integers(0, 1), max_size=2),
    max_size=3,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), USERS, SESSIONS, DELTAS),
        st.tuples(st.just("append"), USERS, SESSIONS, DELTAS),
        st.tuples(st.just("delete"), USERS, SESSIONS),
        st.tuples(st.just("get"), USERS, SESSIONS, st.none() | st.integers(0, 3)),
    ),
    max_size=12,
)


async def _step(service: Any, step: tuple[Any, ...], number: int) -> Any:
    kind, user, name = step[:3]
    key = {"app_name": "app", "user_id": user, "session_id": name}
    if kind == "create":
        try:
            made = await service.create_session(**key, state=step[3])
        except AlreadyExistsError:
            return "exists"
        return made.state
    if kind == "append":
        session = await service.get_session(**key)
        if session is None:
            return None
        sent = event(str(number), delta=dict(step[3]), id=str(number), timestamp=1e9 + number)
        await service.append_event(session, sent)
        return session.state, session.last_update_time, texts(session)
    if kind == "delete":
        return await service.delete_session(**key)
    session = await service.get_session(**key, config=GetSessionConfig(num_recent_events=step[3]))
    return session and (session.state, texts(session))


@given(steps=STEPS)
@settings(max_examples=60)
async def test_random_use_is_that_of_its_memory_service(steps: list[tuple[Any, ...]]) -> None:
    async with SessionManager("memory://") as manager:
        ours, theirs = ADKSessionService(manager), InMemorySessionService()
        for number, step in enumerate(steps):
            assert await _step(ours, step, number) == await _step(theirs, step, number)
            for user in ("ann", "bob", None):
                lists = [
                    await s.list_sessions(app_name="app", user_id=user) for s in (ours, theirs)
                ]
                mine, other = [
                    {(each.user_id, each.id): each.state for each in found.sessions}
                    for found in lists
                ]
                assert mine == other


async def test_the_example_runs(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from agent_cores.session.examples.google_adk_agent import main

    await main(store_url)
    assert capsys.readouterr().out.splitlines() == [
        "Hello (after 0 parts)",
        "And now? (after 2 parts)",
    ]


def test_the_server_of_adk_keeps_its_sessions_here(tmp_path: Path) -> None:
    uri = f"agentsessions://sqlite:///{tmp_path / 'sessions.db'}"
    adk = Path(sys.executable).with_name("adk")
    for turn in range(2):  # the second server finds what the first has stored
        command = [adk, "api_server", "--port", "0", f"--session_service_uri={uri}", AGENTS]
        with subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as server:
            try:
                assert server.stdout is not None
                found = (re.search(r"http://127.0.0.1:([1-9]\d*)", line) for line in server.stdout)
                address = next(match[0] for match in found if match)
                sessions = f"{address}/apps/echo/users/ann/sessions"
                if turn == 0:
                    assert _call(f"{sessions}/talk", {"k": 1})["id"] == "talk"
                asked = {"role": "user", "parts": [{"text": "Hello"}]}
                body = {
                    "appName": "echo",
                    "userId": "ann",
                    "sessionId": "talk",
                    "newMessage": asked,
                }
                [answer] = _call(f"{address}/run", body)
                expected = f"Hello (after {2 * turn} parts)"
                assert answer["content"]["parts"][0]["text"] == expected
                stored = _call(f"{sessions}/talk")
                assert stored["state"] == {"k": 1, "answer": expected}
                assert len(stored["events"]) == 2 * (turn + 1)
                assert [each["id"] for each in _call(sessions)] == ["talk"]
            finally:
                server.terminate()


def _call(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        url, data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
        return json.loads(response.read())
