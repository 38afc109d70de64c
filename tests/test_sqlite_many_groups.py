"""SQLite: what is shared with many of a caller's groups is listed and read once."""

# ruff: noqa: ANN401 - handed on as it comes

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_cores.session.models import AccessRole, Grant, Query, SessionMetadata
from agent_cores.session.models.session import Subjects
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.headers import HeaderReader
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import creation, new_header

GROUPS, SESSIONS = 20, 30


@pytest.mark.parametrize("limit", [4, 100])
@pytest.mark.parametrize("apart", [0, 1], ids=["at one instant", "at different times"])
async def test_a_session_of_many_groups_is_listed_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, apart: int
) -> None:
    at = utc_now()
    provider = SQLiteProvider(tmp_path / "sessions.db")
    await provider.initialize()
    groups = [f"group:g{number}" for number in range(GROUPS)]
    for number in range(SESSIONS):
        grants = {
            group: Grant(
                subject=group,
                role=AccessRole.VIEWER,
                granted_by="ann",
                granted_at=at - timedelta(milliseconds=100 * number + apart * place),
            )
            for place, group in enumerate(groups)
        }
        await provider.apply(creation(new_header(f"s{number:02}", at=at, grants=grants)))
    decoded: Counter[str] = Counter()

    read = HeaderReader.read

    def counted(self: HeaderReader, *arguments: Any) -> SessionMetadata | None:
        header = read(self, *arguments)
        assert header is not None
        decoded[header.session_id] += 1
        return header

    monkeypatch.setattr(HeaderReader, "read", counted)
    query = Query(namespace="default", at=at, subjects=Subjects.of(("bob", *groups)), limit=limit)
    listed: list[str] = []
    while True:
        decoded.clear()
        found = await provider.find(query)
        assert set(decoded.values()) <= {1}
        listed += [header.session_id for header in found.headers]
        if found.next is None:
            break
        query = msgspec.structs.replace(query, after=found.next)
    assert listed == [f"s{number:02}" for number in range(SESSIONS)]
    await provider.shutdown()
