"""A separate service for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.service.served import Gate, Live
from tests.service.wire import Wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Start a service over an empty memory store, and close it."""
    wire = Wire()
    yield wire
    await wire.service.aclose()


@pytest.fixture
async def gate(wire: Wire) -> AsyncIterator[tuple[Gate, str]]:
    """Serve it on a port, behind a gate; give the gate and the address."""
    gate = Gate(wire.service)
    live = Live(gate)
    yield gate, await live.start()
    gate.opened.set()
    await live.stop()
