"""The shapes of ``/healthz`` and ``/readyz``."""

from __future__ import annotations

from typing import Literal

import msgspec


class Health(msgspec.Struct, frozen=True):
    """The service is alive, or ready."""

    status: Literal["ok"] = "ok"


NotReady = Literal["stopping", "full", "unwritable", "replaced", "unusable", "no_response"]


class Unavailable(msgspec.Struct, frozen=True):
    """The service is not ready, and why."""

    reason: NotReady
    status: Literal["unavailable"] = "unavailable"
