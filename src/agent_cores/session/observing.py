"""Listeners for batches and retries, so that storage and engine need not know of metrics.

There are none unless metrics are on. A listener must be quick and must not raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

on_batch: list[Callable[[int, int], None]] = []
"""Called when a batch leaves, with its items and how many are left in its queue."""

on_retry: list[Callable[[], None]] = []
"""Called before a change is sent again."""


def note_retry() -> None:
    """Tell that a change is sent again."""
    for tell in on_retry:
        tell()
