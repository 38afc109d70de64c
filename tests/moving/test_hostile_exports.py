"""An export whose checksums are right, and that no store of ours wrote; what a target refuses."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_cores.session import StorageFactory
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.frameworks.importing import import_from
from agent_cores.session.models import Change
from agent_cores.session.models.change import Applied
from agent_cores.session.moving import walking
from agent_cores.session.moving.copying import compare_stores, copy_sessions
from agent_cores.session.moving.importing import import_sessions
from agent_cores.session.moving.records import checksum
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing.samples import creation, new_header
from agent_cores.session.testing.wrapping import WrappingProvider
from tests.moving.sessions import NOW, everything, exported, long_session
from tests.servers import mariadb

Record = dict[str, Any]
Edit = Callable[[list[Record]], None]


def forged(lines: bytes, edit: Edit) -> bytes:
    """Return an export in which the records between the first and the last are edited."""
    records: list[Record] = [json.loads(line)["record"] for line in lines.splitlines()]
    first, *middle, last = records
    edit([one for one in middle if one.get("header", {}).get("session_id") != "good"])
    sums, signed = hashlib.sha256(), []
    for record in (first, *middle, last):
        if record is last:
            held = [one for one in middle if not one.get("more")]
            count = sum(len(one.get("messages", ())) for one in middle)
            last |= {"sessions": len(held), "messages": count, "sha256": sums.hexdigest()}
        encoded = msgspec.json.encode(record)
        signed.append(b'{"sha256":"%b","record":%b}\n' % (checksum(encoded).encode(), encoded))
        sums.update(checksum(encoded).encode())
    return b"".join(signed)


def header(**fields: object) -> Edit:
    """Return an edit of the header."""
    return lambda records: records[0]["header"].update(fields)


def message(place: int, **fields: object) -> Edit:
    """Return an edit of one message of the last record."""
    return lambda records: records[-1]["messages"][place].update(fields)


GRANT = {"subject": "eve", "role": "viewer", "granted_by": "ann", "granted_at": NOW.isoformat()}
FORGERIES: dict[str, Edit] = {
    "a namespace that is none": header(namespace="Team A/B"),
    "no namespace": header(namespace=""),
    "an id with a slash": header(session_id="a/b"),
    "an id with a line break": header(session_id="a\nb"),
    "no id": header(session_id=""),
    "an owner who is a group": header(owner_id="group:staff"),
    "no owner": header(owner_id=""),
    "an empty tag": header(tags=[""]),
    "a grant of another subject": header(grants={"bob": GRANT}),
    "a second owner": header(grants={"eve": {**GRANT, "role": "owner"}}),
    "a negative incarnation": header(incarnation="-1"),
    "an access revision past 63 bits": header(access_revision=str(2**63)),
    "no revision": header(revision=0),
    "a last seq past 63 bits": header(last_seq=2**63),
    "a last seq before the last message": header(last_seq=1),
    "another number of messages": header(message_count=99),
    "a lifetime that has no end": header(max_lifetime_seconds=1e300),
    "an idle time below zero": header(ttl_seconds=-1),
    "a body that is no object": message(0, body="text"),
    "a body without a role": message(0, body={"content": "", "author_id": "a", "metadata": {}}),
    "a seq below one": message(0, seq=0),
    "a seq twice": message(0, seq=4),
    "a time that no clock shows": message(0, created_at=10**17),
}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("edit", FORGERIES.values(), ids=FORGERIES)
async def test_a_session_that_no_store_can_hold_is_named_and_keeps_no_other_back(
    edit: Edit, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "PART_MESSAGES", 3 if parts == 1 else 2)
    source, target = MemoryProvider(), MemoryProvider()
    for change in (long_session("talk", 3, NOW), creation(new_header("good", at=NOW))):
        await source.apply(change)
    lines, _ = await exported(source)
    tally = await import_sessions(target, io.BytesIO(forged(lines, edit)))
    left = tally.unreadable.count + tally.refused.count
    assert (left, tally.sessions, tally.is_complete) == (1, 1, False)
    assert [session_id for _, session_id in await everything(target)] == ["good"]


async def test_an_export_that_nobody_forged_is_as_it_was() -> None:
    source = MemoryProvider()
    await source.apply(long_session("talk", 3, NOW))
    lines, _ = await exported(source)
    target = MemoryProvider()
    assert (await import_sessions(target, io.BytesIO(forged(lines, header())))).is_complete
    assert await everything(target) == await everything(source)


class Picky(WrappingProvider):
    """A store that takes no message called m2, and no session called big."""

    async def apply(self, change: Change) -> Applied:
        """Refuse it, as a server does that has shorter columns."""
        if change.session_id == "big" or any(one.id == "m2" for one in change.append):
            raise InvalidInputError("value", "the server refuses it")
        return await self.inner.apply(change)


@pytest.mark.parametrize("how", ["import", "copy"])
async def test_what_the_target_refuses_is_named_and_keeps_no_other_back(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "PART_MESSAGES", 2)
    source, target = MemoryProvider(), Picky(MemoryProvider())
    for session_id, length in (("big", 0), ("long", 5), ("good", 1)):
        await source.apply(long_session(session_id, length, NOW))
    if how == "copy":
        tally = await copy_sessions(source, target)
        compared = await compare_stores(source, target)
        assert sorted(compared.differing.names) == ["default/big", "default/long"]
    else:
        lines, _ = await exported(source)
        tally = await import_sessions(target, io.BytesIO(lines))
    assert sorted(tally.refused.names) == ["default/big", "default/long"]
    assert (tally.sessions, tally.done, tally.is_complete) == (1, 3, False)
    assert [session_id for _, session_id in await everything(target.inner)] == ["good"]


async def test_a_server_with_shorter_columns_takes_all_that_fits() -> None:
    source, target = MemoryProvider(), StorageFactory.create(mariadb.reused_store())
    for session_id in ("good", "x" * 900):
        await source.apply(creation(new_header(session_id, at=NOW)))
    await target.initialize()
    try:
        tally = await copy_sessions(source, target)
        assert tally.refused.names == [f"default/{'x' * 900}"]
        lines, _ = await exported(source)
        tally = await import_sessions(target, io.BytesIO(lines))
        assert (tally.present, tally.refused.count) == (1, 1)
    finally:
        await target.shutdown()


async def test_what_the_target_refuses_of_a_framework_is_left_out_with_the_reason(
    tmp_path: Path,
) -> None:
    source = tmp_path / "items.db"
    with closing(sqlite3.connect(source)) as items, items:
        items.execute("CREATE TABLE items (id INTEGER, session_id, message_data, created_at)")
        for name in ("big", "good"):
            items.execute("INSERT INTO items VALUES (1, ?, '{}', '')", (name,))
    target = Picky(MemoryProvider())
    tally = await import_from("openai-agents", str(source), target, user="ann")
    assert tally.left_out.names == ["session big: value: the server refuses it"]
    assert [session_id for _, session_id in await everything(target.inner)] == ["good"]
