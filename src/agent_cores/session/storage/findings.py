"""``Finding``: one thing that an operator should know of a store."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and what to mend, if anything.

    ``about`` is a short name such as ``eviction``, ``found`` the value in words, without secrets.
    ``mend`` says what to do; a finding without it is in order. ``is_problem``: sessions are in
    danger or cannot be used, so ``agent-sessions doctor`` fails. Without it, ``mend`` is advice.
    """

    about: str
    found: str
    mend: str | None = None
    is_problem: bool = False


def problem(about: str, found: str, mend: str) -> Finding:
    """Return a finding that must be mended."""
    return Finding(about=about, found=found, mend=mend, is_problem=True)
