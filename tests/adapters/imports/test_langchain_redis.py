"""Chats that langchain-redis kept, imported as natural sessions.

It needs Redis with JSON and Search, which no package carries: fakeredis has the former, and what
langchain-redis asks of the latter, an index to search by, is left out.
"""

from __future__ import annotations

import warnings
from typing import Any

import fakeredis
import pytest
import redis.asyncio
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_redis import RedisChatMessageHistory
from redisvl.index import SearchIndex

from agent_cores.session import SessionManager
from agent_cores.session.errors import StoreFormatError
from agent_cores.session.frameworks import langchain_redis
from tests.adapters.importing import imported

CALL = {"id": "call", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
MESSAGES = [
    SystemMessage("Be kind."),
    HumanMessage([{"type": "text", "text": "How much is ☂?"}, "now"]),
    AIMessage("", additional_kwargs={"tool_calls": [CALL]}),
    ToolMessage("7", tool_call_id="call", status="error"),
    AIMessage("7."),
]
URL = "redis://localhost:1/0"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> fakeredis.FakeServer:
    """Return a server that the import reaches by any URL."""
    server = fakeredis.FakeServer(server_type="redis")

    def from_url(_: str, **options: Any) -> Any:  # noqa: ANN401 - a client
        del options["encoding_errors"]
        return fakeredis.FakeAsyncRedis(server=server, **options)

    monkeypatch.setattr(redis.asyncio.Redis, "from_url", from_url)
    monkeypatch.setattr(SearchIndex, "create", lambda *_, **__: None)
    return server


def history(server: fakeredis.FakeServer, name: str) -> RedisChatMessageHistory:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return RedisChatMessageHistory(name, redis_client=fakeredis.FakeRedis(server=server))


def held(client: Any) -> dict[bytes, Any]:  # noqa: ANN401 - a client
    """Return the documents of a server."""
    keys = sorted(set(client.keys()) - {b"chat:other"})
    return {key: client.json().get(key) for key in keys}


async def test_chats_come_in_the_order_of_time(
    target: SessionManager, server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(langchain_redis, "_SCANNED", 3)
    monkeypatch.setattr(langchain_redis, "_READ", 2)
    for message in MESSAGES:
        for name in ("a:b", "talk"):
            history(server, name).add_message(message)
    client = fakeredis.FakeRedis(server=server)
    client.set("chat:other", "text")
    client.json().set("chat:foreign", "$", {"session_id": "a:b"})
    before = held(client)
    told: list[tuple[int, int]] = []
    tally = await imported(
        target, "langchain-redis", URL, user="ann", progress=lambda *done: told.append(done)
    )
    assert (tally.sessions, tally.messages, tally.left_out.names) == (2, 10, [])
    assert told[-1] == (2, 2)
    assert held(client) == before
    text = {"type": "text", "text": "How much is ☂?"}
    result = {"type": "tool_result", "tool_use_id": "call", "content": "7", "is_error": True}
    for name in ("a:b", "talk"):
        stored = await target.get_session_messages(name, "ann")
        assert [(each.role, each.content) for each in stored] == [
            ("system", "Be kind."),
            ("user", [text, {"type": "text", "text": "now"}]),
            (
                "assistant",
                [
                    {"type": "tool_use", "id": "call", "name": "f", "input": {"a": 1}},
                ],
            ),
            ("tool", [result]),
            ("assistant", "7."),
        ]
        assert stored[2].metadata["original"]["additional_kwargs"] == {"tool_calls": [CALL]}
        assert sorted(each.created_at for each in stored) == [each.created_at for each in stored]
    assert (await imported(target, "langchain-redis", URL, user="ann")).present == 2


async def test_damaged_documents_are_left_out(
    target: SessionManager, server: fakeredis.FakeServer
) -> None:
    with pytest.raises(StoreFormatError):
        await imported(target, "langchain-redis", URL, user="ann")
    history(server, "talk").add_messages(MESSAGES[:2])
    client = fakeredis.FakeRedis(server=server)
    [key, _] = sorted(client.keys())
    client.json().set(key, "$.data", 7)
    tally = await imported(target, "langchain-redis", URL, user="ann")
    assert (tally.messages, tally.left_out.count) == (1, 1)


async def test_odd_documents_stop_nothing(
    target: SessionManager, server: fakeredis.FakeServer
) -> None:
    history(server, "talk").add_messages(MESSAGES[:1])
    client = fakeredis.FakeRedis(server=server)
    [key] = client.keys()
    document = client.json().get(key)
    client.json().set("chat:copy", "$", document)
    client.json().set("chat:empty", "$", {**document, "session_id": ""})
    client.json().set("chat:foreign", "$", {"session_id": "talk", "timestamp": 10**400})
    tally = await imported(target, "langchain-redis", URL, user="ann")
    assert (tally.sessions, tally.messages, tally.left_out.names) == (2, 3, [])
    stored = await target.get_session_messages("talk", "ann")
    assert len({each.id for each in stored}) == len(stored) == 2
