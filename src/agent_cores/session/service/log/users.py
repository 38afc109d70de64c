"""``UserIds``: what the line of a request shows of its user.

A keyed hash by default: lines of one user can be found together, and by whoever has the key, while
nobody can recover the id from the log, not even by trying ids.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_cores.session.service.auth.principal import Principal
    from agent_cores.session.service.settings import ServiceSettings

_BYTES = 8
_REMEMBERED = 4_096


def new_log_key() -> str:
    """Return a key for services that are given none."""
    return secrets.token_hex(32)


def hashed_user(key: str, namespace: str, user_id: str) -> str:
    """Return the keyed hash of a user: 16 hexadecimal digits.

    BLAKE2b with a key (RFC 7693), which takes at most 64 bytes: those of the key's SHA-512.
    """
    secret = hashlib.sha512(key.encode()).digest()
    text = f"{namespace}\0{user_id}".encode()
    return hashlib.blake2b(text, digest_size=_BYTES, key=secret).hexdigest()


class UserIds:
    """Shows users as the settings say."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._is_plain = settings.log_user_ids == "plain"
        key = settings.log_key or new_log_key()
        self._hashed = lru_cache(_REMEMBERED)(lambda *who: hashed_user(key, *who))

    def shown(self, principal: Principal | None) -> str | None:
        """Return what stands for the user of a request; ``None`` if it has none."""
        if principal is None or principal.user_id is None:
            return None
        if self._is_plain:
            return principal.user_id
        return self._hashed(principal.namespace, principal.user_id)
