"""``version``: one state of one session as one opaque text, which is also the ETag's content.

Only this module writes and parses it, for the library and the service alike.
"""

from __future__ import annotations

import re

import msgspec

_TEXT = re.compile(r"([0-9]{1,19})\.([1-9][0-9]{0,17})\.[0-9]{1,19}", re.ASCII)


class Expected(msgspec.Struct, frozen=True):
    """What a write expects: a revision, and also an incarnation if a version was given."""

    revision: int | None = None
    incarnation: int | None = None


NOTHING = Expected()


def version_text(incarnation: int, revision: int, last_seq: int) -> str:
    """Return the version of a session."""
    return f"{incarnation}.{revision}.{last_seq}"


NO_INCARNATION = 0
NO_SESSION = version_text(NO_INCARNATION, 1, 0)
"""The version that no stored session has: a write that expects it only creates."""


def unappended(version: str) -> str:
    """Return the part of a version that a plain append leaves as it is."""
    return version.rpartition(".")[0]


def is_same_session(one: str, other: str) -> bool:
    """Return whether two versions are of one session, not of a later one that has its id."""
    return one.partition(".")[0] == other.partition(".")[0]


def read_version(text: str) -> Expected | None:
    """Return what a version expects; ``None`` if the text is not a version.

    The last seq is not compared: a plain append must not refuse the write.
    """
    match = _TEXT.fullmatch(text)
    return None if match is None else Expected(int(match[2]), int(match[1]))
