"""How many processors a command uses: of its affinity and of the quotas of its cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_cores.session.cli.cores import usable_cores

MANY = 64


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have many cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)), raising=False)


def cores(folder: Path, own: str, files: dict[str, str]) -> int:
    """Return the cores of a process with this ``/proc/self/cgroup`` and these cgroup files."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "own").write_text(own)
    return usable_cores(folder, folder / "own")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, MANY),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1),
        ("0::/seen from outside\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/\n", {"cpu.max": "half a core\n"}, MANY),
        (
            "4:memory:/a\n1:cpu,cpuacct:/a\n0::/\n",
            {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "1:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            MANY,
        ),
        ("", {}, MANY),
        ("nonsense\n", {}, MANY),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(
    own: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert cores(tmp_path, own, files) == expected


def test_a_machine_without_cgroups_has_the_cores_of_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "missing") == MANY


def test_this_machine_has_cores() -> None:
    assert 1 <= usable_cores() <= MANY
