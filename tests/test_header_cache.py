"""The cache of headers: bounded by entries and by bytes, and never wrong about what it holds."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from agent_cores.session.header_cache import HeaderCache
from agent_cores.session.models.session import AccessRole, Grant, SessionMetadata

AT = datetime(2026, 1, 1, tzinfo=UTC)


def header(name: str, grants: int = 0, length: int = 250) -> SessionMetadata:
    given = [f"{number:04}".ljust(length, "x") for number in range(grants)]
    return SessionMetadata(
        namespace="default",
        session_id=name,
        incarnation=1,
        owner_id="ann",
        created_at=AT,
        updated_at=AT,
        last_active_at=AT,
        grants={
            subject: Grant(subject=subject, role=AccessRole.VIEWER, granted_by="ann", granted_at=AT)
            for subject in given
        },
    )


def held(cache: HeaderCache, *names: str) -> list[str]:
    return [name for name in names if cache.get(("default", name)) is not None]


def put(cache: HeaderCache, one: SessionMetadata) -> None:
    cache.put(("default", one.session_id), one)


def test_entries_are_bounded_and_the_least_recently_used_goes_first() -> None:
    cache = HeaderCache(2)
    for name in "ab":
        put(cache, header(name))
    put(cache, header("a"))
    put(cache, header("c"))
    assert held(cache, "a", "b", "c") == ["a", "c"]


def test_grants_are_bounded_in_bytes_and_leave_headers_without_any_alone() -> None:
    cache = HeaderCache(1_000, max_bytes=1_000_000)
    put(cache, header("flat"))
    for number in range(50):
        put(cache, header(f"s{number}", grants=100))
    names = [f"s{number}" for number in range(50)]
    kept = held(cache, *names)
    assert 5 <= len(kept) <= 15
    assert kept == names[-len(kept) :]
    assert held(cache, "flat") == ["flat"]


def test_what_is_too_large_by_itself_is_not_kept() -> None:
    cache = HeaderCache(1_000, max_bytes=100_000)
    put(cache, header("small", grants=1))
    put(cache, header("huge", grants=1_000))
    assert held(cache, "small", "huge") == []
    put(cache, header("small", grants=1))
    assert held(cache, "small") == ["small"], "what went away counts no more"


def test_what_is_used_stays() -> None:
    cache = HeaderCache(1_000, max_bytes=300_000)
    first = header("first", grants=100)
    put(cache, first)
    for number in range(20):
        put(cache, msgspec.structs.replace(first, last_seq=number))
        put(cache, header(f"s{number}", grants=100))
    assert held(cache, "first") == ["first"]


def test_the_count_of_bytes_follows_what_is_held() -> None:
    cache = HeaderCache(10, max_bytes=10_000_000)
    for round_ in range(3):
        for number in range(30):
            put(cache, header(f"s{number}", grants=(number + round_) % 7))
            cache.forget(("default", f"s{number - 3}"))
        for number in range(30):
            put(cache, header(f"s{number}"))
    assert cache._bytes == 0  # noqa: SLF001 - nothing that callers see shows it before it is wrong
    assert not cache._weights  # noqa: SLF001 - the same
