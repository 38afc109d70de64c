"""The plain records that travel between a contender's process and the one that started it.

Standard library only: a peer's process has neither our package nor its dependencies.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Settings:
    """How long and how large a run is. Sizes are in sessions or messages, times in seconds."""

    seconds: float = 1.0
    """How long one measurement of a rate lasts."""
    warm_up: float = 0.2
    budget: float = 5.0
    """How long one workload may take turns within one process, after the minimum of rounds."""
    rounds: int = 3
    callers: tuple[int, ...] = (1, 16, 50, 100)
    sessions: int = 200
    message_bytes: int = 200
    read_sessions: int = 1
    read_length: int = 1_000
    read_limit: int = 50
    list_limit: int = 10
    list_sizes: tuple[int, ...] = (10, 1_000, 3_000, 10_000, 100_000)
    lengths: tuple[int, ...] = (10, 1_000, 10_000, 100_000)
    depths: tuple[int, ...] = (10, 1_000, 10_000)
    blocks: int = 200
    crowd: int = 1_000_000
    """Messages of others that the store also holds in `list` and `length`, if it supports that."""
    held_sessions: int = 1_000
    held_length: int = 20
    sweeps: tuple[tuple[int, int], ...] = ((1_000, 10_000), (1_000, 100_000), (10_000, 100_000))
    sweep_repeats: int = 2
    imports: int = 21
    peers_imports: int = 3
    crashes: int = 50
    peers_hold: int = 10_000
    """The most sessions or messages for a peer."""
    largest: int | None = None
    """The same for the contender that gets these settings; None: no limit."""

    @property
    def text(self) -> str:
        """The content of every message: as many ASCII letters as `message_bytes` says."""
        return "x" * self.message_bytes

    def within(self, size: int) -> bool:
        """Whether a contender runs at `size`."""
        return self.largest is None or size <= self.largest


QUICK = Settings(
    seconds=0.4,
    warm_up=0.1,
    budget=1.0,
    read_length=300,
    rounds=1,
    callers=(1, 100),
    list_sizes=(10, 1_000, 3_000, 10_000),
    lengths=(10, 1_000, 10_000),
    blocks=30,
    crowd=10_000,
    sweeps=((500, 2_000), (500, 10_000), (2_000, 10_000)),
    sweep_repeats=1,
    imports=5,
    peers_imports=1,
    crashes=5,
    peers_hold=1_000,
)
"""A quick run of a minute or two: too short to quote."""


@dataclass(frozen=True)
class Sample:
    """One number: the median of the measurements, with their low and high end."""

    case: str
    unit: str
    better: Better
    value: float
    low: float
    high: float
    callers: int | None = None


@dataclass(frozen=True)
class Stop:
    """Where a contender stopped, and why."""

    case: str
    why: str


@dataclass(frozen=True)
class Report:
    """The report of one contender's process for one workload: one JSON line."""

    samples: list[Sample] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Report:
        """The inverse of `to_json`."""
        return cls(
            samples=[Sample(**sample) for sample in values["samples"]],
            stops=[Stop(**stop) for stop in values["stops"]],
            facts=dict(values["facts"]),
        )


def settings_from_json(values: dict[str, Any]) -> Settings:
    """Settings with the tuples that JSON turned into lists."""
    frozen: dict[str, Any] = {name: _frozen(value) for name, value in values.items()}
    return Settings(**frozen)


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
