"""The client on the page about retries, on a real service whose responses get lost."""

from __future__ import annotations

import asyncio
import re
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from agent_cores.session.client import SessionClient
from tests.service.test_client_lost_answers import Cutter, cutter
from tests.service.wire import Wire

__all__ = ["cutter"]
PAGE = Path(__file__).parents[2] / "docs" / "retries.md"


def shown() -> Any:  # noqa: ANN401 - our own page has no types to import
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[-1]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    return names["call"]


async def test_a_request_of_the_page_is_carried_out_once_though_responses_are_lost(
    wire: Wire,
    cutter: tuple[Cutter, SessionClient],
) -> None:
    proxy, client = cutter
    url = f"{client._transport._base}/v1/sessions/talk/messages"  # noqa: SLF001 - the proxy's
    call, key = shown(), await wire.key()
    proxy.lose = 2
    body = {"messages": [{"role": "user", "content": "again"}]}
    stored = await asyncio.to_thread(call, "POST", url, key, "ann", body)
    assert proxy.seen == ["POST"] * 3
    assert [message["content"] for message in stored["data"]] == ["again"]
    page = await client.get_session_messages("talk", "ann")
    assert [message.content for message in page] == ["hi", "again"]
    with pytest.raises(urllib.error.HTTPError, match="422"):
        await asyncio.to_thread(call, "POST", url, key, "ann", {"messages": "none"})
