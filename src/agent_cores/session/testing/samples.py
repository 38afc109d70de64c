"""What the cases store: headers, messages and changes with defaults, and awkward values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import encode_body, encode_value
from agent_cores.session.models import Change, SessionMetadata, StoredMessage
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.values import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

AWKWARD_TEXT = (
    "你好，世界 \U0001f600\U0001f469\u200d\U0001f4bb e\u0301 \x00 \x1f \u2028 \"'`\\ {}[]% \uffff"
)
"""Chinese, emoji, a combining accent, NUL, and characters that stores and formats use."""

AWKWARD_NAME = "名字 \U0001f600 e\u0301 \"'`\\ {}[]%:*?"
"""The same for names, which hold no control characters."""

AWKWARD_ID = AWKWARD_NAME.replace("\\", "")
"""The same for ids of sessions and messages, which may be part of a path."""

AWKWARD_VALUE: dict[str, Any] = {
    AWKWARD_TEXT: AWKWARD_TEXT,
    "": "",
    "numbers": [0, -1, 1, 1.0, 0.1, 1e300, -1e-300, 2**53 + 1, 2**63 - 1, -(2**63)],
    "constants": [True, False, None],
    "nested": {"empty": {}, "list": [[], [[]], [None]]},
}

DISTINCT_NAMES = (
    "case",
    "Case",
    "CASE",
    "résumé",
    "re\u0301sume\u0301",
    "resume",
    "trailing",
    "trailing ",
    " trailing",
    "straße",
    "strasse",
    "k",
    "\u212a",
    "ﬁ",
    "fi",
    "会话",
    "\U0001f600",
    "a:b",
    "a%3Ab",
    "{a}:b",
    "a*",
    "a_",
    "0",
    "00",
    "None",
)
"""Names that a store might confuse: by case, accent, Unicode form, blank or pattern."""


def new_header(
    session_id: str = "talk",
    *,
    at: datetime,
    incarnation: int = 1,
    owner_id: str = "ann",
    namespace: str = "default",
    ttl_seconds: float | None = 3600,
    **fields: Any,  # noqa: ANN401 - other fields of SessionMetadata
) -> SessionMetadata:
    """Return the header of a session created at an instant."""
    header = SessionMetadata(
        namespace=namespace,
        session_id=session_id,
        incarnation=incarnation,
        owner_id=owner_id,
        ttl_seconds=ttl_seconds,
        **{"created_at": at, "updated_at": at, "last_active_at": at, **fields},
    )
    if "expires_at" in fields:
        return header
    return msgspec.structs.replace(header, expires_at=fresh_end(header, at))


def new_message(
    message_id: str,
    content: object = "hello",
    *,
    at: datetime,
    seq: int = 0,
    author_id: str = "ann",
    metadata: Mapping[str, Any] | None = None,
) -> StoredMessage:
    """Return a message as the manager sends it; ``seq`` 0 is for the store to number."""
    body = encode_body("user", encode_json(content), author_id, encode_json(metadata or {}))
    return StoredMessage(seq, message_id, at, body)


def new_context(**values: object) -> dict[str, bytes]:
    """Return context entries as the manager sends them to a provider."""
    return {key: encode_value(encode_json(value)) for key, value in values.items()}


def change_of(header: SessionMetadata, at: datetime, **effects: Any) -> Change:  # noqa: ANN401
    """Return a change to the session of a header, guarded by its incarnation only."""
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=at,
        **{"incarnation": header.incarnation, **effects},
    )


def creation(header: SessionMetadata, **effects: Any) -> Change:  # noqa: ANN401 - fields of Change
    """Return the change that creates a session, at its ``created_at``."""
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=header.created_at,
        create=header,
        **effects,
    )
