"""``Idempotency-Key``: derived ids, so that a repeated request changes nothing.

There is no table of keys. Where a body leaves out an id, the id is derived from the caller and the
key, so a retry derives the same one. The store recognises the retry by that id and, for creates and
forks, by the digest stored beside it.
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
    """The key of one request, with the caller and the operation that it applies to."""

    principal: Principal
    route: str
    session_id: str
    text: str

    def derived_id(self, index: int = 0) -> str:
        """Return an id of 128 bits."""
        digest = hashlib.sha256(msgspec.json.encode([*self._parts(), index])).digest()
        return base64.urlsafe_b64encode(digest[:_ID_BYTES]).rstrip(b"=").decode()

    def digest(self, body: bytes) -> str:
        """Return a digest that distinguishes different requests with the same key.

        ``body`` is JSON with sorted keys. The body alone is not enough: with an id chosen by the
        caller, a fork of one session would pass for a retry of a fork of another.
        """
        return hashlib.sha256(msgspec.json.encode(self._parts()) + b"\0" + body).hexdigest()

    def _parts(self) -> list[str | None]:
        """Return the caller and the operation that the key applies to."""
        return [
            self.principal.namespace,
            self.principal.source,
            self.principal.user_id,
            self.route,
            self.session_id,
            self.text,
        ]


def key_text(values: Sequence[bytes]) -> str | None:
    """Read the header, which must be 1 to 255 visible ASCII characters."""
    if not values:
        return None
    text = values[0].decode("latin-1")
    visible = text.isascii() and text.isprintable()
    if len(values) > 1 or not 1 <= len(text) <= _LONGEST or not visible:
        raise Refusal("malformed_request", "Idempotency-Key is 1 to 255 ASCII characters")
    return text


def mismatch() -> Refusal:
    """Return the refusal of a key that was already used for another request."""
    return Refusal("idempotency_mismatch", "this Idempotency-Key was used for another request")
