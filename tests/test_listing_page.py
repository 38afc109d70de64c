"""``ListingPage``: which candidates go on a page, where it ends, and where the next one goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agent_cores.session.models.query import WALK_LIMIT, Cursor, Query
from agent_cores.session.models.session import SessionStatus
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.listing import ListingPage
from agent_cores.session.testing.samples import new_header

if TYPE_CHECKING:
    from agent_cores.session.models.session import SessionMetadata

AT = datetime(2026, 1, 1, tzinfo=UTC)


def query(**fields: object) -> Query:
    return Query(**{"namespace": "default", "at": AT, "owner_id": "ann", **fields})  # type: ignore[arg-type]  # its own fields


def headers(number: int, owner_id: str = "ann") -> list[SessionMetadata]:
    """Return headers in the order of a listing."""
    return [
        new_header(f"s{index}", at=AT - timedelta(seconds=index), owner_id=owner_id)
        for index in range(number)
    ]


def place_of(header: SessionMetadata) -> tuple[int, str]:
    return to_millis(header.last_active_at), header.session_id


def filled(page: ListingPage, candidates: list[SessionMetadata]) -> int:
    """Offer the candidates in turn; return how many were offered."""
    for count, header in enumerate(candidates, 1):
        if not page.offer(place_of(header), header):
            return count
    return len(candidates)


def names(page: ListingPage) -> list[str]:
    return [header.session_id for header in page.found().headers]


def test_a_page_holds_the_limit_and_goes_on_after_its_last_session() -> None:
    candidates = headers(5)
    page = ListingPage(query(limit=2, offset=1))
    assert filled(page, candidates) == 4
    assert names(page) == ["s1", "s2"]
    assert page.found().next == Cursor(*place_of(candidates[2]))


def test_the_last_page_has_no_cursor() -> None:
    page = ListingPage(query(limit=2))
    assert filled(page, headers(2)) == 2
    assert page.is_full
    assert page.found().next is None


def test_what_does_not_match_is_passed_over_and_does_not_use_up_the_offset() -> None:
    candidates = headers(4)
    candidates[0] = new_header("other", at=AT, owner_id="bob")
    candidates[2] = new_header("kept", at=AT - timedelta(seconds=2), archived=True)
    page = ListingPage(query(offset=1, status=SessionStatus.ACTIVE))
    filled(page, candidates)
    assert names(page) == ["s3"]


def test_a_walk_past_what_does_not_match_is_bounded_and_goes_on_where_it_ended() -> None:
    candidates = headers(WALK_LIMIT + 10, owner_id="bob")
    page = ListingPage(query(limit=2, offset=3))
    assert filled(page, candidates) == WALK_LIMIT + 2 + 3 + 1
    found = page.found()
    assert found.headers == []
    assert found.next == Cursor(*place_of(candidates[WALK_LIMIT + 4]), skip=3)


def test_without_a_bound_the_walk_goes_on() -> None:
    candidates = headers(2 * WALK_LIMIT, owner_id="bob")
    page = ListingPage(query(), walk_limit=None)
    assert filled(page, candidates) == len(candidates)
    assert page.found().next is None


def test_a_session_with_several_entries_is_listed_once_at_its_own_place() -> None:
    (header,) = headers(1)
    page = ListingPage(query())
    millis, session_id = place_of(header)
    for place in ((millis + 1, session_id), (millis, session_id), (millis, session_id)):
        assert page.offer(place, header)
    assert names(page) == ["s0"]


def test_where_entries_lag_behind_the_place_offered_is_where_the_next_page_goes_on() -> None:
    first, second = headers(2)
    page = ListingPage(query(limit=1), exact=False)
    assert page.offer((5, "s0"), first)
    assert page.offer((4, "s0"), first)
    assert not page.offer((3, "s1"), second)
    assert page.found().next == Cursor(5, "s0")


def test_an_unreadable_session_is_reported_beside_the_page() -> None:
    (header,) = headers(1)
    page = ListingPage(query())
    for place in ((9, "bad"), (8, "bad")):
        assert page.offer(place, None)
    assert page.offer(place_of(header), header)
    assert page.found().unreadable == ("bad",)
    assert names(page) == ["s0"]


def test_a_page_can_be_cut_where_the_store_ends_its_walk() -> None:
    page = ListingPage(query(limit=3, offset=2), walk_limit=None)
    assert page.missing == 6
    filled(page, headers(1))
    assert (page.matched, page.missing, page.is_skipping) == (1, 5, True)
    assert page.cut_after((7, "x")).next == Cursor(7, "x", skip=1)


def test_a_page_of_no_sessions_has_nowhere_to_go_on_from() -> None:
    page = ListingPage(query(limit=0))
    assert filled(page, headers(2)) == 1
    assert page.found().next is None
