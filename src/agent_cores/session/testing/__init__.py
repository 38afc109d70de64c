"""The contract kit: the tests that every storage provider and every kind of manager must pass.

Subclass :class:`ProviderContract` and :class:`ManagerContract`, override the one fixture ``store``,
and run pytest. ``pip install 'agent-cores-session[testing]'`` installs what the kit requires.

The names below are imported on first use: the processes that the cases start load no pytest.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.manager import ManagerContract, VerbContract
    from agent_cores.session.testing.oracle import Oracle
    from agent_cores.session.testing.provider import ProviderContract
    from agent_cores.session.testing.store import Store, suite_settings

# The cases use plain ``assert``; pytest explains a failure only in modules that it rewrites.
if "pytest" in sys.modules:
    sys.modules["pytest"].register_assert_rewrite(
        *(f"{__name__}.{module}" for module in ("beside", "manager", "processes", "provider"))
    )

_HOMES = {
    "ManagerContract": "manager",
    "ManualClock": "clock",
    "Oracle": "oracle",
    "ProviderContract": "provider",
    "Store": "store",
    "VerbContract": "manager",
    "suite_settings": "store",
}

__all__ = [
    "ManagerContract",
    "ManualClock",
    "Oracle",
    "ProviderContract",
    "Store",
    "VerbContract",
    "suite_settings",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    home = _HOMES.get(name)
    if home is None:
        detail = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(detail)
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
