"""Ids of frameworks as ids of ours.

A framework's id may be any text: with slashes, with control characters, empty, longer than 255
bytes. An id that is valid here stays as it is, so that the session has the same id everywhere.
Otherwise the characters in question are percent-encoded. What is then still too long is replaced by
its hash: keep the original in the metadata if it is needed again.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 255
_EMPTY = "%"
HASHED = "%~"
"""How an id begins that holds only the hash of its text."""
_PART = re.compile(r"[%:/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WHOLE = re.compile(r"[%/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_USER = re.compile(r"[%\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def id_of(text: str) -> str:
    """Return the id of a session or message for one text. Different texts have different ids."""
    if text in {".", ".."}:
        return text.replace(".", "%2E")
    return _shortened(_escaped(text, _WHOLE))


def id_of_parts(*parts: str) -> str:
    """Return one id for several texts, in their order, joined by colons."""
    if _PART.search("".join(parts)) is None:
        return _shortened(":".join([part or _EMPTY for part in parts]))
    return _shortened(":".join([_escaped(part, _PART) for part in parts]))


def ids_of_parts(*parts: str, last: Iterable[str]) -> list[str]:
    """Return what ``id_of_parts`` returns for the same texts, with each of ``last`` after them."""
    first = "".join([f"{_escaped(part, _PART)}:" for part in parts])
    ids = [first + _escaped(each, _PART) for each in last]
    if max(map(len, ids), default=0) <= LONGEST and "".join(ids).isascii():
        return ids
    return [_shortened(each) for each in ids]


def user_id_of(text: str) -> str:
    """Return a user id for any text; one that begins with ``group:`` names no group here."""
    escaped = _escaped(text, _USER)
    return _shortened(re.sub(r"^group:", "group%3A", escaped))


def text_of(encoded: str) -> str | None:
    """Return the text of an id or user id; ``None`` if the id holds only its hash."""
    if encoded.startswith(HASHED):
        return None
    if encoded == _EMPTY:
        return ""
    return unquote_to_bytes(encoded).decode("utf-8", "surrogatepass")


def parts_of(encoded: str) -> tuple[str, ...] | None:
    """Return the texts of an id that ``id_of_parts`` made; ``None`` if it holds only their hash."""
    if encoded.startswith(HASHED):
        return None
    return tuple(text_of(part) or "" for part in encoded.split(":"))


@lru_cache(maxsize=100)  # many ids of one call begin with the same part
def _escaped(text: str, unsafe: re.Pattern[str]) -> str:
    return unsafe.sub(_percent, text) or _EMPTY


def _percent(match: re.Match[str]) -> str:
    return _percent_encoded(match[0])


@cache
def _percent_encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _shortened(encoded: str) -> str:
    if len(encoded) <= LONGEST and encoded.isascii():
        return encoded
    data = encoded.encode()
    return encoded if len(data) <= LONGEST else HASHED + hashlib.sha256(data).hexdigest()
