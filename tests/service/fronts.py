"""Proxies in front of a service, run during a test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.servers.programs import program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(name: str, folder: Path, text: str, port: int) -> AsyncIterator[None]:
    """Run nginx or Caddy with a configuration, from when it listens on the port on."""
    file = folder / name
    file.write_text(text)
    options = ["-c", str(file), "-p", str(folder)]
    if name == "caddy":
        options = ["run", "--adapter", "caddyfile", "--config", str(file)]
    log = (folder / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        program(name, package=name), *options, stdout=log, stderr=log
    )
    try:
        async with asyncio.timeout(20):
            while True:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield
    finally:
        process.terminate()
        await process.wait()
        log.close()
