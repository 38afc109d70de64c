"""New sessions as the arguments of ``CREATE_SESSIONS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import encode_header
from agent_cores.session.storage.sql.rows import shared_rows, tag_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.storage.sql.creates import PlannedCreate

_encode = msgspec.json.Encoder().encode
_NONE = "[]"


def create_arguments(sessions: Sequence[PlannedCreate]) -> tuple[str, str, str, str]:
    """Return headers, tags, grants and context entries of new sessions, each as JSON."""
    headers = [encode_header(new.header) for new in sessions]
    tags: list[dict[str, Any]] = []
    grants: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for new in sessions:
        header = new.header
        name = {"namespace": header.namespace, "session_id": header.session_id}
        tags += [{**name, "mark": tag_mark(tag)} for tag in set(header.tags)]
        for _, subject, _, granted_at, _ in shared_rows(0, header):
            grants.append({**name, "subject": subject, "granted_at": granted_at})
        context = new.applied.context_set
        entries += [{**name, "key": key, "value": value} for key, value in context.items()]
    return _json(headers), _json(tags), _json(grants), _json(entries)


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return _encode(rows).decode() if rows else _NONE
