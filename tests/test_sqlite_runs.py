"""Plain appends of a batch go in one statement, and mean what each would by itself."""

# ruff: noqa: SLF001 - tests look behind the provider

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
    SessionExpiredError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.models import Applied, Query, RenewEffect, Window
from agent_cores.session.models.expiry import LISTING_LAG
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.storage.sqlite.queries import RUN_ROWS
from agent_cores.session.testing.samples import change_of
from tests.sqlite_stores import NOON, all_of, append, create, opened, rows

if TYPE_CHECKING:
    from pathlib import Path

    from agent_cores.session.models import SessionMetadata

pytestmark = pytest.mark.anyio
SECOND = timedelta(seconds=1)


class Recorder:
    """The statements that a provider's writer runs from now on, by their first words."""

    def __init__(self, provider: SQLiteProvider) -> None:
        self.statements: list[str] = []
        opened = provider._opened
        assert opened is not None
        opened.writer._connection.exec_trace = self._note

    def _note(self, _cursor: object, statement: str, _bindings: object) -> bool:
        self.statements.append(" ".join(statement.split()[:3]).replace('"', ""))
        return True


async def known(provider: SQLiteProvider, *names: str, **fields: object) -> list[SessionMetadata]:
    """Create sessions and append once to each, so that the provider remembers them."""
    headers = [await create(provider, name, **fields) for name in names]
    for header in headers:
        await provider.apply(append(header, "first"))
    return headers


async def seqs(provider: SQLiteProvider, name: str) -> list[tuple[int, str]]:
    snapshot = await provider.read("default", name, window=Window(limit=1000))
    assert snapshot is not None
    found = [(message.seq, message.id) for message in snapshot.messages or ()]
    header = snapshot.header
    assert (header.last_seq, header.message_count) == (found[-1][0], len(found))
    return found


async def test_a_batch_of_appends_is_one_statement(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        headers = await known(provider, "a", "b", "c")
        recorder = Recorder(provider)
        answers = await all_of(
            provider, *(append(header, name) for name in ("x", "y") for header in headers)
        )
        assert recorder.statements == ["INSERT INTO run"]
        assert [answer.header.last_seq for answer in answers if isinstance(answer, Applied)] == [
            2, 2, 2, 3, 3, 3,
        ]  # fmt: skip
        for name in "abc":
            assert await seqs(provider, name) == [(1, "first"), (2, "x"), (3, "y")]
        await provider.apply(append(headers[0], "alone"))
        assert recorder.statements == ["INSERT INTO run"] * 2


async def test_an_append_that_expects_a_revision_is_one_statement(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        [header] = await known(provider, "talk")
        recorder = Recorder(provider)
        revision, incarnation = header.revision, header.incarnation
        await provider.apply(
            append(header, "x", expected_revision=revision, expected_incarnation=incarnation)
        )
        assert recorder.statements == ["INSERT INTO run"]
        assert await seqs(provider, "talk") == [(1, "first"), (2, "x")]


async def test_one_session_takes_a_whole_batch_in_its_order(tmp_path: Path) -> None:
    count = RUN_ROWS[-1] + 30  # more than one statement takes
    async with opened(tmp_path / "sessions.db") as provider:
        [header] = await known(provider, "talk")
        names = [f"m{number}" for number in range(count)]
        answers = await all_of(provider, *(append(header, name) for name in names))
        assert all(isinstance(answer, Applied) for answer in answers)
        assert await seqs(provider, "talk") == list(enumerate(["first", *names], 1))


async def test_what_another_process_did_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as ours, opened(path) as theirs:
        a, b, c = await known(ours, "a", "b", "c")
        await theirs.apply(append(a, "theirs"))
        renewal = change_of(b, NOON + SECOND, renew=RenewEffect(ttl_seconds=9_000_000))
        renewed = await theirs.apply(renewal)
        answers = await all_of(ours, append(a, "x"), append(b, "x"), append(c, "x"))
        assert [type(answer) for answer in answers] == [Applied, StaleHeaderError, Applied]
        assert await seqs(ours, "a") == [(1, "first"), (2, "theirs"), (3, "x")]
        assert await seqs(ours, "c") == [(1, "first"), (2, "x")]
        [again] = await all_of(ours, append(renewed.header, "x"))
        assert isinstance(again, Applied)
        assert again.header.expires_at == renewed.header.expires_at
        recorder = Recorder(ours)
        for number in range(30):  # it comes back to runs by itself
            await all_of(ours, append(a, f"a{number}"), append(c, f"c{number}"))
        assert recorder.statements[-1] == "INSERT INTO run"


async def test_two_processes_that_append_to_the_same_sessions_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as one, opened(path) as other:
        headers = await known(one, "a", "b", "c")

        async def say(provider: SQLiteProvider, who: str) -> None:
            for number in range(40):
                answers = await all_of(
                    provider, *(append(header, f"{who}{number}") for header in headers)
                )
                assert all(isinstance(answer, Applied) for answer in answers)

        await asyncio.gather(say(one, "one"), say(other, "other"))
        for name in "abc":
            found = await seqs(one, name)
            assert [seq for seq, _ in found] == list(range(1, 82))
            for who in ("one", "other"):
                said = [name for _, name in found if name.startswith(who)]
                assert said == [f"{who}{number}" for number in range(40)]


async def test_a_known_message_is_answered_and_spoils_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        a, b = await known(provider, "a", "b")
        answers = await all_of(
            provider,
            append(a, "first"),
            append(b, "x"),
            append(b, "x"),
            append(a, "y", "first"),
            append(a, "z", expected_last_seq=9),
            append(b, "late", at=NOON + timedelta(days=900)),
        )
        kinds = [type(answer) for answer in answers]
        assert kinds[:4] == [Applied] * 4
        assert isinstance(answers[4], ConflictError)
        assert isinstance(answers[5], SessionExpiredError)
        assert [answer.replayed for answer in answers if isinstance(answer, Applied)] == [
            True, False, True, False,
        ]  # fmt: skip
        assert await seqs(provider, "a") == [(1, "first"), (2, "y")]
        assert await seqs(provider, "b") == [(1, "first"), (2, "x")]


async def test_a_run_moves_sessions_up_in_the_lists(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        a, b, c = await known(provider, "a", "b", "c", tags=("work",))
        recorder = Recorder(provider)
        await all_of(provider, append(c, "x", at=NOON + 2 * SECOND), append(a, "x", at=NOON))
        await all_of(provider, append(b, "x", at=NOON + 5 * SECOND))
        assert recorder.statements == ["INSERT INTO run"] * 2
        for query in (
            Query(namespace="default", at=NOON, owner_id=a.owner_id),
            Query(namespace="default", at=NOON, owner_id=a.owner_id, tags=("work",)),
        ):
            found = await provider.find(query)
            assert [header.session_id for header in found.headers] == ["b", "c", "a"]
    listed = {row["session_id"]: row["listed_at"] for row in rows(path)["tags"]}
    assert listed == {row["session_id"]: row["listed_at"] for row in rows(path)["sessions"]}


async def test_a_session_that_is_made_anew_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        [old] = await known(provider, "talk")
        await provider.apply(change_of(old, NOON, delete=True))
        new = await create(provider, "talk", incarnation=2)
        answers = await all_of(provider, append(old, "lost"), append(new, "kept"))
        assert isinstance(answers[0], StaleHeaderError)
        assert await seqs(provider, "talk") == [(1, "kept")]


async def test_what_cannot_be_kept_spoils_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        a, b, c = await known(provider, "a", "b", "c")
        answers = await all_of(
            provider, append(a, "x"), append(b, "lone \ud800"), append(c, "x"), append(a, "y")
        )
        kinds = [type(answer) for answer in answers]
        assert kinds == [Applied, InvalidInputError, Applied, Applied]
        assert await seqs(provider, "a") == [(1, "first"), (2, "x"), (3, "y")]
        assert await seqs(provider, "c") == [(1, "first"), (2, "x")]
        assert await seqs(provider, "b") == [(1, "first")]


@pytest.mark.parametrize(("theirs", "ours"), [(9.0, (0.0, 0.5)), (0.5, (5.0, 5.5))])
async def test_a_run_that_was_planned_on_one_that_failed_is_not_written(
    tmp_path: Path, theirs: float, ours: tuple[float, float]
) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as one, opened(path) as other:
        [header] = await known(one, "talk", ttl_seconds=None)
        opening = one._opened
        assert opening is not None
        gate = threading.Event()
        held = asyncio.create_task(opening.writer._thread.run(gate.wait))
        await asyncio.sleep(0)
        first, second = (NOON + seconds * SECOND for seconds in ours)
        refused = append(header, "refused", at=first, expected_last_seq=1)
        tasks = [asyncio.create_task(one.apply(refused))]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(one.apply(append(header, "kept", at=second))))
        await asyncio.sleep(0.01)
        await other.apply(append(header, "theirs", at=NOON + theirs * SECOND))
        gate.set()
        await held
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LastSeqMismatchError, Applied]
        assert await seqs(one, "talk") == [(1, "first"), (2, "theirs"), (3, "kept")]
        snapshot = await one.read("default", "talk")
        assert snapshot is not None
        assert snapshot.header.last_active_at == NOON + max(theirs, ours[1]) * SECOND
        assert snapshot.header.listed_at is not None
        assert snapshot.header.last_active_at - snapshot.header.listed_at <= LISTING_LAG
        assert isinstance(answers[1], Applied)
        assert answers[1].header.last_active_at == snapshot.header.last_active_at


async def test_what_callers_gave_is_not_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        [header] = await known(
            provider, "talk", attributes={"k": "v" * 1000}, title="t", tags=("x",)
        )
        [answer] = await all_of(provider, append(header, "x"))
        assert isinstance(answer, Applied)
        assert (answer.header.attributes, answer.header.title) == (header.attributes, "t")
        opening = provider._opened
        assert opening is not None
        [remembered] = opening.writer._runs._known.values()
        assert (remembered.header.attributes, remembered.header.title) == ({}, None)


async def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        a, b = await known(provider, "a", "b")
        opening = provider._opened
        assert opening is not None
        opening.writer._connection.execute("PRAGMA query_only = 1")
        for answer in await all_of(provider, append(a, "x"), append(b, "x")):
            assert isinstance(answer, StorageUnavailableError)
            assert not answer.outcome_unknown
        opening.writer._connection.execute("PRAGMA query_only = 0")
        assert isinstance((await all_of(provider, append(a, "x")))[0], Applied)
