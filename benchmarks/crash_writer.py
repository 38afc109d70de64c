"""The process that is killed: `python -m benchmarks.crash_writer PLAN`.

PLAN is JSON: `url`, `user_id`, `session_ids`, and `next`: for each caller the number of its next
message. A caller sends one message after another under the id `<caller>-<number>`, and writes
`<caller> <number> <seq>` to the pipe only after the append was acknowledged. Since it continues
with the number after its last acknowledged one, it retries the append that was in flight when the
previous process died: the retry must return what is stored, or store it, but never store it twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from typing import Any

from agent_cores.session import SessionManager

PIPE = 1


async def write(plan: dict[str, Any]) -> None:
    """Append until killed."""
    manager = SessionManager(plan["url"])
    session_ids, user_id = plan["session_ids"], plan["user_id"]

    async def caller(number: int, first: int) -> None:
        session_id = session_ids[number % len(session_ids)]
        for count in itertools.count(first):
            name = f"{number}-{count}"
            message = await manager.add_message(session_id, user_id, "user", name, message_id=name)
            os.write(PIPE, f"{number} {count} {message.seq}\n".encode())

    async with manager:
        await asyncio.gather(*(caller(*start) for start in enumerate(plan["next"])))


if __name__ == "__main__":
    asyncio.run(write(json.loads(sys.argv[1])))
