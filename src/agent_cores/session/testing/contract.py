"""``Contract``: the base of both parts of the kit: fixtures, and checks that no case is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.testing.clock import ManualClock

if TYPE_CHECKING:
    from agent_cores.session.testing.store import Store

_KIT = __name__.rpartition(".")[0]
_AUTO_MODE = (
    "agent_cores.session.testing: anyio's plugin runs the async cases of the contract, and the auto"
    " mode of pytest-asyncio takes its fixtures from it. Set asyncio_mode = strict, or give pytest"
    " --asyncio-mode=strict or -p no:asyncio for these tests."
)
_NOT_TO_BE_SET = frozenset({"pytestmark", "__test__"})


class Contract:
    """Subclass one of the contracts that derive from this, as ``Test…``, and override ``store``.

    A subclass may add cases, but not replace or unmark those of the contract.
    """

    pytestmark: pytest.MarkDecorator = pytest.mark.anyio

    def __init_subclass__(cls, **arguments: Any) -> None:  # noqa: ANN401 - the base class's own
        """Reject a subclass that would disable cases."""
        super().__init_subclass__(**arguments)
        if cls.__module__.startswith(_KIT):
            cls._refuse_clashes()
            return
        inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
        for name in vars(cls):
            if name in _NOT_TO_BE_SET or (name.startswith("test") and name in inherited):
                detail = f"{cls.__name__}.{name}: a subclass may not turn cases of the contract off"
                raise TypeError(detail)

    @classmethod
    def _refuse_clashes(cls) -> None:
        """Reject topics that share a name: the case or fixture of one would hide the other's."""
        owners: dict[str, str] = {}
        for base in cls.__mro__:
            for name in vars(base):
                if name.startswith("_") or name == "pytestmark":
                    continue
                if owners.setdefault(name, base.__name__) != base.__name__:
                    detail = f"{name} stands in {owners[name]} and in {base.__name__}"
                    raise TypeError(detail)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Raise at collection if another plugin would run the cases instead of anyio's."""
        config = metafunc.config
        if not config.pluginmanager.hasplugin("asyncio"):
            return
        mode = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
        if str(getattr(mode, "value", mode)) == "auto":
            raise pytest.Collector.CollectError(_AUTO_MODE)

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, the library's event loop."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock of the case."""
        return ManualClock()

    @pytest.fixture
    def store(self) -> Store:
        """Return the store under test, empty. The one fixture to override."""
        detail = f"{type(self).__name__} does not override the fixture 'store'"
        raise NotImplementedError(detail)
