"""``Principal``: who is calling, as proved by the credential."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling. ``user_id`` is ``None`` for keys that act for nobody.

    ``source`` is the key's id or the token's issuer. ``roles``, if set, are the only message roles
    that the caller may append. ``until`` is when the credential expires. ``operator`` is the name
    under which an operator acts, in the name of ``user_id``.
    """

    namespace: str
    user_id: str | None
    groups: tuple[str, ...]
    rights: tuple[str, ...]
    source: str
    key_id: str | None = None
    roles: tuple[str, ...] | None = None
    until: datetime | None = None
    operator: str | None = None
