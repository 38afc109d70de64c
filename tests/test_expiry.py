"""When sessions end, as pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_cores.session.models import Hold, RenewOn, SessionStatus
from agent_cores.session.models.expiry import (
    earlier,
    end_after_write,
    fresh_end,
    later,
    read_renews,
    renewed_end,
)
from agent_cores.session.testing.samples import new_header

AT = datetime(2030, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_never_is_later_than_any_end() -> None:
    assert earlier(None, AT) == earlier(AT, None) == earlier(AT, after(1)) == AT
    assert earlier(None, None) is None
    assert later(AT, after(1)) == after(1)
    assert later(None, AT) is None
    assert later(AT, None) is None


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"ttl_seconds": 100}, 150),
        ({"ttl_seconds": None}, None),
        ({"ttl_seconds": 100, "max_lifetime_seconds": 120}, 120),
        ({"ttl_seconds": 100, "max_lifetime_seconds": 900}, 150),
        ({"ttl_seconds": None, "max_lifetime_seconds": 70}, 70),
        ({"ttl_seconds": 100, "hold": Hold.OPENING}, 110),
    ],
)
def test_an_end_is_counted_from_now_and_bounded_by_the_lifetime(
    fields: dict[str, Any], seconds: float | None
) -> None:
    header = new_header(at=AT, **fields)
    assert fresh_end(header, after(50)) == (None if seconds is None else after(seconds))


def test_a_renewal_never_brings_the_end_nearer() -> None:
    header = new_header(at=AT, ttl_seconds=10, expires_at=after(100))
    assert renewed_end(header, after(50)) == after(100)
    assert renewed_end(header, after(95)) == after(105)
    assert renewed_end(new_header(at=AT, ttl_seconds=10, expires_at=None), AT) is None
    assert renewed_end(new_header(at=AT, ttl_seconds=None, expires_at=after(5)), AT) is None


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 150),
        ({"renew_on": RenewOn.ACCESS}, 150),
        ({"renew_on": RenewOn.NEVER}, 100),
        ({"archived": True}, 100),
    ],
)
def test_a_write_renews_what_is_renewed_by_writes(fields: dict[str, Any], seconds: int) -> None:
    header = new_header(at=AT, ttl_seconds=100, **fields)
    assert end_after_write(header, after(50)) == after(seconds)


@pytest.mark.parametrize(
    ("fields", "seconds", "renews"),
    [
        ({"renew_on": RenewOn.ACCESS}, 5, False),
        ({"renew_on": RenewOn.ACCESS}, 5.001, True),
        ({"renew_on": RenewOn.ACCESS, "archived": True}, 50, False),
        ({"renew_on": RenewOn.ACCESS, "hold": Hold.FROZEN}, 50, False),
        ({"renew_on": RenewOn.ACCESS, "max_lifetime_seconds": 104}, 50, False),
        ({"renew_on": RenewOn.ACCESS, "max_lifetime_seconds": 106}, 50, True),
        ({"renew_on": RenewOn.ACCESS, "expires_at": None}, 50, False),
        ({"renew_on": RenewOn.WRITE}, 50, False),
        ({"renew_on": RenewOn.NEVER}, 50, False),
    ],
)
def test_a_read_renews_if_it_moves_the_end_by_more_than_a_twentieth(
    fields: dict[str, Any], seconds: float, renews: bool
) -> None:
    header = new_header(at=AT, **{"ttl_seconds": 100, "expires_at": after(100), **fields})
    assert read_renews(header, after(seconds)) is renews


def test_a_session_is_expired_from_the_instant_of_its_end() -> None:
    header = new_header(at=AT, ttl_seconds=10)
    archived = new_header(at=AT, ttl_seconds=10, archived=True)
    assert header.status_at(after(9.999)) is SessionStatus.ACTIVE
    assert archived.status_at(after(9.999)) is SessionStatus.ARCHIVED
    for expired in (header, archived):
        assert expired.status_at(after(10)) is SessionStatus.EXPIRED
    assert not new_header(at=AT, ttl_seconds=None).is_expired(after(10**9))
