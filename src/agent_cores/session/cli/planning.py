"""``plan_for``: machines for a load, by the costs that were measured; pure arithmetic.

Each line of a plan is one step of it, with its numbers, so that a reader can do it again.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent_cores.session.cli.figures import Micros, StoreFigures

BUSY = 0.6
"""How busy cores may be at the peak: above, latency grows faster than the load."""
ROOM = {"sqlite": 1.3, "redis": 1.5, "postgres": 1.5, "mysql": 1.3}
"""Data to memory or disk: what a vacuum, fragmentation, a snapshot or the log needs besides."""
WORKER_MB = 200
"""Memory of a worker under load, its cached headers and the bodies in flight included."""
FEWEST_PRIMARIES = 3
"""Of a Redis Cluster."""
MEGABYTE, GIGABYTE = 10**6, 10**9


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored, and the requests in the busiest second."""

    sessions: int
    messages: int
    message_bytes: int
    append: float
    read: float
    list: float

    def cores(self, micros: Micros) -> float:
        """Return how many cores the requests keep busy, at so many microseconds each."""
        return float(sum(getattr(self, kind) * each for kind, each in micros.items())) / 1e6


class Node(msgspec.Struct, frozen=True):
    """A machine: its cores, and its memory in bytes."""

    cores: int
    memory: int


class Plan(msgspec.Struct, kw_only=True):
    """What a load needs on one store. ``lines`` are the arithmetic, ``fits`` whether it can."""

    store: str
    data_bytes: int
    store_bytes: int
    store_nodes: int
    store_cores: int
    service_nodes: int
    service_workers: int
    fits: bool = True
    lines: list[str] = []


def plan_for(store: str, load: Load, node: Node, figures: StoreFigures) -> Plan:
    """Return the plan for one store."""
    lines: list[str] = []
    data = _data(load, figures, lines)
    needed = int(data * ROOM[store])
    lines.append(f"{_size(data)} x {ROOM[store]} for what it needs besides = {_size(needed)}")
    of_service = {
        kind: figures.library_micros[kind] + figures.http_micros[kind]
        for kind in figures.library_micros
    }
    workers = _cores("service", load, of_service, lines)
    store_cores = _cores("store", load, figures.store_micros, lines)
    plan = Plan(
        store=store,
        data_bytes=data,
        store_bytes=needed,
        store_nodes=1,
        store_cores=store_cores,
        service_nodes=1,
        service_workers=workers,
        lines=lines,
    )
    if store == "sqlite":
        _on_one_machine(plan, node)
        return plan
    on_a_node = min(node.cores, node.memory // (WORKER_MB * MEGABYTE))
    plan.service_nodes = max(ceil(workers / on_a_node), 2)
    plan.service_workers = max(workers, plan.service_nodes)
    lines.append(
        f"service: {plan.service_workers} workers of {WORKER_MB} MB on {plan.service_nodes} nodes"
        f" of {node.cores} cores, at least 2, so that one can be replaced"
    )
    if store == "redis":
        _in_memory(plan, node)
    else:
        _in_a_database(plan)
    return plan


def _data(load: Load, figures: StoreFigures, lines: list[str]) -> int:
    message = figures.message_bytes + figures.text_factor * load.message_bytes
    session = figures.session_bytes + load.messages * message
    data = int(load.sessions * session)
    lines.append(
        f"a message: {figures.message_bytes} + {figures.text_factor} x {load.message_bytes}"
        f" = {message:.0f} bytes"
    )
    lines.append(
        f"a session: {figures.session_bytes} + {load.messages} x {message:.0f}"
        f" = {session:.0f} bytes; {load.sessions:,} of them: {_size(data)}"
    )
    return data


def _cores(what: str, load: Load, micros: Micros, lines: list[str]) -> int:
    """Return how many cores are needed, so that they are not too busy."""
    busy = load.cores(micros)
    if not busy:
        return 0
    parts = [f"{getattr(load, kind):g} {kind} x {each:.0f}" for kind, each in micros.items()]
    needed = max(ceil(busy / BUSY), 1)
    lines.append(
        f"{what}: {' + '.join(parts)} us a second = {busy:.2f} cores;"
        f" at most {BUSY:.0%} busy: {needed}"
    )
    return needed


def _on_one_machine(plan: Plan, node: Node) -> None:
    plan.fits = plan.service_workers <= node.cores
    plan.lines.append(
        f"SQLite is one file on one machine: {_of(plan.service_workers, 'worker')} of"
        f" {WORKER_MB} MB,"
        f" {_size(plan.store_bytes)} of local disk"
    )
    if not plan.fits:
        plan.lines.append(f"it does not fit on a machine of {node.cores} cores: use a server")


def _in_memory(plan: Plan, node: Node) -> None:
    by_memory, by_cores = ceil(plan.store_bytes / node.memory), plan.store_cores
    primaries = max(by_memory, by_cores, 1)
    if primaries > 1:
        primaries = max(primaries, FEWEST_PRIMARIES)
    plan.store_nodes = 2 * primaries
    kind = "a primary" if primaries == 1 else f"a cluster of {primaries} primaries"
    plan.lines.append(
        f"store: {by_memory} nodes by memory, {by_cores} by cores, of which each uses one:"
        f" {kind}, each with a replica, of {_size(plan.store_bytes // primaries)}"
    )


def _in_a_database(plan: Plan) -> None:
    plan.store_nodes = 2
    plan.lines.append(
        f"store: a primary of {_of(plan.store_cores, 'core')} with {_size(plan.store_bytes)}"
        " of disk, and a standby like it"
    )


def _of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _size(count: float) -> str:
    return f"{count / GIGABYTE:,.1f} GB" if count >= GIGABYTE else f"{count / MEGABYTE:,.1f} MB"
