"""``find``: who is listed, in which order, page by page."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.models import (
    AccessEffect,
    Cursor,
    Hold,
    HoldEffect,
    Query,
    SessionStatus,
)
from agent_cores.session.models.query import WALK_LIMIT
from agent_cores.session.models.values import sorted_json
from agent_cores.session.testing.beside import walk
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.changes import grant
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message

if TYPE_CHECKING:
    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


async def fill(beside: Beside, clock: ManualClock) -> list[SessionMetadata]:
    """Create sessions of every kind; several at the same instant."""
    headers = []
    owners, tag_sets = ("ann", "bob"), ((), ("x",), ("x", "y"), ("y", "z"))
    shelves: tuple[dict[str, Any], ...] = ({}, {"archived": True}, {"ttl_seconds": 5})
    for number, (owner_id, tags, fields) in enumerate(product(owners, tag_sets, shelves)):
        if number % 4:
            clock.advance(0.001)
        header = new_header(
            f"s{number}", at=clock(), incarnation=number + 1, owner_id=owner_id, tags=tags, **fields
        )
        headers.append((await beside.apply(creation(header))).header)
    return headers


async def _ids_by_cursor(provider: StorageProvider, query: Query) -> list[str]:
    """Return the ids of a listing; its cursors are converted to text and back, as for callers."""
    listed: list[str] = []
    for _ in range(100):
        found = await provider.find(query)
        listed += [header.session_id for header in found.headers]
        if found.next is None:
            return listed
        query = msgspec.structs.replace(
            query, after=Cursor.decode(found.next.encode()), offset=0, limit=2
        )
    message = "the listing does not end"
    raise AssertionError(message)


_SHARED_WITH: tuple[tuple[str, ...], ...] = (
    ("bob",),
    ("group:a",),
    ("bob", "group:a", "group:b"),
)


class ListingCases(ProviderCases):
    """``find`` compared with ``matches`` and ``order_key``."""

    async def test_every_filter_lists_what_matches(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await fill(beside, clock)
        clock.advance(5.01)
        statuses = (None, *SessionStatus)
        for owner_id, status, tags, limit in product(
            ("ann", "nobody", None), statuses, ((), ("x",), ("y", "x"), ("w",)), (2, 7)
        ):
            query = Query(
                namespace="default",
                at=clock(),
                owner_id=owner_id,
                status=status,
                tags=tags,
                limit=limit,
            )
            await beside.compare_listing(query)

    async def test_a_namespace_is_listed_by_creation(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = await fill(beside, clock)
        clock.advance(2)
        for header in (headers[0], headers[3]):  # activity does not move them
            message = new_message("m", at=clock())
            await beside.apply(change_of(header, clock(), append=(message,)))
        elsewhere = new_header("s1", at=clock(), incarnation=99, namespace="team-a", tags=("x",))
        await beside.apply(creation(elsewhere))
        clock.advance(3.01)
        for status, tags, limit in product(
            (None, *SessionStatus), ((), ("x",), ("y", "x"), ("w",)), (2, 7)
        ):
            query = Query(
                namespace="default",
                at=clock(),
                status=status,
                tags=tags,
                limit=limit,
                by_creation=True,
            )
            await beside.compare_listing(query)
        late = headers[9].created_at
        query = Query(namespace="default", at=clock(), by_creation=True, created_after=late)
        await beside.compare_listing(query)

    async def test_a_list_by_creation_follows_tags_shelves_and_deletes(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = []
        for number in range(6):
            clock.advance(1)
            header = new_header(f"s{number}", at=clock(), incarnation=number + 1, tags=("x",))
            headers.append((await beside.apply(creation(header))).header)
        clock.advance(1)
        at = clock()
        await beside.apply(change_of(headers[0], at, metadata={"tags": ("y",)}))
        await beside.apply(change_of(headers[1], at, access=AccessEffect(archived=True)))
        await beside.apply(change_of(headers[2], at, access=AccessEffect(owner_id="bob")))
        await beside.apply(change_of(headers[3], at, delete=True))
        again = new_header("s3", at=clock.advance(1), incarnation=77, tags=("x",))
        await beside.apply(creation(again))
        for status, tags in product((None, *SessionStatus), ((), ("x",), ("y",))):
            query = Query(
                namespace="default",
                at=clock(),
                status=status,
                tags=tags,
                limit=2,
                by_creation=True,
            )
            await beside.compare_listing(query)

    async def test_metadata_lists_what_is_equal(self, beside: Beside, clock: ManualClock) -> None:
        values: tuple[Any, ...] = (1, 1.0, True, "1", [1], {"a": 1, "b": 2}, None)
        for number, (owner_id, tags, value) in enumerate(
            product(("ann", "bob"), ((), ("x",)), values)
        ):
            clock.advance(0.001 * (number % 3))
            attributes = {} if value is None else {"k": value, "n": number % 2}
            header = new_header(
                f"s{number}",
                at=clock(),
                incarnation=number + 1,
                owner_id=owner_id,
                tags=tags,
                attributes=attributes,
            )
            await beside.apply(creation(header))
        wanted: tuple[dict[str, Any], ...] = (
            *({"k": value} for value in values),
            {"k": {"b": 2, "a": 1}},
            {"k": 1, "n": 1},
            {"k": "1", "other": None},
        )
        for owner_id, tags, metadata in product(("ann", "eve"), ((), ("x",)), wanted):
            query = Query(
                namespace="default",
                at=clock(),
                owner_id=owner_id,
                status=SessionStatus.ACTIVE,
                tags=tags,
                attributes={key: sorted_json(value) for key, value in metadata.items()},
                limit=1,
            )
            await beside.compare_listing(query)

    async def test_what_is_shared_is_listed_by_when_it_was_shared(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = await fill(beside, clock)
        for number, header in enumerate(reversed(headers[:14])):
            clock.advance(0.5)
            subjects = _SHARED_WITH[number % 3]
            lasting = 3.0 if number % 4 == 0 else None
            grants = tuple(grant(subject, clock, lasting=lasting) for subject in subjects)
            if not header.is_expired(clock()):
                await beside.apply(change_of(header, clock(), access=AccessEffect(grant=grants)))
        for subjects, status, tags in product(
            (("bob",), ("bob", "group:a"), ("group:b", "group:a", "eve"), ("eve",)),
            (SessionStatus.ACTIVE, SessionStatus.ARCHIVED),
            ((), ("x",)),
        ):
            query = Query(
                namespace="default",
                at=clock(),
                subjects=subjects,
                status=status,
                tags=tags,
                limit=2,
            )
            await beside.compare_listing(query)

    async def test_an_ended_grant_hides_no_live_one(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        """Each order of three grants, with every subset of them expired."""
        subjects = ("bob", "group:a", "group:b")
        number = 0
        for order in permutations(subjects):
            for ended in product((False, True), repeat=len(subjects)):
                number += 1
                grants = {}
                for subject, has_ended in zip(order, ended, strict=True):
                    clock.advance(0.001)
                    lasting = 0.5 if has_ended else None
                    grants[subject] = grant(subject, clock, lasting=lasting)
                header = new_header(
                    f"s{number}",
                    at=clock(),
                    incarnation=number,
                    grants=grants,
                    archived=number % 5 == 0,
                )
                await beside.provider.apply(creation(header))
                beside.oracle.apply(creation(header))
        clock.advance(1)
        for limit, asking in product((3, 100), (subjects, ("group:b", "bob"))):
            query = Query(
                namespace="default",
                at=clock(),
                subjects=asking,
                status=SessionStatus.ACTIVE,
                limit=limit,
            )
            await beside.compare_listing(query)

    async def test_grants_of_one_instant_list_a_session_once(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for number in range(1, 6):
            grants = {subject: grant(subject, clock) for subject in ("bob", "group:a", "group:b")}
            header = new_header(f"s{number}", at=clock(), incarnation=number, grants=grants)
            await beside.apply(creation(header))
        query = Query(
            namespace="default", at=clock(), subjects=("bob", "group:a", "group:b"), limit=2
        )
        await beside.compare_listing(query)

    async def test_an_offset_skips_that_many(self, beside: Beside, clock: ManualClock) -> None:
        await fill(beside, clock)
        query = Query(namespace="default", at=clock(), owner_id="ann", status=SessionStatus.ACTIVE)
        everything = [header.session_id for header in beside.oracle.listed(query)]
        for offset, limit in product((0, 1, 5, len(everything), 99), (1, 3, 99)):
            page = Query(
                namespace="default",
                at=clock(),
                owner_id="ann",
                status=SessionStatus.ACTIVE,
                offset=offset,
                limit=limit,
            )
            found = await beside.provider.find(page)
            listed = [header.session_id for header in found.headers]
            assert listed == everything[offset : offset + limit]
            assert (found.next is None) == (offset + limit >= len(everything))

    async def test_an_offset_goes_on_where_a_page_ended_before_it(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        """A page may end at the bound of its walk before the offset is used up."""
        both = [f"both-{number}" for number in range(3)]
        names = [*both, *(f"one-{number}" for number in range(WALK_LIMIT + 100))]
        creations = []
        for number, session_id in enumerate(names):
            clock.advance(0.001)
            tags = ("a", "b") if session_id in both else ("a",)
            header = new_header(session_id, at=clock(), incarnation=number + 1, tags=tags)
            creations.append(creation(header))
        for first in range(0, len(creations), 100):
            await asyncio.gather(*map(provider.apply, creations[first : first + 100]))
        for offset in range(5):
            query = Query(
                namespace="default",
                at=clock(),
                owner_id="ann",
                status=SessionStatus.ACTIVE,
                tags=("a", "b"),
                offset=offset,
            )
            assert await _ids_by_cursor(provider, query) == both[::-1][offset:]

    async def test_a_page_by_metadata_examines_a_bounded_number(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        count = 3 * WALK_LIMIT + 50
        headers = [
            new_header(f"s{n:04}", at=clock(), incarnation=n + 1, attributes={"n": int(n == 0)})
            for n in range(count)
        ]
        await asyncio.gather(*(provider.apply(creation(header)) for header in headers))
        wanted = {"n": sorted_json(1)}
        query = Query(namespace="default", at=clock(), owner_id="ann", attributes=wanted)
        found = await provider.find(query)
        if provider.capabilities.flat:
            assert (found.headers, found.next is None) == ([], False)
        assert await _ids_by_cursor(provider, query) == ["s0000"]

    async def test_activity_moves_a_session_to_the_front_once_it_is_a_second_behind(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = [
            (await beside.apply(creation(new_header(f"s{n}", at=clock(), incarnation=n)))).header
            for n in range(1, 6)
        ]
        query = Query(namespace="default", at=clock(), owner_id="ann", limit=2)
        for step, header in zip((0.5, 0.4, 0.1, 0.6, 2.0), headers, strict=True):
            clock.advance(step)
            append = (new_message("a", at=clock()),)
            await beside.apply(change_of(header, clock(), append=append, basis=header))
            await beside.compare_listing(query)
        clock.advance(0.1)
        await beside.apply(change_of(headers[0], clock(), metadata={"a": 1}))
        await beside.compare_listing(query)
        assert beside.oracle.listed(query)[0].session_id == headers[0].session_id

    async def test_a_walk_neither_skips_nor_repeats_what_did_not_change(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = await fill(beside, clock)
        query = Query(namespace="default", at=clock(), owner_id="ann", limit=3)
        first = await beside.provider.find(query)
        assert first.next is not None
        clock.advance(2)
        seen = [header.session_id for header in first.headers]
        moved, gone = seen[1], seen[2]
        by_id = {header.session_id: header for header in headers}
        await beside.apply(change_of(by_id[moved], clock(), access=AccessEffect(public=True)))
        await beside.apply(change_of(by_id[gone], clock(), delete=True))
        await beside.apply(creation(new_header("new", at=clock(), incarnation=99)))
        rest = Query(namespace="default", at=clock(), owner_id="ann", limit=3, after=first.next)
        listed = [header.session_id for header in await walk(beside.provider, rest)]
        owned = [header.session_id for header in headers if header.owner_id == "ann"]
        assert sorted(seen + listed) == sorted(owned)

    async def test_a_session_that_is_built_or_gone_is_not_listed(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for number, hold in enumerate((Hold.OPENING, Hold.FROZEN, Hold.MOVED)):
            header = new_header(f"s{number}", at=clock(), incarnation=number + 1)
            if hold is Hold.OPENING:
                header = new_header(f"s{number}", at=clock(), hold=hold)
            await beside.apply(creation(header))
            if hold is not Hold.OPENING:
                await beside.apply(change_of(header, clock(), hold=HoldEffect(hold)))
        for status in (None, SessionStatus.ACTIVE):
            query = Query(namespace="default", at=clock(), owner_id="ann", status=status)
            await beside.compare_listing(query)
        query = Query(namespace="default", at=clock(), owner_id="ann", status=SessionStatus.ACTIVE)
        assert [header.session_id for header in await walk(beside.provider, query)] == ["s1"]

    async def test_a_transfer_moves_a_session_from_one_list_to_the_other(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = await fill(beside, clock)
        clock.advance(1)
        header = headers[0]
        await beside.apply(change_of(header, clock(), access=AccessEffect(owner_id="bob")))
        for owner_id in ("ann", "bob"):
            query = Query(namespace="default", at=clock(), owner_id=owner_id, limit=4)
            await beside.compare_listing(query)

    async def test_many_sessions_of_others_do_not_hide_ones_own(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await beside.apply(creation(new_header("mine", at=clock(), owner_id="bob", tags=("x",))))
        for number in range(120):
            at = clock() + timedelta(milliseconds=number)
            header = new_header(f"s{number}", at=at, incarnation=number + 2, tags=("x",))
            await beside.provider.apply(creation(header))
        query = Query(
            namespace="default", at=clock.advance(1), owner_id="bob", tags=("x",), limit=1
        )
        found = await walk(beside.provider, query)
        assert [header.session_id for header in found] == ["mine"]
