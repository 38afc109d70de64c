"""The contract kit: the tests that every storage provider and every kind of manager must pass.

Subclass :class:`ProviderContract` and :class:`ManagerContract`, override the one fixture ``store``,
and run pytest. ``pip install 'agent-cores-session[testing]'`` installs what the kit requires.
"""

from __future__ import annotations

import pytest

# The cases use plain ``assert``; pytest explains a failure only in modules that it rewrites.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("beside", "manager", "processes", "provider"))
)

from agent_cores.session.testing.clock import ManualClock  # noqa: E402 - after the registration
from agent_cores.session.testing.manager import ManagerContract, VerbContract  # noqa: E402
from agent_cores.session.testing.oracle import Oracle  # noqa: E402
from agent_cores.session.testing.provider import ProviderContract  # noqa: E402
from agent_cores.session.testing.store import Store, suite_settings  # noqa: E402

__all__ = [
    "ManagerContract",
    "ManualClock",
    "Oracle",
    "ProviderContract",
    "Store",
    "VerbContract",
    "suite_settings",
]
