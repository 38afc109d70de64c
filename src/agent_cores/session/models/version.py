"""``version``: which state of which session was seen, as one opaque text. It is the ETag's content.

Here alone it is written and read, for the library and for the service.
"""

from __future__ import annotations

import re

import msgspec

_TEXT = re.compile(r"([0-9]{1,19})\.([1-9][0-9]{0,17})\.[0-9]{1,19}", re.ASCII)


class Expected(msgspec.Struct, frozen=True):
    """What a write expects: the revision, and the session's incarnation if a version says it."""

    revision: int | None = None
    incarnation: int | None = None


NOTHING = Expected()


def version_text(incarnation: int, revision: int, last_seq: int) -> str:
    """Return the version of a session."""
    return f"{incarnation}.{revision}.{last_seq}"


def read_version(text: str) -> Expected | None:
    """Return what a version asks for; ``None`` if the text is none.

    The last seq is not compared: an append raises no revision, and would refuse the write.
    """
    match = _TEXT.fullmatch(text)
    return None if match is None else Expected(int(match[2]), int(match[1]))
