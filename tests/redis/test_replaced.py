"""A replacement that others append before: the script removes what they have appended."""

from __future__ import annotations

import pytest

from agent_cores.session.models import Change, SeqRange, SessionMetadata
from agent_cores.session.models.selection import END
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of, new_message
from tests.redis.interrupts import before_writes
from tests.redis.talks import append, messages, start


def _replacement(header: SessionMetadata, after_seq: int, *ids: str) -> Change:
    new = tuple(new_message(name, "new", at=utc_now()) for name in ids)
    return change_of(header, utc_now(), append=new, remove=SeqRange(after_seq + 1, END))


@pytest.mark.parametrize(("after_seq", "attempts"), [(1, 1), (2, 2)])
async def test_what_was_appended_before_a_write_is_replaced_too(
    provider: RedisProvider, monkeypatch: pytest.MonkeyPatch, after_seq: int, attempts: int
) -> None:
    header = await start(provider)
    for name in ("m1", "m2"):
        header = (await provider.apply(append(header, name))).header
    interrupted: list[str] = []

    async def append_another() -> None:
        interrupted.append(f"x{len(interrupted)}")
        await provider.apply(append(header, interrupted[-1]))

    before_writes(monkeypatch, append_another)
    applied = await provider.apply(_replacement(header, after_seq, "x0", "m9"))
    monkeypatch.undo()
    assert len(interrupted) == attempts
    stayed = [(1, "m1"), (2, "m2")][:after_seq]
    last = 2 + attempts
    assert [(m.seq, m.id) for m in await messages(provider)] == [
        *stayed,
        (last + 1, "x0"),
        (last + 2, "m9"),
    ]
    assert (applied.header.last_seq, applied.header.message_count) == (last + 2, len(stayed) + 2)
    assert applied.header.revision == header.revision + 1
