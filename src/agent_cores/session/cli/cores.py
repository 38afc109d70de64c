"""How many processors this process may keep busy."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return how many processors this process may keep busy, at least 1.

    These are those of its affinity, and no more than the CPU quota of its cgroup or of one above,
    rounded up: that is how a container is limited. What cannot be read limits nothing.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = len(os.sched_getaffinity(0))
    try:
        lines = own.read_text("utf-8").splitlines()
    except (OSError, UnicodeError):
        lines = []
    quotas = [quota for line in lines for quota in _quotas(line, cgroups)]
    return max(1, min([cores, *map(ceil, quotas)]))


def _quotas(line: str, cgroups: Path) -> list[float]:
    """Return the quotas in processors by one line ``number:controllers:path`` (cgroups(7))."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controllers and "cpu" not in controllers.split(","):
        return []
    mounted = cgroups / "cpu" if controllers else cgroups
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
    group = Path(path.lstrip("/"))
    found = []
    for folder in (group, *group.parents):
        try:
            words = [word for name in names for word in _words(mounted / folder / name)]
            quota, period = map(int, words)
        except (OSError, ValueError):  # without a limit it is the word max
            continue
        if quota > 0 and period > 0:
            found.append(quota / period)
    return found


def _words(file: Path) -> list[str]:
    return file.read_text("utf-8").split()
