"""``PoolUse``: how much of a store's connections is in use."""

from __future__ import annotations

from typing import Self

import msgspec


class PoolUse(msgspec.Struct, frozen=True):
    """At most ``size`` connections, ``in_use`` of them now; ``waiting`` callers wait for one."""

    size: int
    in_use: int = 0
    waiting: int = 0

    @classmethod
    def of(cls, size: int, pending: int) -> Self:
        """Return the use by so many callers that have a connection or wait for one."""
        return cls(size, min(pending, size), max(pending - size, 0))

    def __add__(self, other: PoolUse) -> PoolUse:
        """Return the use of both pools together."""
        return PoolUse(
            self.size + other.size, self.in_use + other.in_use, self.waiting + other.waiting
        )
