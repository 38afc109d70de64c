"""Ids that are drawn ahead are drawn once: not twice by threads, nor again by a forked process."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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
