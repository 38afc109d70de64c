"""One conversation from creation to expiry: ``make demo`` and ``agent-sessions demo`` run it.

It is on embedded SQLite. It prints each step, checks the result, and fails if the result is not as
described.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent_cores.session import SessionManager
from agent_cores.session.errors import AccessDeniedError, SessionError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable

HALF_A_SECOND = 0.5 / 3600  # in hours


def show(what: str, *, as_expected: bool = True) -> None:
    """Print one line of a step; stop the demo if the step did not work as described."""
    print(f"    {what}", flush=True)
    if not as_expected:
        sys.exit("    This was not expected. The demo has failed.")


async def refused(attempt: Awaitable[object], reason: type[SessionError]) -> str:
    """Return the error of a call that must be refused."""
    try:
        await attempt
    except reason as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return sys.exit("    That should have been refused. The demo has failed.")


async def begin(url: str) -> str:
    """Create a conversation and append to it; close the store afterwards."""
    async with SessionManager(url) as sessions:
        session_id = await sessions.create_session("ann", {"tags": ["demo"]}, title="Shanghai")
        show(f"create_session    {session_id}")
        for role, content in (("user", "你好! A ticket to Shanghai?"), ("assistant", "Which day?")):
            message = await sessions.add_message(session_id, "ann", role, content)
            show(f"add_message       {message.seq} {role}: {content}")
    return session_id


async def go_on(url: str, session_id: str) -> None:
    """Run in a second process: read what the first one wrote, and append to it."""
    async with SessionManager(url) as sessions:
        found = [message.seq for message in await sessions.get_session_messages(session_id, "ann")]
        show(f"process {os.getpid():<9} finds messages {found}", as_expected=found == [1, 2])
        message = await sessions.add_message(session_id, "ann", "user", "Friday.")
        show(
            f"add_message       {message.seq} user: Friday.",
            as_expected=message.seq == len(found) + 1,
        )


async def share(sessions: SessionManager, session_id: str) -> None:
    """Share the conversation, list it, and check who is refused."""
    print("\n3. ann shares it with bob, who may read and not write")
    grant = await sessions.share_session(session_id, "ann", "bob")
    show(f"share_session     {grant.subject} is {grant.role}")
    page = await sessions.get_session_messages(session_id, "bob", limit=1)
    show(f"bob reads         {page[-1].content}", as_expected=page[-1].content == "Friday.")
    writing = sessions.add_message(session_id, "bob", "user", "Me too!")
    show(f"bob writes        {await refused(writing, AccessDeniedError)}")

    print("\n4. Both find it in their lists")
    for user_id, shared in (("ann", False), ("bob", True)):
        listed = await sessions.list_user_sessions(user_id, shared=shared)
        lines = [f"{s.metadata.title}, {s.visibility}, as {s.access_role}" for s in listed]
        show(f"{user_id:<17} {lines}", as_expected=[s.id for s in listed] == [session_id])

    print("\n5. A stranger cannot tell it from one that does not exist")
    hidden = await refused(sessions.get_session(session_id, "eve"), SessionNotFoundError)
    show(f"eve asks for it   {hidden}")
    missing = await refused(sessions.get_session("no-such-id", "eve"), SessionNotFoundError)
    show(f"a made-up id      {missing}", as_expected=missing == hidden)


async def expire(sessions: SessionManager) -> None:
    """Let a session expire, and sweep it."""
    print("\n6. A session that ends after half a second is gone, and then swept")
    sessions.lifecycle.on("session.expired", lambda event: show(f"hook              {event.name}"))
    session_id = await sessions.create_session("ann", ttl_hours=HALF_A_SECOND)
    show(f"create_session    {session_id}")
    await asyncio.sleep(0.6)
    show(
        f"get_session       {await refused(sessions.get_session(session_id, 'ann'), SessionError)}"
    )
    swept = await sessions.clean_expired_sessions()
    show(f"swept             {swept}", as_expected=swept == 1)
    left = await sessions.get_statistics()
    show(f"get_statistics    {left}", as_expected=left == {"sessions": 1, "due": 0})


async def finish(url: str, session_id: str) -> None:
    """Run the steps that need no second process."""
    async with SessionManager(url) as sessions:
        await share(sessions, session_id)
        await expire(sessions)


def main() -> None:
    """Run all steps in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="agent-sessions-demo-") as folder:
        url = f"sqlite:///{Path(folder) / 'demo.db'}"
        print(f"One conversation, on {url}\n\n1. ann begins it, in process {os.getpid()}")
        session_id = asyncio.run(begin(url))
        print("\n2. The store is closed, and a new process goes on", flush=True)
        # -P: no file in the working folder can pass for a module.
        second = [sys.executable, "-P", "-m", __spec__.name, url, session_id]
        if subprocess.run(second, check=False).returncode:  # noqa: S603
            sys.exit("    The new process has failed, and so has the demo.")
        asyncio.run(finish(url, session_id))
    print("\nEverything worked as described.")


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack some characters
    if sys.argv[1:]:
        asyncio.run(go_on(*sys.argv[1:]))
    else:
        main()
