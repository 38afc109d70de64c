"""ETags: what a session answers with, and what ``If-Match`` may hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.models import SessionMetadata

_TAG = re.compile(r'"(?:([0-9]{1,19})\.)?([1-9][0-9]{0,17})(?:\.[0-9]{1,19})?"')


class Expected(msgspec.Struct, frozen=True):
    """What ``If-Match`` asks for: the revision, and the incarnation if it is a whole ETag."""

    revision: int | None = None
    incarnation: int | None = None


NOTHING = Expected()


def etag(header: SessionMetadata) -> str:
    """Return the ETag of a session."""
    return f'"{header.incarnation}.{header.revision}.{header.last_seq}"'


def expected(values: Sequence[bytes]) -> Expected:
    """Read ``If-Match``: an ETag of a session, a bare revision in quotes, or ``*``."""
    if not values:
        return NOTHING
    text = values[0].strip().decode("latin-1")
    if text == "*" and len(values) == 1:
        return NOTHING
    match = _TAG.fullmatch(text) if len(values) == 1 else None
    if match is None or text.count(".") == 1:
        raise Refusal("malformed_request", "If-Match is one ETag of a session, or its revision")
    return Expected(int(match[2]), None if match[1] is None else int(match[1]))
