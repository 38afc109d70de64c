"""What one session, one change and one page may hold at most. Sizes are bytes as stored."""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Each bound itself is allowed; anything more raises ``InvalidInputError``.

    Each but ``rewind_messages`` has a setting, ``SESSION_MAX_…``.
    """

    name_bytes: int = 255
    tags: int = 64
    groups: int = 256
    grants: int = 1_000
    content_bytes: int = MIB
    metadata_bytes: int = 64 * KIB
    context_bytes: int = MIB
    context_keys: int = 1_000
    append_messages: int = 1_000
    append_bytes: int = 8 * MIB
    page_items: int = 1_000
    page_bytes: int = 4 * MIB
    rewind_messages: int = 10_000
    json_depth: int = 100


DEFAULT_LIMITS = Limits()
