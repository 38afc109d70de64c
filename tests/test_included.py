"""What a list includes, where a context or a message in the store cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.testing.samples import change_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_list_leaves_out_what_it_cannot_read_and_logs_it_once(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path / 'sessions.db'}"
    async with SessionManager(url) as manager:
        for name in ("good", "message", "context"):
            await manager.create_session("ann", session_id=name, context={"k": 1})
            await manager.add_message(name, "ann", "user", "Hello")
        storage = manager.runtime.storage
        for name in ("message", "context"):
            found = await storage.read("default", name)
            assert found is not None
            at = found.header.last_active_at
            effects: dict[str, Any] = {"context_set": {"k": b"no value"}}
            if name == "message":
                effects = {"append": (StoredMessage(0, "m", at, b"no message"),)}
            await storage.apply(change_of(found.header, at, **effects))
        operator = manager.as_operator("support")
        both = await manager.list_user_sessions("ann", include=["context", "last_message"])
        assert [session.id for session in both] == ["good"]
        contexts = await operator.list_sessions(owner_id="ann", include=["context"])
        assert {session.id for session in contexts} == {"good", "message"}
        assert len(await manager.list_user_sessions("ann")) == 3
    assert caplog.text.count("'message'") == caplog.text.count("'context'") == 1
