"""Every argument of a caller is checked here, named in the error, and encoded once.

Messages are checked in :mod:`agent_cores.session.message_inputs`.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from agent_cores.session.codec import encode_value
from agent_cores.session.errors import InvalidInputError, SessionNotFoundError
from agent_cores.session.models.session import GROUP_PREFIX, SYSTEM_KEYS
from agent_cores.session.models.times import whole_millis
from agent_cores.session.models.values import decode_json, sorted_json, to_json
from agent_cores.session.models.version import Expected, read_version

if TYPE_CHECKING:
    from agent_cores.session.models.limits import Limits

E = TypeVar("E", bound=StrEnum)
LONGEST_LEASE_SECONDS = 300
LARGEST_NUMBER = 2**63 - 2
"""The largest seq or revision that a caller may give: one more still fits in 64 bits."""
LONGEST_SECONDS = 100 * 366 * 86_400
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class DefaultTtl(float):
    """The type of ``DEFAULT_TTL_HOURS``: equal to 24, but a 24 that was given is another object."""

    __slots__ = ()


DEFAULT_TTL_HOURS = DefaultTtl(24)
"""The default of ``ttl_hours``: ``SESSION_DEFAULT_EXPIRY`` holds. A 24 that is given is exact."""


_drawn: list[str] = []
"""Ids drawn in advance: one call for random bytes serves many."""
_drawn_numbers: list[int] = []
"""Incarnations drawn in advance."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drawn.clear)
    os.register_at_fork(after_in_child=_drawn_numbers.clear)
_DRAWN_AT_ONCE = 256
_ID_CHARACTERS = 22


def new_id() -> str:
    """Return 132 random bits as URL-safe text."""
    try:
        return _drawn.pop()
    except IndexError:
        _drawn.extend(_draw())
        return new_id()


def _draw() -> list[str]:
    text = secrets.token_urlsafe(_DRAWN_AT_ONCE * _ID_CHARACTERS * 3 // 4)
    return [text[i : i + _ID_CHARACTERS] for i in range(0, len(text), _ID_CHARACTERS)]


def new_incarnation() -> int:
    """Return 63 random bits."""
    try:
        return _drawn_numbers.pop()
    except IndexError:
        words = struct.unpack(f"={_DRAWN_AT_ONCE}Q", secrets.token_bytes(_DRAWN_AT_ONCE * 8))
        _drawn_numbers.extend(word >> 1 for word in words)
        return new_incarnation()


def checked_namespace(name: object) -> str:
    """Return the name of a namespace; those that begin with ``_`` belong to the system."""
    if not isinstance(name, str) or _NAMESPACE.fullmatch(name) is None:
        problem = "must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter or digit"
        raise InvalidInputError("namespace", problem)
    return plain_text(name, "namespace")


def ttl_seconds(hours: object, field: str = "ttl_hours") -> float | None:
    """Return hours as seconds, to the millisecond; ``None`` stays ``None``."""
    if hours is None:
        return None
    if isinstance(hours, bool) or not isinstance(hours, int | float):
        raise InvalidInputError(field, "must be a number of hours, or None for never")
    seconds = round(hours * 3600.0, 3) if 0 < hours <= LONGEST_SECONDS / 3600 else 0.0
    if seconds == 0:
        raise InvalidInputError(
            field, "must be more than 0 and at most a century; None means never"
        )
    return seconds


def lease(seconds: object) -> float:
    """Return the length of a turn's lease: more than 0, at most 300 seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidInputError("lease_seconds", "must be a number of seconds")
    if not 0 < seconds <= LONGEST_LEASE_SECONDS:
        raise InvalidInputError("lease_seconds", "must be more than 0 and at most 300 seconds")
    return float(seconds)


def whole_number(value: object, field: str, least: int, most: int = LARGEST_NUMBER) -> int:
    """Return an integer within bounds that every store can keep."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(field, f"must be an integer, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidInputError(field, f"must be from {least} to {most}")
    return int(value)


def optional_number(value: object, field: str, least: int) -> int | None:
    """Return an integer within its bounds, or ``None``."""
    return None if value is None else whole_number(value, field, least)


def expected_state(revision: object, version: object) -> Expected:
    """Return what ``expected_revision`` and ``expected_version`` expect together."""
    number = optional_number(revision, "expected_revision", 1)
    if version is None:
        return Expected(number)
    expected = read_version(version) if isinstance(version, str) else None
    if expected is None:
        raise InvalidInputError("expected_version", "must be a session.version, unchanged")
    if number not in {None, expected.revision}:
        problem = f"is of revision {expected.revision}, but expected_revision is {number}; give one"
        raise InvalidInputError("expected_version", problem)
    return expected


def flag(value: object, field: str) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        raise InvalidInputError(field, f"must be True or False, not {type(value).__name__}")
    return value


def choice(value: object, kind: type[E], field: str, allowed: Iterable[E] | None = None) -> E:
    """Return a member of an enum, given as one or as its text."""
    if allowed is None and isinstance(value, kind):
        return value
    members = list(kind if allowed is None else allowed)
    for member in members:
        if value == member:
            return member
    raise InvalidInputError(field, f"must be one of {', '.join(members)}")


def future(value: object, field: str, at: datetime) -> datetime | None:
    """Return an aware instant after ``at``, cut to the millisecond, or ``None``."""
    instant = moment(value, field)
    if instant is not None and instant <= at:
        raise InvalidInputError(field, "must be in the future")
    return instant


def moment(value: object, field: str) -> datetime | None:
    """Return an aware instant, cut to the millisecond, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInputError(field, "must be a datetime with a time zone, or None")
    try:
        return whole_millis(value)
    except OverflowError as error:
        raise InvalidInputError(field, "is out of range") from error


def plain_text(value: object, field: str) -> str:
    """Return text of a subclass, such as a member of an enum or a string of numpy, as ``str``."""
    if not isinstance(value, str):
        raise InvalidInputError(field, f"must be text, not {type(value).__name__}")
    return str.__str__(value)


class Inputs:
    """The checks that depend on limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._name_bytes = limits.name_bytes

    def name(self, value: object, field: str) -> str:
        """Return text of 1 to 255 bytes in UTF-8, with no control characters or lone surrogates."""
        most = self._name_bytes
        if type(value) is not str:
            value = plain_text(value, field)
        if value.isascii():
            size, clean = len(value), value.isprintable()
            if clean and 0 < size <= most:
                return value
        else:
            try:
                size = len(value.encode())
            except UnicodeEncodeError as error:
                raise InvalidInputError(field, "must not hold a lone surrogate") from error
            clean = not any(unicodedata.category(character) == "Cc" for character in value)
        if not 1 <= size <= most:
            raise InvalidInputError(field, f"is {size} bytes, must be from 1 to {most}")
        if not clean:
            raise InvalidInputError(field, "must not hold control characters")
        return value

    def new_identifier(self, value: object, field: str) -> str:
        """Return a name that is safe in a path: no slash or backslash, not ``.`` or ``..``."""
        name = self.name(value, field)
        if "/" in name or "\\" in name or name in {".", ".."}:
            raise InvalidInputError(field, "must not hold / or \\, nor be . or ..")
        return name

    def session_id(self, value: object) -> str:
        """Return the id of a session; one that breaks a limit raises ``SessionNotFoundError``."""
        try:
            return self.new_identifier(value, "session_id")
        except InvalidInputError as error:
            raise SessionNotFoundError from error

    def user_id(self, value: object, field: str = "user_id") -> str:
        """Return a user id: a name that does not begin with ``group:``."""
        name = self.name(value, field)
        if name.startswith(GROUP_PREFIX):
            raise InvalidInputError(field, f"must not begin with {GROUP_PREFIX}")
        return name

    def turn(self, token: object) -> str | None:
        """Return the token of a turn, or ``None``."""
        return None if token is None else self.name(token, "turn")

    def subject(self, value: object, field: str) -> str:
        """Return a user id or ``group:<name>``."""
        name = self.name(value, field)
        if name == GROUP_PREFIX:
            raise InvalidInputError(field, f"must be a user id or {GROUP_PREFIX}<name>")
        return name

    def groups(self, names: Sequence[str], field: str) -> tuple[str, ...]:
        """Return the bare names of a caller's groups."""
        self.group_count(len(names), field)
        return tuple(self.name(name, field) for name in names)

    def group_count(self, count: int, field: str) -> None:
        """Reject more groups than a caller may be in."""
        if count > self._limits.groups:
            raise InvalidInputError(
                field,
                f"{count} groups, at most {self._limits.groups} (SESSION_MAX_GROUPS)",
            )

    def tags(self, value: object, field: str = "tags") -> tuple[str, ...]:
        """Return tags without duplicates, in their order."""
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise InvalidInputError(field, f"must be a list of text, not {type(value).__name__}")
        tags = tuple(dict.fromkeys(self.name(tag, field) for tag in value))
        if len(tags) > self._limits.tags:
            raise InvalidInputError(
                field, f"has {len(tags)} tags, at most {self._limits.tags} allowed"
            )
        return tags

    def title(self, value: object, field: str = "title") -> str | None:
        """Return a title: any text."""
        title = None if value is None else plain_text(value, field)
        self._json(title, field, self._limits.metadata_bytes)
        return title

    def metadata(self, value: object, field: str) -> dict[str, Any]:
        """Return a copy of metadata: title, tags and any other keys."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InvalidInputError(field, f"must be a mapping, not {type(value).__name__}")
        given = dict(value)
        for key in given:
            if key in SYSTEM_KEYS:
                raise InvalidInputError(f"{field}/{key}", "is set by the system; use another key")
        known: dict[str, Any] = {}
        if "title" in given:
            known["title"] = self.title(given.pop("title"), f"{field}/title")
        if "tags" in given:
            known["tags"] = self.tags(given.pop("tags"), f"{field}/tags")
        copied = decode_json(self._json(given, field, self._limits.metadata_bytes))
        return {**copied, **known}

    def wanted_metadata(self, value: object) -> dict[str, bytes]:
        """Return the metadata that listed sessions must have, see ``Query.attributes``."""
        wanted = self.metadata(value, "metadata")
        for key in ("title", "tags"):
            if key in wanted:
                raise InvalidInputError(f"metadata/{key}", "is not a metadata key of your own")
        return {key: sorted_json(value) for key, value in wanted.items()}

    def context(self, updates: object, field: str = "context_updates") -> dict[str, bytes]:
        """Return context entries, encoded."""
        if updates is None:
            return {}
        if not isinstance(updates, Mapping):
            raise InvalidInputError(field, f"must be a mapping, not {type(updates).__name__}")
        if len(updates) > self._limits.context_keys:
            raise InvalidInputError(
                field, f"has {len(updates)} keys, at most {self._limits.context_keys} allowed"
            )
        return {
            self.name(key, field): encode_value(
                self._json(value, f"{field}/{key}", self._limits.context_bytes)
            )
            for key, value in updates.items()
        }

    def context_removals(self, keys: object, updates: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return the context keys to remove; none of them may also be set."""
        field = "context_removals"
        if keys == ():
            return ()
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise InvalidInputError(field, f"must be a list of text, not {type(keys).__name__}")
        removals = tuple(dict.fromkeys(self.name(key, field) for key in keys))
        if len(removals) + len(updates) > self._limits.context_keys:
            raise InvalidInputError(
                field, f"sets and removes more than {self._limits.context_keys} keys"
            )
        if not updates.keys().isdisjoint(removals):
            raise InvalidInputError(field, "names a key that is also set")
        return removals

    def _json(self, value: object, field: str, at_most: int) -> bytes:
        return to_json(value, field, depth=self._limits.json_depth, at_most=at_most)
