"""The server's memory for 1,000 sessions of 20 messages, over the bytes of the messages alone.

It is what the server reports afterwards minus what it reported before, so it includes keys, lists
and indexes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import exact


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill sessions one message at a time, as in real use."""
    store = make()
    await store.open(directory)
    await store.create("first", 1)  # one-time loads, such as scripts, are not counted
    before = await store.bytes_in_use()
    for session in await store.create("user", settings.held_sessions):
        for _ in range(settings.held_length):
            await store.append(session, settings.text)
    taken = await store.bytes_in_use() - before
    await store.close()
    messages = settings.held_sessions * settings.held_length
    ratio = taken / (messages * settings.message_bytes)
    case = f"{settings.held_length} messages of {settings.message_bytes} bytes"
    return Report(samples=[exact(case, "bytes a byte", "lower", ratio)])
