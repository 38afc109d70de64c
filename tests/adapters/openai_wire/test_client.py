"""OpenAI's client for Python, unmodified, on a service of ours."""

from __future__ import annotations

from typing import Any, cast

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItemList,
    Message,
)
from openai.types.responses import ResponseReasoningItem

from agent_cores.session.client import SessionClient
from tests.adapters.openai_wire.conftest import HTTP, Served

HELLO = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "rain ☂"}
FULL: list[dict[str, Any]] = [
    {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_image", "image_url": "https://x.example/a", "detail": "auto"}],
    },
    CALL,
    OUTPUT,
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "id": "rs_1"},
    {"type": "file_search_call", "id": "fs_1", "queries": ["a"], "status": "completed"},
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "oslo"},
    },
    {"type": "image_generation_call", "id": "ig_1", "result": "aGk=", "status": "completed"},
    {"type": "compaction", "encrypted_content": "gAAA"},
    {"type": "mcp_call", "id": "mcp_1", "arguments": "{}", "name": "n", "server_label": "s"},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
    {
        "type": "mcp_approval_request",
        "id": "m1",
        "arguments": "{}",
        "name": "n",
        "server_label": "",
    },
    {"type": "mcp_approval_response", "approval_request_id": "m1", "approve": True},
    {"type": "custom_tool_call", "call_id": "c2", "input": "x", "name": "n"},
    {"type": "custom_tool_call_output", "call_id": "c2", "output": "y"},
    {
        "type": "local_shell_call",
        "id": "lsh_1",
        "call_id": "c3",
        "status": "completed",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
]

FINISHED = [
    HELLO,
    {**CALL, "status": "completed"},
    {**OUTPUT, "status": "completed"},
    {"type": "reasoning", "summary": [], "id": "rs_1"},
]


def dumped(item: Any) -> dict[str, Any]:  # noqa: ANN401 - a model of the client
    """Return an item as the Agents SDK reads it, without its id."""
    found: dict[str, Any] = item.model_dump(exclude_unset=True)
    assert found.pop("id")
    return found


def without_id(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "id"}


def test_a_conversation_is_made_read_changed_and_deleted(client: OpenAI) -> None:
    metadata = {"title": "x", "tags": "a", "owner_id": "x"}
    made = client.conversations.create(items=[cast("Any", HELLO)], metadata=metadata)
    assert isinstance(made, Conversation)
    assert made.id.startswith("conv_")
    assert made.metadata == metadata
    assert client.conversations.retrieve(made.id) == made
    updated = client.conversations.update(made.id, metadata={"other": "y"})
    assert updated == made.model_copy(update={"metadata": {"other": "y"}})
    deleted = client.conversations.delete(made.id)
    assert isinstance(deleted, ConversationDeletedResource)
    assert (deleted.id, deleted.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)
    assert client.conversations.create().metadata == {}


def test_items_of_every_type_come_back_as_they_went_in(client: OpenAI) -> None:
    made = client.conversations.create()
    added = client.conversations.items.create(made.id, items=cast("Any", FULL))
    assert [dumped(item) for item in added.data] == [without_id(item) for item in FULL]
    ids = [item.get("id") for item in FULL]
    assert all(given in {None, item.id} for given, item in zip(ids, added.data, strict=True))
    assert list(client.conversations.items.list(made.id, order="asc")) == added.data
    for item in added.data:
        found = client.conversations.items.retrieve(item.id, conversation_id=made.id)
        assert found == item
        assert type(found) is type(item)


def test_responses_satisfy_the_types_of_the_client(client: OpenAI) -> None:
    """The client takes anything; its types, asked to validate, do not."""
    made = client.conversations.with_raw_response.create(items=cast("Any", FINISHED))
    conversation = Conversation.model_validate_json(made.text)
    items = client.conversations.items.with_raw_response.list(conversation.id)
    page = ConversationItemList.model_validate_json(items.text)
    assert isinstance(page.data[-1], Message)
    assert isinstance(page.data[0], ResponseReasoningItem)
    empty = client.conversations.items.with_raw_response.list(client.conversations.create().id)
    assert ConversationItemList.model_validate_json(empty.text).data == []


def test_a_pager_reads_all_in_both_orders(client: OpenAI) -> None:
    made = client.conversations.create()
    ids: list[str] = []
    for begin in range(0, 60, 20):
        some = [{"role": "user", "content": f"{begin + i}"} for i in range(20)]
        added = client.conversations.items.create(
            made.id, items=cast("Any", some), include=["message.output_text.logprobs"]
        )
        ids += [str(item.id) for item in added.data]
    for limit in (1, 7, 20, 100):
        asc = client.conversations.items.list(made.id, order="asc", limit=limit)
        assert [item.id for item in asc] == ids
    assert [item.id for item in client.conversations.items.list(made.id)] == ids[::-1]
    with pytest.raises(openai.BadRequestError):
        client.conversations.items.list(made.id, limit=101)


def test_deleting_an_item_returns_the_conversation(client: OpenAI) -> None:
    made = client.conversations.create(items=cast("Any", [HELLO, CALL]))
    last, first = client.conversations.items.list(made.id)
    assert client.conversations.items.delete(last.id, conversation_id=made.id) == made
    assert list(client.conversations.items.list(made.id)) == [first]


def test_errors_are_those_of_the_client(client: OpenAI, served: Served) -> None:
    made = client.conversations.create(metadata={"a": "b"})
    items = client.conversations.items
    with pytest.raises(openai.BadRequestError) as wrong:
        items.create(made.id, items=cast("Any", [{"type": 5}]))
    assert (wrong.value.code, wrong.value.param) == ("invalid_input", "items[0].type")
    assert wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError):
        items.create(made.id, items=cast("Any", [HELLO] * 21))
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="ask_wrong").conversations.retrieve(made.id)
    reader = client.with_options(api_key=served.reading_key)
    assert reader.conversations.retrieve(made.id) == made
    with pytest.raises(openai.PermissionDeniedError):
        reader.conversations.items.create(made.id, items=cast("Any", [HELLO]))
    with served.client("bob") as bob, pytest.raises(openai.NotFoundError):
        bob.conversations.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        items.retrieve("msg_none", conversation_id=made.id)


def test_a_conflict_is_not_retried(served: Served) -> None:
    sent: list[Any] = []
    http = HTTP.Client(event_hooks={"request": [sent.append]})
    with served.client(http_client=http) as client:
        made = client.conversations.create(items=cast("Any", [{**CALL, "id": "fc_1"}]))
        sent.clear()
        other = [{**CALL, "id": "fc_1", "name": "other"}]
        with pytest.raises(openai.ConflictError):
            client.conversations.items.create(made.id, items=cast("Any", other))
        assert len(sent) == 1


class LosesResponses(HTTP.HTTPTransport):
    """Loses the responses to the next requests, which the service has carried out."""

    losing = 0

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401
        response = super().handle_request(request)
        if self.losing:
            self.losing -= 1
            response.close()
            raise HTTP.ReadError("the response was lost", request=request)
        return response


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_response_doubles_nothing_that_has_ids_or_a_key(served: Served, lost: int) -> None:
    transport = LosesResponses()
    with served.client(http_client=HTTP.Client(transport=transport)) as client:
        made = client.conversations.create()
        items = client.conversations.items
        transport.losing = lost
        named = [{**CALL, "id": "fc_1"}, {**HELLO, "id": "msg_1"}]
        added = items.create(made.id, items=cast("Any", named)).data
        assert transport.losing == 0
        transport.losing = lost
        key = {"Idempotency-Key": "one write"}
        added += items.create(made.id, items=cast("Any", [HELLO, HELLO]), extra_headers=key).data
        assert transport.losing == 0
        assert list(items.list(made.id, order="asc")) == added
        assert len(added) == 4


async def test_the_asynchronous_client_does_the_same(async_client: AsyncOpenAI) -> None:
    made = await async_client.conversations.create(metadata={"a": "b"})
    items = async_client.conversations.items
    added = await items.create(made.id, items=cast("Any", FULL))
    assert [item async for item in items.list(made.id, order="asc", limit=3)] == added.data
    assert await items.delete(added.data[0].id, conversation_id=made.id) == made
    assert (await async_client.conversations.update(made.id, metadata=None)).metadata == {}
    await async_client.conversations.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await async_client.conversations.retrieve(made.id)


async def test_a_conversation_is_shared_and_listed_like_any_session(
    async_client: AsyncOpenAI, served: Served, native: SessionClient
) -> None:
    made = await async_client.conversations.create(
        items=cast("Any", [HELLO]), metadata={"topic": "x"}
    )
    [session] = await native.list_user_sessions("ann", metadata={"topic": "x"})
    assert session.id == made.id
    async with served.async_client("bob") as bob:
        with pytest.raises(openai.NotFoundError):
            await bob.conversations.items.list(made.id)
        await native.share_session(made.id, "ann", "bob")
        [item] = (await bob.conversations.items.list(made.id)).data
        assert isinstance(item, Message)
        with pytest.raises(openai.PermissionDeniedError):
            await bob.conversations.items.create(made.id, items=cast("Any", [HELLO]))
        await native.share_session(made.id, "ann", "bob", role="editor")
        await bob.conversations.items.create(made.id, items=cast("Any", [CALL]))
    messages = await native.get_session_messages(made.id, "ann")
    assert [message.author_id for message in messages] == ["ann", "bob"]
    assert messages[0].id == item.id
    assert messages[0].content == item.model_dump(exclude_unset=True)


async def test_a_session_begun_elsewhere_is_a_conversation(
    async_client: AsyncOpenAI, native: SessionClient
) -> None:
    await native.create_session("ann", session_id="support-42")
    await native.add_message("support-42", "ann", "user", "hello")
    await native.add_message("support-42", "ann", "assistant", "hi")
    page = await async_client.conversations.items.list("support-42", order="asc")
    texts = [cast("Any", item).content[0].text for item in page.data]
    assert texts == ["hello", "hi"]
