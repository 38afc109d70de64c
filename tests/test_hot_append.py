"""A hot batch: what one statement may apply together, and what each append to a session learns."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.models.times import from_millis, to_millis, utc_now
from agent_cores.session.storage.sql.hot import Append, HotAppends, append_all
from agent_cores.session.testing.samples import new_header
from tests.sql_stores import append

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.models import Applied, Change
    from agent_cores.session.storage.sql.dialect import Row

pytestmark = pytest.mark.anyio

HEADER = new_header("talk", at=utc_now(), last_seq=7, message_count=5)
OTHER = new_header("other", at=utc_now())


class Statement:
    """A database that applies what it is sent to all sessions but those it ``refuses``."""

    def __init__(self, *refuses: str) -> None:
        self.sent: HotAppends = HotAppends()
        self._refuses = refuses

    async def append_hot(self, appends: HotAppends, **_: Any) -> Sequence[Row]:  # noqa: ANN401
        self.sent = appends
        stored = {header.session_id: header for header in (HEADER, OTHER)}
        rows: list[Row] = []
        for guards in appends.sessions:
            if guards.session_id not in self._refuses:
                header = stored[guards.session_id]
                at = to_millis(header.last_active_at)
                rows.append((guards.item, header.last_seq, header.message_count, 1, at, at, at, at))
        return rows


async def send(statement: Statement, *changes: Change) -> list[Applied | None]:
    appends = [found for change in changes if (found := Append.of(change)) is not None]
    assert len(appends) == len(changes)
    return await append_all(statement, appends, sent_at=None, deadline=0.0, lock_wait=0.0)


def seqs(outcomes: Sequence[Applied | None]) -> list[list[int] | None]:
    return [
        None if outcome is None else [message.seq for message in outcome.messages]
        for outcome in outcomes
    ]


async def test_appends_to_one_session_share_its_guards_and_are_numbered_on() -> None:
    statement = Statement()
    outcomes = await send(
        statement, append(HEADER, "a", "b"), append(OTHER, "c"), append(HEADER, "d")
    )
    assert [(each.session_id, each.messages) for each in statement.sent.sessions] == [
        ("talk", 3),
        ("other", 1),
    ]
    assert [(each.item, each.nth, each.id) for each in statement.sent.messages] == [
        (0, 1, "a"),
        (0, 2, "b"),
        (1, 1, "c"),
        (0, 3, "d"),
    ]
    assert seqs(outcomes) == [[8, 9], [1], [10]]
    headers = [outcome.header for outcome in outcomes if outcome is not None]
    assert [(header.last_seq, header.message_count) for header in headers] == [
        (9, 7),
        (1, 1),
        (10, 8),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"turn": "t"}),
        ({"turn": "t"}, {"turn": "other"}),
        ({}, {"expected_revision": HEADER.revision}),
        ({}, {"expected_last_seq": 7}),
        ({"expected_last_seq": 7}, {"expected_last_seq": 7}),
    ],
)
async def test_an_append_with_other_guards_falls_back(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    outcomes = await send(
        Statement(), append(HEADER, "a", **first), append(HEADER, "b", **second), append(OTHER, "c")
    )
    assert seqs(outcomes) == [[8], None, [1]]


@pytest.mark.parametrize("field", ["incarnation", "access_revision", "revision"])
async def test_an_append_decided_on_another_header_falls_back(field: str) -> None:
    later = msgspec.structs.replace(HEADER, **{field: 99})
    assert seqs(await send(Statement(), append(HEADER, "a"), append(later, "b"))) == [[8], None]


async def test_appends_that_a_database_leaves_out_fall_back_together() -> None:
    changes = append(HEADER, "a"), append(OTHER, "b"), append(HEADER, "c")
    assert seqs(await send(Statement("talk"), *changes)) == [None, [1], None]


async def test_an_append_that_repeats_an_id_of_its_session_falls_back() -> None:
    changes = append(HEADER, "a"), append(OTHER, "a"), append(HEADER, "a", "b")
    assert seqs(await send(Statement(), *changes)) == [[8], [1], None]


async def test_shared_guards_are_the_strictest_and_its_times_the_latest() -> None:
    statement = Statement()
    now = from_millis(to_millis(utc_now()))
    ends = [now + timedelta(minutes=minutes) for minutes in (3, 1, 2)]
    changes = [
        msgspec.structs.replace(append(HEADER, f"m{nth}"), at=now + delay, valid_until=end)
        for nth, (end, delay) in enumerate(
            zip(ends, (timedelta(), timedelta(seconds=2), timedelta(seconds=1)), strict=True)
        )
    ]
    outcomes = await send(statement, append(HEADER, "first"), *changes)
    [guards] = statement.sent.sessions
    assert guards.valid_until == to_millis(min(ends))
    assert guards.at == to_millis(now + timedelta(seconds=2))
    headers = [outcome.header for outcome in outcomes if outcome is not None]
    assert guards.expires_at == max(to_millis(end) for h in headers if (end := h.expires_at))
    assert guards.listed_at == max(to_millis(at) for h in headers if (at := h.listed_at))


async def test_a_session_without_an_end_has_none_after_any_of_its_appends() -> None:
    statement = Statement()
    endless = msgspec.structs.replace(HEADER, expires_at=None, due_at=None, ttl_seconds=None)
    await send(statement, append(HEADER, "a"), append(endless, "b"))
    assert statement.sent.sessions[0].expires_at is None
