"""How the SQLite store writes: batches, processes, what is left, and what lies in the tables."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pytest

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.models import (
    AccessEffect,
    Applied,
    Grant,
    Query,
    SeqRange,
    TurnEffect,
    Window,
)
from agent_cores.session.models.session import AccessRole
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)
from tests.sqlite_stores import (
    NOON,
    all_of,
    append,
    create,
    opened,
    python,
    rows,
    without_attributes,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

FileName = str | apsw.URIFilename | None
SECOND = timedelta(seconds=1)


async def appends(provider: SQLiteProvider) -> list[Applied | BaseException]:
    """Append in every way that the guards of a fast path tell apart."""
    header = await create(provider, "talk", title="t", tags=("a", "b"), attributes={"k": 1})
    endless = await create(provider, "endless", ttl_seconds=None)
    held = await create(provider, "held", expires_at=None, ttl_seconds=60)
    cached = without_attributes(header)
    lease = TurnEffect(token="token", lease_end=NOON + 60 * SECOND, take=True)
    answers = await all_of(
        provider,
        append(cached, "one"),
        append(cached, "two", "three", "four", at=NOON + SECOND / 4),
        append(cached, "two", at=NOON + SECOND / 2),
        append(cached, "three", "five", at=NOON + SECOND / 2),
        change_of(header, NOON, basis=cached, append=(new_message("one", "other", at=NOON),)),
        append(cached, "six", at=NOON + 3 * SECOND),
        append(cached, "late", at=NOON - SECOND),
        append(cached, "seven", expected_last_seq=99),
        append(cached, "seven", expected_last_seq=7),
        append(cached, "own", turn="token"),
        append(endless, "one", at=NOON + 2 * SECOND),
        append(held, "one", at=NOON + 2 * SECOND),
        append(cached, "over", at=NOON + timedelta(days=9)),
    )
    await provider.apply(change_of(header, NOON, turn_effect=lease))
    answers += await all_of(
        provider, append(cached, "own", turn="token"), append(cached, "not", turn="another")
    )
    await provider.apply(change_of(header, NOON, access=AccessEffect(archived=True, token=5)))
    return answers + await all_of(provider, append(cached, "after"))


def seen_by_caller(answer: Applied | BaseException) -> tuple[object, ...]:
    """Return what a caller would see of an answer, for comparison."""
    if isinstance(answer, BaseException):
        return type(answer), str(answer)
    header = without_attributes(answer.header)
    header = msgspec.structs.replace(header, turn=None, ttl_seconds=None)
    return header, answer.messages, answer.added, answer.replayed


def ordered_rows(path: Path) -> dict[str, list[list[tuple[str, Any]]]]:
    """Return all rows, whatever the order in which they were written."""
    return {
        table: sorted((list(row.items()) for row in found), key=repr)
        for table, found in rows(path).items()
    }


async def test_the_fast_path_does_what_the_generic_batch_does(tmp_path: Path) -> None:
    async with opened(tmp_path / "fast.db") as provider:
        fast = await appends(provider)
    async with opened(tmp_path / "long.db", fast_path=False) as provider:
        long = await appends(provider)
    assert list(map(seen_by_caller, fast)) == list(map(seen_by_caller, long))
    assert sum(isinstance(answer, Applied) for answer in fast) == 10
    assert ordered_rows(tmp_path / "fast.db") == ordered_rows(tmp_path / "long.db")


async def test_one_bad_change_spoils_no_other_of_its_batch(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        header = await create(provider)
        huge = new_header("huge", at=NOON, incarnation=2**70)
        answers = await all_of(
            provider,
            append(header, "a"),
            append(header, "twice", "twice"),
            append(header, "b"),
            creation(huge),
            change_of(new_header("missing", at=NOON), NOON, delete=True),
            append(header, "c"),
        )
        snapshot = await provider.read("default", "talk", window=Window())
    kinds = [type(answer) for answer in answers]
    assert kinds == [
        Applied,
        ConflictError,
        Applied,
        InvalidInputError,
        SessionNotFoundError,
        Applied,
    ]
    assert snapshot is not None
    assert [message.id for message in snapshot.messages or ()] == ["a", "b", "c"]
    assert snapshot.header.last_seq == snapshot.header.message_count == 3


async def test_readers_do_not_wait_for_a_writer_and_writers_give_up_in_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path, timeout=0.05) as provider:
        header = await create(provider)
        with closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            answers = await all_of(provider, append(header, "a"), append(header, "b"))
            assert await provider.read("default", "talk") is not None
            assert (await provider.find(Query(namespace="default", at=NOON))).headers == [header]
            other.execute("ROLLBACK")
        for answer in answers:
            assert isinstance(answer, StorageUnavailableError)
            assert not answer.outcome_unknown
        assert answers[0] is not answers[1]
        assert (await provider.apply(append(header, "a"))).header.last_seq == 1


class FailingFile(apsw.VFSFile):
    """A file whose sync fails while its file system says so."""

    def __init__(self, name: FileName, flags: list[int], owner: FailingDisk) -> None:
        self._owner = owner
        super().__init__(owner.base, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._owner.failing:
            raise apsw.IOError
        super().xSync(flags)


class FailingDisk(apsw.VFS):
    """A file system that can be told to fail."""

    failing = False

    def __init__(self) -> None:
        self.base = apsw.vfs_names()[0]
        super().__init__("failing", self.base, makedefault=True)

    def xOpen(self, name: FileName, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return FailingFile(name, flags, self)


async def test_a_commit_that_fails_on_the_disk_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    disk = FailingDisk()
    try:
        async with opened(tmp_path / "sessions.db") as provider:
            header = await create(provider)
            disk.failing = True
            answers = await all_of(provider, append(header, "a"), append(header, "b"))
            disk.failing = False
            for answer in answers:
                assert isinstance(answer, StorageUnavailableError)
                assert answer.outcome_unknown
            again = await provider.apply(append(header, "a"))
            assert again.messages[0].seq == again.header.last_seq == 1
    finally:
        disk.unregister()


async def test_a_read_holds_nothing_back_once_it_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path, pool_size=1) as provider:
        for number in range(5):
            await create(provider, f"talk-{number}")
        await provider.apply(append(await create(provider), "a", "b", "c"))
        await provider.find(Query(namespace="default", at=NOON, owner_id="ann", limit=1))
        await provider.read("default", "talk", window=Window(limit=1))
        with closing(apsw.Connection(str(path))) as other:
            [(busy, left, done)] = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert (busy, left, done) == (0, 0, 0)


async def test_a_deleted_session_leaves_no_row(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=NOON)
    async with opened(path) as provider:
        for session_id in ("talk", "stays"):
            header = new_header(session_id, at=NOON, tags=("a", "b"), grants={"bob": grant})
            messages = tuple(new_message(f"{n}", at=NOON) for n in range(1_200))
            await provider.apply(
                creation(header, append=messages, context_set=new_context(k=1, j=2))
            )
        assert await provider.delete_session("talk")
        again = await create(provider)
        assert again.last_seq == 0
        assert await provider.delete_session("talk")
    left = rows(path)
    assert {row["session_key"] for row in left["messages"]} == {2}
    assert len(left["messages"]) == 1_200
    assert len(left["context"]) == len(left["tags"]) == 2
    assert len(left["sessions"]) == len(left["shares"]) == 1
    assert left["deleted"] == []
    assert left["counters"] == [{"namespace": "default", "sessions": 1}]
    async with opened(path) as provider:
        await create(provider)
    assert [row["session_key"] for row in rows(path)["sessions"]] == [2, 4]


async def test_what_a_killed_process_left_of_a_deleted_session_goes_later(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, *(f"{n}" for n in range(900))))
    with closing(apsw.Connection(str(path))) as other:
        other.execute("DELETE FROM sessions")
    assert len(rows(path)["messages"]) == 900
    async with opened(path):
        pass
    left = rows(path)
    assert left.pop("schema")
    assert not any(left.values())


async def test_two_processes_number_one_session_without_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    code = """
import asyncio, sys
from pathlib import Path
from tests.sqlite_stores import all_of, append, opened
async def main():
    async with opened(Path(sys.argv[1])) as provider:
        header = (await provider.read("default", "talk")).header
        for block in range(20):
            names = [f"{sys.argv[2]}-{block}-{n}" for n in range(10)]
            for applied in await all_of(provider, *(append(header, name) for name in names)):
                print(applied.messages[0].seq)
asyncio.run(main())
"""
    async with opened(path) as provider:
        await create(provider)
    processes = [python(code, path, name) for name in "ab"]
    seqs = [int(seq) for process in processes for seq in process.communicate()[0].split()]
    assert sorted(seqs) == list(range(1, 401))
    assert [row["seq"] for row in rows(path)["messages"]] == list(range(1, 401))


async def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    code = """
import asyncio, itertools, sys
from pathlib import Path
from tests.sqlite_stores import append, opened
async def main():
    async with opened(Path(sys.argv[1])) as provider:
        header = (await provider.read("default", "talk")).header
        async def caller(caller):
            for n in itertools.count():
                name = f"{sys.argv[2]}-{caller}-{n}"
                applied = await provider.apply(append(header, name))
                print(applied.messages[0].seq, name, flush=True)
        await asyncio.gather(*(caller(number) for number in range(8)))
asyncio.run(main())
"""
    async with opened(path) as provider:
        await create(provider)
    acknowledged: dict[int, str] = {}
    for kill in range(4):
        process = python(code, path, kill)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(40 + 17 * kill)]
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout if line.endswith("\n")]
        process.communicate()
        for line in lines:
            seq, name = line.split()
            acknowledged[int(seq)] = name
    async with opened(path) as provider:
        snapshot = await provider.read("default", "talk", window=Window(limit=100_000))
    assert snapshot is not None
    messages = snapshot.messages or []
    assert [message.seq for message in messages] == list(range(1, snapshot.header.last_seq + 1))
    assert len({message.id for message in messages}) == len(messages)
    stored = {message.seq: message.id for message in messages}
    assert len(acknowledged) >= 4 * 40
    assert acknowledged.items() <= stored.items()


async def test_writes_that_were_accepted_are_finished_by_shutdown(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    provider = SQLiteProvider(path)
    await provider.initialize()
    header = await create(provider)
    tasks = [asyncio.ensure_future(provider.apply(append(header, f"{n}"))) for n in range(700)]
    await asyncio.sleep(0)
    await provider.shutdown()
    assert sorted(task.result().header.last_seq for task in tasks) == list(range(1, 701))


async def test_what_lies_in_the_tables_changes_only_on_purpose(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    grant = Grant(subject="bob", role=AccessRole.EDITOR, granted_by="ann", granted_at=NOON)
    header = new_header(
        "talk",
        at=NOON,
        incarnation=7,
        title="你好",
        tags=("demo",),
        attributes={"k": [1, "\x00"]},
        grants={"bob": grant},
        request_digest="digest",
    )
    async with opened(path) as provider:
        message = new_message("m1", "hi\x00", at=NOON)
        created = await provider.apply(
            creation(header, append=(message,), context_set=new_context(topic="x"))
        )
        await provider.apply(append(created.header, "m2", "m3", at=NOON + 2 * SECOND))
        await provider.apply(
            change_of(
                created.header, NOON + 3 * SECOND, remove=SeqRange(2, 2), context_drop=("no",)
            )
        )
        take = TurnEffect(token="token", lease_end=NOON + 30 * SECOND, take=True)
        await provider.apply(change_of(created.header, NOON + 3 * SECOND, turn_effect=take))
    noon = 1_800_000_000_000
    assert rows(path) == {
        "schema": [{"version": 2, "oldest_program": 1}],
        "sessions": [
            {
                "session_key": 1,
                "namespace": "default",
                "session_id": "talk",
                "incarnation": 7,
                "access_revision": 7,
                "last_seq": 3,
                "message_count": 2,
                "last_active_at": noon + 3_000,
                "expires_at": noon + 3_603_000,
                "listed_at": noon + 3_000,
                "archived": 0,
                "hold": None,
                "turn_token": "token",
                "turn_expires_at": noon + 30_000,
                "revision": 2,
                "due_at": noon + 3_600_000,
                "owner_id": "ann",
                "created_at": noon,
                "updated_at": noon + 3_000,
                "ttl_seconds": 3600.0,
                "max_lifetime_seconds": None,
                "renew_on": "write",
                "public": 0,
                "context_bytes": 8,
                "request_digest": "digest",
                "format": 1,
                "title": '"你好"'.encode(),
                "tags": b'["demo"]',
                "grants": b'{"bob":{"subject":"bob","role":"editor","granted_by":"ann",'
                b'"granted_at":"2027-01-15T08:00:00Z","expires_at":null}}',
                "attributes": b'{"k":[1,"\\u0000"]}',
            }
        ],
        "messages": [
            {
                "session_key": 1,
                "seq": 1,
                "id": "m1",
                "created_at": noon,
                "body": b'1{"role":"user","content":"hi\\u0000","author_id":"ann","metadata":{}}',
            },
            {
                "session_key": 1,
                "seq": 3,
                "id": "m3",
                "created_at": noon + 2_000,
                "body": b'1{"role":"user","content":"hello","author_id":"ann","metadata":{}}',
            },
        ],
        "context": [{"session_key": 1, "key": "topic", "value": b'1"x"'}],
        "tags": [
            {
                "session_key": 1,
                "tag": "demo",
                "namespace": "default",
                "owner_id": "ann",
                "archived": 0,
                "listed_at": noon + 3_000,
                "session_id": "talk",
                "created_at": noon,
            }
        ],
        "shares": [
            {
                "session_key": 1,
                "subject": "bob",
                "namespace": "default",
                "granted_at": noon,
                "session_id": "talk",
            }
        ],
        "deleted": [],
        "counters": [{"namespace": "default", "sessions": 1}],
    }
