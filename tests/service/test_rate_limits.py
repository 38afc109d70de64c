"""Failed logins are counted by network, so that a /64 is one guesser and not 2^64."""

from __future__ import annotations

import pytest

from agent_cores.session.service.auth.rate_limits import FailedLogins, network_of
from agent_cores.session.service.problems import Refusal
from tests.service.wire import Steps, Wire

GOOD = "2001:db8:1:2"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("64:ff9b::c000:201", "192.0.2.1"),
        (f"{GOOD}::1", f"{GOOD}::/64"),
        (f"{GOOD}:ffff:ffff:ffff:ffff", f"{GOOD}::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("testclient", "testclient"),
        ("unix:/run/service.sock", "unix:/run/service.sock"),
    ],
)
def test_an_address_counts_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_guesser_gains_nothing_by_another_address_of_the_same_network() -> None:
    failures = FailedLogins(3, Steps())
    for number in range(3):
        failures.check(f"{GOOD}::{number:x}")
        failures.count(f"{GOOD}::{number:x}")
    for number in (0, 3, 0xFFFF):
        with pytest.raises(Refusal):
            failures.check(f"{GOOD}:{number:x}::1")
    failures.check("2001:db8:1:3::1")
    failures.check("192.0.2.1")


def test_an_address_of_ipv4_is_one_however_it_is_written() -> None:
    failures = FailedLogins(2, Steps())
    failures.count("192.0.2.1")
    failures.count("::ffff:192.0.2.1")
    for address in ("192.0.2.1", "::ffff:192.0.2.1"):
        with pytest.raises(Refusal):
            failures.check(address)
    failures.check("::ffff:192.0.2.2")


async def test_the_service_counts_by_network(wire: Wire) -> None:
    service = wire.another(failed_logins_per_minute=3)
    statuses = []
    for number in range(5):
        reply = await wire.request(
            "GET",
            "/v1/me",
            headers={"Authorization": f"Bearer ask_{number}_x"},
            service=service,
            client=(f"{GOOD}::{number}", 5000),
        )
        statuses.append(reply.status)
    assert statuses == [401, 401, 401, 429, 429]
