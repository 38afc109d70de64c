"""What a change does to a session, one struct an effect."""

from __future__ import annotations

import secrets
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import Grant, Hold


def random_token() -> int:
    """Return 63 random bits: a number that no other change of a session ever draws."""
    return secrets.randbits(63)


class SeqRange(msgspec.Struct, frozen=True):
    """The messages from ``first`` to ``last`` seq, both included."""

    first: int
    last: int


class AccessEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what, from now on. ``None`` and empty leave things as they are.

    ``revoke_all`` drops every grant, ``revoke`` some; then ``grant`` is set, replacing the
    subject's. ``token`` makes ``access_revision`` a number that never comes twice.
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
    """Take, renew or release the turn. ``lease_end`` is ``None`` for a release."""

    token: str
    lease_end: datetime | None
    take: bool = False


class HoldEffect(msgspec.Struct, frozen=True):
    """Set the hold, or lift it with ``None``. Lifting ``opening`` gives the session its own end."""

    hold: Hold | None
    token: int = msgspec.field(default_factory=random_token)


class RenewEffect(msgspec.Struct, frozen=True):
    """Renew the end. A ``ttl_seconds`` given is set, and the end counted anew from it."""

    ttl_seconds: float | UnsetType | None = UNSET
    token: int = msgspec.field(default_factory=random_token)
