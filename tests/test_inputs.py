"""What callers give, and ids that are drawn: once, not twice by threads or a forked process."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import new_id

FORKED = """
import os
from agent_cores.session.inputs import new_id
from agent_cores.session.process import process_id
new_id()
reader, writer = os.pipe()
if os.fork() == 0:
    assert process_id() == os.getpid()
    os.write(writer, " ".join(new_id() for _ in range(10)).encode())
    os._exit(0)
assert process_id() == os.getpid()
print(os.read(reader, 1000).decode(), *(new_id() for _ in range(10)))
"""


def test_an_id_is_128_random_bits_as_text_that_fits_a_path() -> None:
    ids = [new_id() for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    assert all(re.fullmatch("[A-Za-z0-9_-]{22}", found) for found in ids)


def test_threads_draw_different_ids() -> None:
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: [new_id() for _ in range(500)], range(40)))
    ids = [found for many in drawn for found in many]
    assert len(set(ids)) == len(ids) == 20_000


def test_a_forked_process_draws_its_own_ids() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60
    )
    ids = done.stdout.split()
    assert len(set(ids)) == len(ids) == 20


class Text(str):
    """Text of another library."""

    __slots__ = ()


class Anybody:
    """Equal to everybody."""

    __hash__ = None  # type: ignore[assignment]  # as of most that compares like this

    def __eq__(self, other: object) -> bool:
        return True


async def test_who_merely_compares_equal_is_not_the_owner() -> None:
    async with SessionManager("memory://") as manager:
        session_id = await manager.create_session("ann")
        for call in (
            manager.add_message(session_id, Anybody(), "user", "hello"),  # type: ignore[arg-type]
            manager.delete_session(session_id, Anybody()),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidInputError, match="user_id"):
                await call


async def test_text_of_another_type_is_refused_by_name() -> None:
    async with SessionManager("memory://") as manager:
        session_id = await manager.create_session("ann")
        with pytest.raises(InvalidInputError, match="content"):
            await manager.add_message(session_id, "ann", "user", Text("hello"))
