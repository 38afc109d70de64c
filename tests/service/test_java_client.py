"""The Java example talks to a live service. Where there is no JDK it is not run; CI has one."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.service.served import Live
from tests.service.wire import Wire

SOURCE = Path(__file__).parents[2] / "examples" / "java" / "Client.java"
JAVA = shutil.which("java")


@pytest.mark.skipif(JAVA is None and not os.environ.get("CI"), reason="no JDK on this machine")
async def test_the_java_client_creates_appends_once_and_pages(wire: Wire) -> None:
    assert JAVA is not None, "CI has a JDK"
    live = Live(wire.service)
    address = await live.start()
    process = await asyncio.create_subprocess_exec(
        JAVA,
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
