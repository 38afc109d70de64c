"""What one process takes on at a time: requests at work, requests of one caller, failed logins.

All of it is counted per process: with several workers the bounds hold for each of them.
"""

from __future__ import annotations

import math
import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import OverloadedError
from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.service.auth.principal import Principal

_MINUTE = 60.0
_MOST = 10_000
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv4 addresses behind a translator (RFC 6052)."""
_LOW_32_BITS = 2**32 - 1
_LOW_64_BITS = 2**64 - 1


class Bucket(msgspec.Struct):
    """Tokens that come back with time; one is taken at a time."""

    tokens: float
    filled_at: float


class Buckets:
    """A bucket each for many keys, holding ``size``, refilled at ``rate`` a second.

    Bounded: the bucket that was used least lately is forgotten first.
    """

    def __init__(self, rate: float, size: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._size = size
        self._now = now
        self._buckets: dict[object, Bucket] = {}

    def left(self, key: object) -> float:
        """Return how many tokens the key has."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._size
        return min(self._size, bucket.tokens + (self._now() - bucket.filled_at) * self._rate)

    def take(self, key: object) -> None:
        """Take one, even where less than one is left."""
        left = self.left(key)
        self._buckets.pop(key, None)
        self._buckets[key] = Bucket(max(left - 1, 0.0), self._now())
        if len(self._buckets) > _MOST:
            del self._buckets[next(iter(self._buckets))]

    def wait(self, key: object) -> int:
        """Return in how many seconds there is one."""
        return max(1, math.ceil((1 - self.left(key)) / self._rate))


def network_of(address: str) -> str:
    """Return what failures of an address are counted under.

    An IPv4 address counts by itself, also where it is written as an IPv6 one; of an IPv6 address
    the first 64 bits, since whoever has one has all of these. What is no address, such as the path
    of a socket, counts as it is.
    """
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if parsed in _TRANSLATED:
        return str(IPv4Address(int(parsed) & _LOW_32_BITS))
    return str(IPv6Network((int(parsed) & ~_LOW_64_BITS, 64)))


class FailedLogins:
    """Bounds the failed authentications of an address, or of the network that it stands for.

    A key that was seen before, and a valid token, are let through all the same.
    """

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(per_minute / _MINUTE, per_minute, now)

    def check(self, address: str) -> None:
        """Refuse an address that has failed too often."""
        network = network_of(address)
        if self._buckets.left(network) < 1:
            raise Refusal(
                "rate_limited",
                "too many failed authentications from this address",
                wait=self._buckets.wait(network),
            )

    def count(self, address: str) -> None:
        """Note a failure."""
        self._buckets.take(network_of(address))


class CallerLimits:
    """Bounds the requests of one caller: in flight, and per second (0 is no bound)."""

    def __init__(
        self, most: int, per_second: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._in_flight: dict[tuple[str, str | None], int] = {}
        self._buckets = Buckets(per_second, max(1.0, per_second), now) if per_second else None

    @property
    def count(self) -> int:
        """How many requests of known callers are under way, from their bodies on."""
        return sum(self._in_flight.values())

    def enter(self, principal: Principal) -> tuple[str, str | None]:
        """Count a request in, and return what to pass to :meth:`leave`; refuses one too many."""
        key = (principal.source, principal.user_id)
        if self._buckets is not None:
            if self._buckets.left(key) < 1:
                raise Refusal("rate_limited", "too many requests", wait=self._buckets.wait(key))
            self._buckets.take(key)
        at_work = self._in_flight.get(key, 0)
        if at_work >= self._most:
            raise Refusal("rate_limited", "too many requests at once")
        self._in_flight[key] = at_work + 1
        return key

    def leave(self, key: tuple[str, str | None]) -> None:
        """Count a request out."""
        left = self._in_flight[key] - 1
        if left:
            self._in_flight[key] = left
        else:
            del self._in_flight[key]


class InFlight:
    """Bounds the requests that are at work in the store at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0

    def enter(self) -> None:
        """Count a request in; refuses one too many."""
        if self.count >= self._most:
            raise OverloadedError("too many requests are at work in the store")
        self.count += 1

    def leave(self) -> None:
        """Count a request out."""
        self.count -= 1
