"""What sessions, messages and requests cost on each store, as measured: what ``plan`` counts by."""

from __future__ import annotations

import msgspec

Micros = dict[str, float]
"""Microseconds of processor time of an ``append``, a ``read`` and a ``list``."""


class StoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The costs on one store.

    Bytes: a session without messages, a message without its text, and how many times its text, with
    indexes, lists and free room included. Processor time of a request: of the library, which
    ``bench`` measures, of HTTP around it, and of the store's own server.
    """

    session_bytes: int
    message_bytes: int
    text_factor: float
    library_micros: Micros
    http_micros: Micros
    store_micros: Micros


FIGURES = {
    "sqlite": StoreFigures(
        session_bytes=364,
        message_bytes=105,
        text_factor=1.32,
        library_micros={"append": 87, "read": 178, "list": 428},
        http_micros={"append": 151, "read": 175, "list": 172},
        store_micros={"append": 0, "read": 0, "list": 0},
    ),
    "redis": StoreFigures(
        session_bytes=1004,
        message_bytes=241,
        text_factor=1.04,
        library_micros={"append": 56, "read": 102, "list": 496},
        http_micros={"append": 146, "read": 176, "list": 361},
        store_micros={"append": 50, "read": 90, "list": 161},
    ),
    "postgres": StoreFigures(
        session_bytes=696,
        message_bytes=453,
        text_factor=0.98,
        library_micros={"append": 76, "read": 311, "list": 455},
        http_micros={"append": 158, "read": 221, "list": 368},
        store_micros={"append": 129, "read": 204, "list": 407},
    ),
    "mysql": StoreFigures(
        session_bytes=4927,
        message_bytes=366,
        text_factor=2.16,
        library_micros={"append": 87, "read": 346, "list": 609},
        http_micros={"append": 253, "read": 630, "list": 433},
        store_micros={"append": 190, "read": 769, "list": 423},
    ),
}
"""By ``python -m benchmarks.footprint`` on two cores of an AMD EPYC, Python 3.11, November 2026."""
