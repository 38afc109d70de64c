"""``process_id``: which process this is, without a system call each time."""

from __future__ import annotations

import os

_id = os.getpid()


def process_id() -> int:
    """Return what ``os.getpid()`` does."""
    return _id


def _look_again() -> None:
    global _id  # noqa: PLW0603 - there is one process
    _id = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look_again)
