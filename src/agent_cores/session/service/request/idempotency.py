"""``Idempotency-Key``: ids derived from it, so that a request that is repeated changes nothing.

There is no table of keys. What a body leaves without an id gets one that the same caller gets again
for the same key; the store then tells the retry_state by the id, and for a create or a fork by the
digest kept beside it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.service.auth.principal import Principal
from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 255
_ID_BYTES = 16


class IdempotencyKey(msgspec.Struct, frozen=True):
    """The key of one request, with whom and what it holds for."""

    principal: Principal
    route: str
    session_id: str
    text: str

    def derived_id(self, index: int = 0) -> str:
        """Return an id of 128 bits."""
        digest = hashlib.sha256(msgspec.json.encode([*self._parts(), index])).digest()
        return base64.urlsafe_b64encode(digest[:_ID_BYTES]).rstrip(b"=").decode()

    def digest(self, body: bytes) -> str:
        """Return what tells the same request from another one under the same key.

        ``body`` is JSON with its keys in order. It alone would not do: under an id that the caller
        chose, a fork of one session would pass for a retry_state of a fork of another.
        """
        return hashlib.sha256(msgspec.json.encode(self._parts()) + b"\0" + body).hexdigest()

    def _parts(self) -> list[str | None]:
        """Return whom and what the key holds for."""
        return [
            self.principal.namespace,
            self.principal.source,
            self.principal.user_id,
            self.route,
            self.session_id,
            self.text,
        ]


def key_text(values: Sequence[bytes]) -> str | None:
    """Read the header: 1 to 255 visible ASCII characters."""
    if not values:
        return None
    text = values[0].decode("latin-1")
    visible = text.isascii() and text.isprintable()
    if len(values) > 1 or not 1 <= len(text) <= _LONGEST or not visible:
        raise Refusal("malformed_request", "Idempotency-Key is 1 to 255 ASCII characters")
    return text


def mismatch() -> Refusal:
    """Return the refusal of a key that was used for something else."""
    return Refusal("idempotency_mismatch", "this Idempotency-Key was used for another request")
