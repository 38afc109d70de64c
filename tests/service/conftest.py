"""A separate service for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.service.wire import Wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Start a service over an empty memory store, and close it."""
    wire = Wire()
    yield wire
    await wire.service.aclose()
