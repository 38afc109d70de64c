"""``OtherProcess``: a second process on the store under test, controlled over pipes."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session import errors
from agent_cores.session.models.times import to_millis

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from agent_cores.session.testing.clock import ManualClock

_LONGEST_LINE = 64 * 1024 * 1024


class OtherProcess:
    """Sends commands and returns their results; an error of this package is raised again here."""

    def __init__(self, process: Process, clock: ManualClock) -> None:
        self._process = process
        self._clock = clock

    async def do(self, order: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        """Execute a command of :class:`~agent_cores.session.testing.worker.Orders`."""
        pipe = self._process.stdin
        assert pipe is not None
        request = {"do": order, "at": to_millis(self._clock()), **arguments}
        pipe.write(msgspec.json.encode(request) + b"\n")
        await pipe.drain()
        return await self.answer()

    async def verb(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        """Call a verb of the manager in the other process; structs come back as mappings."""
        return await self.do("verb", name=name, arguments=arguments)

    async def answer(self) -> Any:  # noqa: ANN401 - JSON
        """Wait for the next response."""
        pipe = self._process.stdout
        assert pipe is not None
        line = await pipe.readline()
        assert line, "the other process ended; what it wrote to stderr says why"
        answer = msgspec.json.decode(line)
        if "error" in answer:
            raise RefusedThereError(answer["type"])
        return answer["result"]


class RefusedThereError(Exception):
    """The other process raised an error of this package; ``type`` is its class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.type: type[errors.SessionError] = getattr(errors, name)


@asynccontextmanager
async def other_process(url: str, clock: ManualClock) -> AsyncIterator[OtherProcess]:
    """Start a process that opens the store at that URL; stop it at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent_cores.session.testing.worker",
        url,
        stdin=PIPE,
        stdout=PIPE,
        limit=_LONGEST_LINE,
    )
    try:
        other = OtherProcess(process, clock)
        assert await other.answer() == "ready"
        yield other
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    finally:
        await process.communicate(b"")  # on Python 3.11 the pipe is closed only if there is input
    assert process.returncode == 0
