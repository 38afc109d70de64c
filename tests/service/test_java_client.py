"""The Java example talks to a live service. CI has a JDK."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.servers.programs import program
from tests.service.served import Live
from tests.service.wire import Wire

SOURCE = Path(__file__).parents[2] / "examples" / "java" / "Client.java"


async def test_the_java_client_creates_appends_once_and_pages(wire: Wire) -> None:
    java = program("java", package="openjdk-17-jdk-headless")
    live = Live(wire.service)
    address = await live.start()
    process = await asyncio.create_subprocess_exec(
        java,
        "-Dfile.encoding=UTF-8",
        "-Dstdout.encoding=UTF-8",
        str(SOURCE),
        address,
        env={**os.environ, "AGENT_SESSIONS_KEY": await wire.key(), "LC_ALL": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await asyncio.wait_for(process.communicate(), 120)
    await live.stop()
    assert process.returncode == 0, errors.decode()
    assert printed.decode().splitlines() == [
        "created From Java",
        "first replayed false",
        "again replayed true",
        "messages [你好, answer 1, answer 2, answer 3, answer 4]",
    ]
    (session,) = await wire.manager.list_user_sessions("用户 1")
    assert session.metadata.message_count == 5
