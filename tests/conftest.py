"""What every test stands on."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the one event loop that this package is for."""
    return "asyncio"
