"""``Backoff``: pauses that grow, are jittered, and end at a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent_cores.session.backoff import Backoff

if TYPE_CHECKING:
    import pytest


def test_pauses_double_up_to_the_longest_and_start_over_after_a_reset() -> None:
    backoff = Backoff(first=0.5, longest=3)
    for bound in (0.5, 1, 2, 3, 3):
        assert bound / 2 <= backoff.next_pause() <= bound
    backoff.reset()
    assert backoff.next_pause() <= 0.5


def test_two_callers_who_fail_together_do_not_pause_alike() -> None:
    assert len({Backoff(first=1).next_pause() for _ in range(20)}) > 1


async def test_no_pause_goes_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    backoff = Backoff(until=time.monotonic() + 1, first=60, longest=60)
    assert await backoff.pause()
    assert not await backoff.pause(until=time.monotonic())
    assert await backoff.pause(until=time.monotonic() + 2)
    assert 0 < waited[0] <= 1 < waited[1] <= 2


async def test_past_the_deadline_it_does_not_wait() -> None:
    backoff = Backoff(until=time.monotonic(), first=60, longest=60)
    assert not await backoff.pause()
    assert not backoff.block()


def test_a_thread_is_blocked_until_the_deadline_at_most() -> None:
    begun = time.monotonic()
    assert Backoff(until=begun + 0.05, first=60, longest=60).block()
    assert time.monotonic() - begun >= 0.04
