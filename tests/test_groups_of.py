"""``groups_of`` that does not answer, or not in time."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import GroupsUnavailableError
from agent_cores.session.testing import suite_settings


class Directory:
    """Answers nobody; ``asked`` and ``given_up`` count."""

    def __init__(self) -> None:
        self.asked = self.given_up = 0

    async def groups_of(self, user_id: str) -> list[str]:
        self.asked += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return []


async def test_groups_that_do_not_come_end_a_verb_at_its_deadline() -> None:
    directory = Directory()
    settings = suite_settings(timeout=0.05)
    async with SessionManager(
        "memory://", settings=settings, groups_of=directory.groups_of
    ) as sessions:
        talk = await sessions.create_session("ann")
        await sessions.share_session(talk, "ann", "group:team", role="editor")
        calls = (
            sessions.get_session(talk, "bob"),
            sessions.add_message(talk, "bob", "user", "no"),
            sessions.list_user_sessions("bob", shared=True),
            sessions.fork_session(talk, "bob"),
        )
        for number, call in enumerate(calls, 1):
            began = time.monotonic()
            with pytest.raises(GroupsUnavailableError, match="SESSION_TIMEOUT"):
                await call
            assert time.monotonic() - began < 2
            assert (directory.asked, directory.given_up) == (number, number)
        view = sessions.for_namespace("acme", groups_of=directory.groups_of)
        with pytest.raises(GroupsUnavailableError):
            await view.list_user_sessions("bob", shared=True)
        await sessions.add_message(talk, "ann", "user", "the owner needs no group")


async def test_a_timeout_of_the_directory_itself_passes_through() -> None:
    async def ask(user_id: str) -> list[str]:
        raise TimeoutError("the directory's own")

    async with SessionManager("memory://", groups_of=ask) as sessions:
        with pytest.raises(TimeoutError, match="own"):
            await sessions.list_user_sessions("bob", shared=True)
