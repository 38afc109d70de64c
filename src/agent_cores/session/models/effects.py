"""The effects of a change, one struct each."""

from __future__ import annotations

import secrets
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import Grant, Hold


def random_token() -> int:
    """Return 63 random bits: a number that no other change of the session draws."""
    return secrets.randbits(63)


@hides("content", "metadata")
class MessageUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """Change what one stored message says; both its seq and its id name it.

    ``content`` is JSON, ``None`` to leave it. ``metadata`` is a JSON object whose keys are set;
    those in ``metadata_drop`` are removed. ``stored_bytes`` is the size of the message as it was
    read for the decision, which the store reads and writes again.
    """

    seq: int
    id: str
    content: bytes | None = None
    metadata: bytes = b"{}"
    metadata_drop: tuple[str, ...] = ()
    stored_bytes: int = 0

    @property
    def size(self) -> int:
        """How many bytes it carries."""
        return len(self.content or b"") + len(self.metadata)


class AccessEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Change who may do what. ``None`` and empty values change nothing.

    ``revoke_all`` removes every grant, ``revoke`` those of some subjects; then each grant in
    ``grant`` replaces that of its subject. ``token`` makes ``access_revision`` unique.
    """

    owner_id: str | None = None
    public: bool | None = None
    archived: bool | None = None
    revoke_all: bool = False
    revoke: tuple[str, ...] = ()
    grant: tuple[Grant, ...] = ()
    token: int = msgspec.field(default_factory=random_token)


@hides("token")
class TurnEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Take, renew or release the turn; ``lease_end`` is ``None`` to release it."""

    token: str
    lease_end: datetime | None
    take: bool = False


class HoldEffect(msgspec.Struct, frozen=True):
    """Set the hold, or lift it with ``None``. Lifting ``opening`` starts the idle time."""

    hold: Hold | None
    token: int = msgspec.field(default_factory=random_token)


class SettleEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Finish a session that was built from another store: it gets what its original has.

    ``last_seq`` may exceed that of the last message, where messages were removed.
    """

    hold: Hold | None
    access_revision: int | None
    expires_at: datetime | None
    last_seq: int


class RenewEffect(msgspec.Struct, frozen=True):
    """Restart the idle time. With ``ttl_seconds``, that becomes the idle time."""

    ttl_seconds: float | UnsetType | None = UNSET
    token: int = msgspec.field(default_factory=random_token)
