"""What an entry of the catalogue says: a contender, or a workload. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["ours", "limit", "peer", "adapter"]
Home = Literal["project", "peers"]
Server = Literal["valkey", "postgres", "mariadb"]


@dataclass(frozen=True)
class Contender:
    """One store under measurement; `target` is `module:class` of a `benchmarks.store.Store`."""

    name: str
    group: str
    role: Role
    target: str
    home: Home = "project"
    server: Server | None = None
    """The server that it needs."""
    statement: str | None = None
    """The statement that imports it; its time is the `import` row."""
    only: tuple[str, ...] | None = None
    """The workloads it takes part in; None: every one."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Workload -> what the contender lacks for it; the table shows the reason."""


@dataclass(frozen=True)
class Workload:
    """One module of `benchmarks.workloads`."""

    name: str
    module: str
    title: str
    in_rounds: bool
    """Whether contenders take turns in rounds; else the turns are within each one's process."""
    groups: tuple[str, ...] | None = None
    """The groups that take part; None: all."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ from the defaults; a comment on each entry gives the reason."""
