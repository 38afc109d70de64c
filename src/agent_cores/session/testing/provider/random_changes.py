"""The state machine's cases: random changes on a provider, with and without a fast path."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.machine import ProviderMachine

if TYPE_CHECKING:
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

EXAMPLES = 60
STEPS = 40
SHRINK = "CI" not in os.environ
"""Not in CI, which reports the first difference found: shrinking it takes minutes."""


class StateMachineCases(ProviderCases):
    """The machine, with appends that may take a fast path and with appends that may not."""

    def test_random_changes_mean_what_apply_change_says_on_the_fast_path(
        self, store: Store, clock: ManualClock
    ) -> None:
        run_machine(store, clock, fast_path=True)

    def test_random_changes_mean_what_apply_change_says_without_the_fast_path(
        self, store: Store, clock: ManualClock
    ) -> None:
        run_machine(store, clock, fast_path=False)


def run_machine(
    store: Store,
    clock: ManualClock,
    *,
    fast_path: bool,
    examples: int = EXAMPLES,
    shrink: bool = SHRINK,
) -> None:
    """Run the machine on a store, in its own event loop.

    ``shrink=False`` reports the first difference found, without shrinking it to the shortest case.
    """
    phases = [phase for phase in Phase if shrink or phase is Phase.generate]
    with asyncio.Runner() as runner:
        provider = runner.run(store.open())
        try:
            run_state_machine_as_test(
                partial(ProviderMachine, provider, clock, runner.run, fast_path=fast_path),  # type: ignore[arg-type]  # a factory will do
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    deadline=None,
                    derandomize="CI" in os.environ,
                    phases=phases,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(store.close())
