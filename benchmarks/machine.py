"""Facts about the machine, which every number depends on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

SYNCS = 50


def facts() -> dict[str, str]:
    """Cores, processor, system, Python, the folder of the stores, and the cost of a sync there."""
    folder = Path(tempfile.gettempdir()).resolve()
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite of Python's own module": sqlite3.sqlite_version,
        "stores in": f"{folder} ({_filesystem(folder)})",
        "write and sync of 4 KiB there": sync_time(),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _filesystem(folder: Path) -> str:
    """The type of the mount that holds `folder`, if the system reports it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "file system unknown"
    holding = [(len(fields[1]), fields[2]) for fields in mounts if folder.is_relative_to(fields[1])]
    return max(holding)[1] if holding else "file system unknown"


def sync_time() -> str:
    """The median time to sync 4 KiB to the disk, which a single durable append waits for."""
    folder = tempfile.gettempdir()
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        taken = []
        for _ in range(SYNCS):
            started = perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(perf_counter() - started)
    return f"{statistics.median(taken) * 1e6:,.0f} µs"
