"""``due`` and ``count``: expired sessions, each leased by one sweeper at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionNotFoundError, StaleHeaderError
from agent_cores.session.models import AccessEffect, Change, Hold, RenewEffect
from agent_cores.session.testing.provider.appends import append, created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


class SweepingCases(ProviderCases):
    """``due`` leases and postpones; a sweeper removes a session only if it is still expired."""

    async def test_a_session_comes_due_at_the_exact_instant(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock, ttl_seconds=10)
        assert await beside.due(clock.advance(9.999), 30) == []
        assert len(await beside.due(clock.advance(0.001), 30)) == 1

    async def test_what_was_taken_is_taken_again_only_after_the_lease(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock, ttl_seconds=10)
        assert len(await beside.due(clock.advance(10), 30)) == 1
        assert await beside.due(clock.advance(29.999), 30) == []
        assert len(await beside.due(clock.advance(0.001), 30)) == 1

    async def test_a_session_that_was_renewed_is_put_off(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock, ttl_seconds=10)
        clock.advance(9)
        await append(beside, clock, True, "a")
        assert await beside.due(clock.advance(5), 30) == []
        assert len(await beside.due(clock.advance(5), 30)) == 1

    async def test_a_limit_is_kept(self, beside: Beside, clock: ManualClock) -> None:
        for number in range(5):
            header = new_header(f"s{number}", at=clock(), ttl_seconds=10, incarnation=number + 1)
            await beside.apply(creation(header))
        at = clock.advance(10)
        sizes = [len(await beside.provider.due(at, 2, 30)) for _ in range(4)]
        assert sizes == [2, 2, 1, 0]

    async def test_only_what_is_still_expired_is_removed(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for session_id in ("renewed", "ended"):
            await beside.apply(creation(new_header(session_id, at=clock(), ttl_seconds=10)))
        ended = await beside.due(clock.advance(10), 30)
        # A process whose clock is behind renews it.
        await beside.apply(_renewal("renewed", clock() - timedelta(seconds=1)))
        removed = []
        for taken in ended:
            try:
                await beside.apply(taken.removal(clock()))
                removed.append(taken.session_id)
            except StaleHeaderError:
                assert taken.session_id == "renewed"
        assert removed == ["ended"]

    async def test_a_re_created_session_is_not_removed_in_its_place(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock, ttl_seconds=10)
        ended = await beside.due(clock.advance(10), 30)
        await beside.apply(creation(new_header(at=clock(), incarnation=2)))
        with pytest.raises(StaleHeaderError):
            await beside.apply(ended[0].removal(clock()))

    async def test_one_left_behind_while_being_built_comes_due(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), hold=Hold.OPENING)
        first = new_message("m1", at=clock(), seq=4)
        await beside.apply(creation(header, append=(first,)))
        (ended,) = await beside.due(clock.advance(60), 30)
        assert (await beside.apply(ended.removal(clock()))).deleted

    async def test_sessions_are_counted_by_namespace(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for number, (namespace, ttl) in enumerate(
            (("default", 10), ("default", None), ("team-a", 10), ("team-b", 20))
        ):
            header = new_header(
                f"s{number}",
                at=clock(),
                namespace=namespace,
                ttl_seconds=ttl,
                incarnation=number + 1,
            )
            await beside.apply(creation(header))
        at = clock.advance(10)
        count = beside.provider.count
        expected = {"default": (2, 1), "team-a": (1, 1), "team-b": (1, 0), "team-c": (0, 0)}
        for name, numbers in expected.items():
            counts = await count(name, at)
            assert (counts.sessions, counts.due) == numbers
        counts = await count(None, at)
        assert (counts.sessions, counts.due) == (4, 2)
        await beside.due(at, 30)
        assert (await count(None, at)).due == 0

    async def test_archived_sessions_are_counted_in_all_namespaces_or_not_at_all(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = [
            new_header(f"s{number}", at=clock(), namespace=namespace, incarnation=number + 1)
            for number, namespace in enumerate(("default", "default", "team-a", "team-b"))
        ]
        for header in headers:
            await beside.apply(creation(header))
        count = beside.provider.count_archived
        if await count() is None:
            return
        archived = []
        for header in headers[:3]:
            change = change_of(header, clock(), access=AccessEffect(archived=True))
            archived.append((await beside.apply(change)).header)
        assert await count() == 3
        await beside.apply(change_of(archived[0], clock(), access=AccessEffect(archived=False)))
        await beside.apply(change_of(archived[2], clock(), delete=True))
        assert await count() == 1

    async def test_a_session_that_came_due_is_counted_until_a_sweep_looked_at_it(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        count = beside.provider.count
        await created(beside, clock, ttl_seconds=10)
        clock.advance(9)
        await append(beside, clock, True, "a")  # it expires at 19 but is due at 10
        assert (await count("default", clock.advance(0.999))).due == 0
        assert (await count("default", clock.advance(0.001))).due == 1
        assert (await count(None, clock.advance(9))).due == 1
        assert len(await beside.due(clock(), 30)) == 1
        assert (await count("default", clock())).due == 0

    async def test_several_sweepers_at_once_share_the_work(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for number in range(20):
            header = new_header(f"s{number}", at=clock(), ttl_seconds=10, incarnation=number + 1)
            await beside.apply(creation(header))
        at = clock.advance(10)

        async def sweep() -> list[str]:
            removed = []
            while ended := await beside.provider.due(at, 3, 30):
                for taken in ended:
                    await beside.provider.apply(taken.removal(at))
                    removed.append(taken.session_id)
            return removed

        parts = await asyncio.gather(*(sweep() for _ in range(4)))
        assert sorted(chain.from_iterable(parts)) == sorted(f"s{number}" for number in range(20))
        assert (await beside.provider.count("default", at)).sessions == 0

    async def test_a_sweep_that_races_a_renewal_leaves_one_winner(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for number in range(10):
            await created(beside, clock, ttl_seconds=10)
            ended_at = clock.advance(10)
            (ended,) = await beside.due(ended_at, 30)
            renewal = _renewal("talk", ended_at - timedelta(seconds=1))
            race = [beside.provider.apply(ended.removal(ended_at)), beside.provider.apply(renewal)]
            removed, renewed = await asyncio.gather(
                *(race if number % 2 else race[::-1]), return_exceptions=True
            )
            if not number % 2:
                removed, renewed = renewed, removed
            left = await beside.provider.read("default", "talk")
            if left is None:
                assert isinstance(renewed, SessionNotFoundError)
                assert not isinstance(removed, BaseException)
            else:
                assert isinstance(removed, StaleHeaderError)
                assert not isinstance(renewed, BaseException)
                await beside.provider.delete_session("talk")
            beside.oracle.sessions.clear()


def _renewal(session_id: str, at: datetime) -> Change:
    return Change(
        namespace="default", session_id=session_id, at=at, renew=RenewEffect(ttl_seconds=100)
    )
