"""Removals and replacements in one statement, and what others write between its read and it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import TurnHeldError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.postgres.tails import Tails
from agent_cores.session.testing import suite_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


def said(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"m{n}", "role": "user", "content": str(n)} for n in numbers]


@pytest.fixture
async def two(url: str) -> AsyncIterator[tuple[SessionManager, SessionManager]]:
    one, other = (
        SessionManager(PostgresProvider.from_url(url), settings=suite_settings()) for _ in range(2)
    )
    async with one, other:
        await one.create_session("ann", session_id="talk", title="old")
        await one.add_messages("talk", "ann", said(1, 2, 3))
        yield one, other


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return whether each of the statements wrote."""
    written: list[bool] = []
    write = Tails.write

    async def noted(self: Tails, *given: Any, **options: Any) -> bool:  # noqa: ANN401 - passed on
        written.append(await write(self, *given, **options))
        return written[-1]

    monkeypatch.setattr(Tails, "write", noted)
    return written


async def test_a_pop_and_a_replacement_each_write_once(
    two: tuple[SessionManager, SessionManager], outcomes: list[bool]
) -> None:
    one, other = two
    assert [m.seq for m in await one.pop_messages("talk", "ann")] == [3]
    new = await one.replace_messages("talk", "ann", said(4, 2), after_seq=1)
    assert [message.seq for message in new] == [4, 5]
    await one.rewind_session("talk", "ann", 4)
    assert outcomes == [True, True, True]
    read = await other.get_session("talk", "ann")
    assert [message.id for message in read.messages or ()] == ["m1", "m4"]
    assert (read.metadata.message_count, read.metadata.last_seq) == (2, 5)
    assert read.metadata.revision == 4


@pytest.mark.parametrize("verb", ["replace", "pop"])
@pytest.mark.parametrize("between", ["append", "metadata", "share", "turn", "pop"])
async def test_what_others_write_in_between_is_not_undone(
    two: tuple[SessionManager, SessionManager],
    outcomes: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    between: str,
) -> None:
    one, other = two
    write, pending = Tails.write, [between]

    async def interrupted(self: Tails, *given: Any, **options: Any) -> bool:  # noqa: ANN401 - passed on
        match pending.pop() if pending else "":
            case "append":
                await other.add_messages("talk", "ann", said(9))
            case "metadata":
                await other.update_session(
                    "talk", "ann", metadata_updates={"title": "new", "tags": ["x"]}
                )
            case "share":
                await other.share_session("talk", "ann", "bob")
            case "turn":
                await other.take_turn("talk", "ann")
            case "pop":
                assert [m.seq for m in await other.pop_messages("talk", "ann")] == [3]
        return await write(self, *given, **options)

    monkeypatch.setattr(Tails, "write", interrupted)
    if verb == "pop":
        popped = [m.seq for m in await one.pop_messages("talk", "ann")]
        assert popped == ([2] if between == "pop" else [3])
    else:
        await one.replace_messages("talk", "ann", said(5), after_seq=2)
    read = await other.get_session("talk", "ann")
    kept = {"pop": ["m1"] if between == "pop" else ["m1", "m2"], "replace": ["m1", "m2", "m5"]}
    appended = ["m9"] if (verb, between) == ("pop", "append") else []
    assert [message.id for message in read.messages or ()] == kept[verb] + appended
    assert read.metadata.message_count == len(kept[verb] + appended)
    assert read.metadata.title == ("new" if between == "metadata" else "old")
    assert bool(read.metadata.grants) == (between == "share")
    if between == "turn":
        with pytest.raises(TurnHeldError):
            await one.take_turn("talk", "ann")
    assert outcomes[0] is (between == "pop")
