"""Limits of one process: requests in flight, requests of one caller, failed logins.

Everything is counted per process: with several workers the limits apply to each of them.
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
"""IPv4 addresses behind a NAT64 translator (RFC 6052)."""
_LOW_32_BITS = 2**32 - 1
_LOW_64_BITS = 2**64 - 1


class Bucket(msgspec.Struct):
    """A token bucket: the tokens left, and when they were counted."""

    tokens: float
    filled_at: float


class Buckets:
    """A token bucket per key, each holding ``size`` tokens, refilled at ``rate`` a second.

    Bounded: the least recently used bucket is forgotten first.
    """

    def __init__(self, rate: float, size: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._size = size
        self._now = now
        self._buckets: dict[object, Bucket] = {}

    def left(self, key: object) -> float:
        """Return how many tokens the key has left."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._size
        return min(self._size, bucket.tokens + (self._now() - bucket.filled_at) * self._rate)

    def take(self, key: object) -> None:
        """Take a token, even if less than one is left."""
        left = self.left(key)
        self._buckets.pop(key, None)
        self._buckets[key] = Bucket(max(left - 1, 0.0), self._now())
        if len(self._buckets) > _MOST:
            del self._buckets[next(iter(self._buckets))]

    def wait(self, key: object) -> int:
        """Return in how many seconds a token will be available."""
        return max(1, math.ceil((1 - self.left(key)) / self._rate))


def network_of(address: str) -> str:
    """Return the network under which failures of an address are counted.

    An IPv4 address counts by itself, even if written as an IPv6 address. An IPv6 address counts by
    its first 64 bits, since one holder usually has the whole network. Anything else, such as the
    path of a socket, counts as it is.
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
    """Limits the failed authentications of an address, or of its network.

    Known keys and valid tokens are accepted even then.
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
        """Count a failure."""
        self._buckets.take(network_of(address))


class CallerLimits:
    """Limits the requests of one caller: in flight, and per second (0 is unlimited)."""

    def __init__(
        self, most: int, per_second: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._in_flight: dict[tuple[str, str | None], int] = {}
        self._buckets = Buckets(per_second, max(1.0, per_second), now) if per_second else None

    @property
    def count(self) -> int:
        """How many requests of known callers are in flight, counted from reading the body on."""
        return sum(self._in_flight.values())

    def enter(self, principal: Principal) -> tuple[str, str | None]:
        """Count a request, and return what to pass to :meth:`leave`; refuse it beyond the limit."""
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
        """Stop counting a request."""
        left = self._in_flight[key] - 1
        if left:
            self._in_flight[key] = left
        else:
            del self._in_flight[key]


class InFlight:
    """Limits the requests in flight to the store."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count: int = 0

    def enter(self) -> None:
        """Count a request; refuse it beyond the limit."""
        if self.count >= self._most:
            raise OverloadedError("too many requests are at work in the store")
        self.count += 1

    def leave(self) -> None:
        """Stop counting a request."""
        self.count -= 1
