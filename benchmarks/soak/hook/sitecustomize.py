"""Runs in each process of the service: writes how many asyncio tasks it has, once a second."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

FOLDER = "SOAK_TASKS"


def _count(folder: Path) -> None:
    while folder.is_dir():
        tasks = getattr(asyncio.tasks, "_scheduled_tasks", None)  # since Python 3.12
        if tasks is None:
            tasks = asyncio.tasks._all_tasks  # type: ignore[attr-defined]  # noqa: SLF001
        (folder / str(os.getpid())).write_text(str(len(tasks)))
        time.sleep(1)


if FOLDER in os.environ:
    threading.Thread(target=_count, args=(Path(os.environ[FOLDER]),), daemon=True).start()
