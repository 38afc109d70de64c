"""The audit log of operators, and that their rights come from the view alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from agent_cores.session import SessionManager, SyncSessionManager
from agent_cores.session.errors import SessionNotFoundError
from agent_cores.session.session_manager import get_session_manager

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
FIELDS = ("operator", "namespace", "verb", "session_id", "outcome")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "agent_cores.session.audit"):
        yield caplog


def audited(lines: pytest.LogCaptureFixture) -> list[tuple[object, ...]]:
    """Return the fields of every line of the audit log."""
    audit = [record for record in lines.records if record.name == "agent_cores.session.audit"]
    return [tuple(getattr(record, field) for field in FIELDS) for record in audit]


@pytest.mark.parametrize("any_loop", [False, True])
async def test_each_call_of_an_operator_is_one_line(
    lines: pytest.LogCaptureFixture, *, any_loop: bool
) -> None:
    async with SessionManager("memory", any_loop=any_loop) as manager:
        talk = await manager.create_session("ann", session_id="talk")
        await manager.add_message(talk, "ann", "user", "hi")
        assert audited(lines) == []
        operator = manager.as_operator("console")
        assert operator.operator == "console"
        made = await operator.create_session("bob")
        await operator.add_message(talk, "support", "user", "hi")
        await operator.list_sessions(owner_id="ann", include=["context"])
        with pytest.raises(SessionNotFoundError):
            await operator.get_session("no\nsuch", "support")
        async with operator.turn(talk, "support"):
            pass
    about = ("console", "default")
    assert audited(lines) == [
        (*about, "create_session", made, "done"),
        (*about, "add_message", talk, "done"),
        (*about, "list_sessions", None, "done"),
        (*about, "get_session", "no\nsuch", "session_not_found"),
        (*about, "take_turn", talk, "done"),
        (*about, "release_turn", talk, "done"),
    ]
    texts = [record.getMessage() for record in lines.records if record.name.endswith(".audit")]
    assert all("\n" not in text for text in texts)
    assert texts[1] == "operator 'console' in default: add_message, session 'talk': done"


def test_blocking_code_has_operators_too(lines: pytest.LogCaptureFixture) -> None:
    with SyncSessionManager("memory") as manager:
        talk = manager.create_session("ann", context={"a": 1})
        operator = manager.as_operator("console")
        assert operator.operator == "console"
        assert operator.get_session(talk, "support").context == {"a": 1}
        [listed] = operator.list_sessions(owner_id="ann", include=["context"])
        assert (listed.id, listed.context) == (talk, {"a": 1})
        assert operator.count_sessions(owner_id="ann").sessions == 1
        with pytest.raises(SessionNotFoundError):
            manager.get_session(talk, "console")
    verbs = [line[2] for line in audited(lines)]
    assert verbs == ["get_session", "list_sessions", "count_sessions"]


async def test_a_view_of_an_operator_leaves_the_manager_as_it_was() -> None:
    manager = get_session_manager("memory")
    async with manager:
        talk = await manager.create_session("ann")
        manager.as_operator("console")
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "console")
        assert not hasattr(manager, "list_sessions")


class Broken(logging.Handler):
    """An audit store that is down."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise, as a handler of a program's own may."""
        raise RuntimeError


async def test_a_hook_of_the_audit_log_that_raises_changes_nothing_and_loses_no_line(
    lines: pytest.LogCaptureFixture,
) -> None:
    audit, broken = logging.getLogger("agent_cores.session.audit"), Broken()
    audit.addHandler(broken)
    try:
        async with SessionManager("memory") as manager:
            await manager.create_session("ann", session_id="talk")
            operator = manager.as_operator("console")
            with pytest.raises(SessionNotFoundError):
                await operator.get_session("none", "support")
            assert await operator.delete_session("talk", "support")
    finally:
        audit.removeHandler(broken)
    told = [one.getMessage() for one in lines.records if one.levelno == logging.ERROR]
    assert [text.partition(" with ")[0] for text in told] == [
        "a handler of the audit log failed (RuntimeError)"
    ] * 2
    assert "get_session, session 'none': session_not_found" in told[0]
    assert "delete_session, session 'talk': done" in told[1]
