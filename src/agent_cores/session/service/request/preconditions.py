"""ETags: the one that a session's response carries, and what ``If-Match`` accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent_cores.session.models.version import read_version
from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.models import SessionMetadata

_REVISION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


def etag(header: SessionMetadata) -> str:
    """Return the ETag of a session: its version in quotes."""
    return f'"{header.version}"'


def expected(values: Sequence[bytes]) -> dict[str, Any]:
    """Read ``If-Match``: a session's ETag, a bare revision in quotes, or ``*``.

    Returns the matching keyword arguments of the manager's verbs.
    """
    if not values:
        return {}
    text = values[0].strip().decode("latin-1")
    if len(values) == 1:
        if text == "*":
            return {}
        quoted = len(text) > 1 and text[0] == text[-1] == '"'
        inner = text[1:-1] if quoted else ""
        if _REVISION.fullmatch(inner) is not None:
            return {"expected_revision": int(inner)}
        if read_version(inner) is not None:
            return {"expected_version": inner}
    raise Refusal("malformed_request", "If-Match is one ETag of a session, or its revision")
