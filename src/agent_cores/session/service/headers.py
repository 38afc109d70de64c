"""``Headers``: the headers of one request, parsed once."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NONE: tuple[bytes, ...] = ()
_PER_HEADER = 4


class Headers:
    """The headers of a request, by lower-case name."""

    __slots__ = ("_by_name", "_pairs", "_repeat")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._by_name = dict(pairs)
        self._repeat = len(self._by_name) != len(pairs)

    def __len__(self) -> int:
        """Return how many headers there are."""
        return len(self._pairs)

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return every value of a header, in the order sent."""
        value = self._by_name.get(name)
        if value is None:
            return _NONE
        if self._repeat:
            return [value for key, value in self._pairs if key == name]
        return (value,)

    @property
    def plain(self) -> Mapping[bytes, bytes] | None:
        """The only value of each name, or ``None`` if a name was sent twice."""
        return None if self._repeat else self._by_name

    @property
    def size(self) -> int:
        """Their size in bytes as sent."""
        return len(b"".join(chain.from_iterable(self._pairs))) + _PER_HEADER * len(self._pairs)
