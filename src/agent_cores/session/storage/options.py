"""``StoreOptions``: the options of a store, in a URL or as keywords, declared and checked once.

A store declares one field per option, with its type, its bound and its default::

    class ParcelOptions(StoreOptions, frozen=True, kw_only=True):
        store = "Parcel"  # in error messages

        pool_size: AtLeastOne = 10
        timeout: Seconds = 10.0

The constructor checks what it was given, and ``from_url`` reads the query string::

    options = ParcelOptions.check(pool_size=pool_size, timeout=timeout)
    own = ParcelOptions.from_query(urlsplit(url).query)

A wrong option raises ``ConfigurationError``. The message names the option and its bound; for an
unknown name it suggests the most similar known one. It never repeats a value: in a URL whose
password contains a ``?``, a value may be the end of the password.
"""

from __future__ import annotations

import difflib
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Seconds = Annotated[
    float, Meta(gt=0, lt=sys.maxsize, description="a number of seconds greater than 0")
]
AtLeastOne = Annotated[int, Meta(ge=1, description="a whole number of at least 1")]
AtLeastTwo = Annotated[int, Meta(ge=2, description="a whole number of at least 2")]
SchemaMode = Annotated[Literal["apply", "check"], Meta(description="apply or check")]
"""``apply``: ``initialize`` makes and upgrades the tables. ``check``: it refuses to."""
TablePrefix = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9_]{0,40}\Z",
        description="at most 40 letters, digits and underscores",
    ),
]

_OPTION_NAME = re.compile(r"[A-Za-z_]+")


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one store. The module's docstring shows how to declare and use them."""

    store: ClassVar[str] = "the store"
    """How error messages call the store."""

    @classmethod
    def check(cls, **given: Any) -> Self:  # noqa: ANN401 - this is where the values are checked
        """Return the options given as keywords, defaults filled in; values keep their types."""
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in cls.__struct_fields__:
                raise ConfigurationError(cls.unknown(name))
            values[name] = _convert(cls, name, value, strict=True)
        return cls(**values)

    @classmethod
    def read(cls, name: str, text: str) -> Any:  # noqa: ANN401 - of the option's own type
        """Return the value of one option as a URL writes it."""
        return _convert(cls, name, text, strict=False)

    @classmethod
    def from_query(cls, query: str) -> dict[str, Any]:
        """Return the options that a URL's query string sets, by name.

        The last value of a repeated name holds. For a URL without options of a driver: every name
        must be one of ours.
        """
        own, others = cls.split_query(query)
        for name, _ in others:
            raise ConfigurationError(cls.unknown(name, query))
        return own

    @classmethod
    def split_query(
        cls, query: str, *, aliases: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Return our options by name, and the pairs of a query string that are not ours.

        ``aliases`` are other names of our options, for URLs written for another library.
        """
        own: dict[str, Any] = {}
        others: list[tuple[str, str]] = []
        for name, text in parse_qsl(query, keep_blank_values=True):
            own_name = (aliases or {}).get(name, name)
            if own_name in cls.__struct_fields__:
                own[own_name] = cls.read(own_name, text)
            else:
                others.append((name, text))
        return own, others

    @classmethod
    def unknown(cls, name: str, query: str = "", *, known: Iterable[str] = ()) -> str:
        """Return the error message for an unknown option.

        ``known`` are names that the driver accepts besides ours. The name is left out where it may
        be the end of a password that ``query`` was cut from.
        """
        if "@" in query or _OPTION_NAME.fullmatch(name) is None:
            return (
                f"{cls.store}: the storage URL has an unknown option; "
                "a ? in a password is written %3F"
            )
        advice = nearest(name, {*cls.__struct_fields__, *known})
        return f"{cls.store} has no option {name!r}{advice}"


def nearest(name: str, known: Collection[str]) -> str:
    """Return the end of an error message: the known name most like this one, or nothing."""
    found = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def _convert(options: type[StoreOptions], name: str, value: object, *, strict: bool) -> Any:  # noqa: ANN401 - of the option's own type
    kind = _types(options)[name]
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{options.store}: {name} must be {_bound(kind)}") from None


@cache
def _types(options: type[StoreOptions]) -> dict[str, Any]:
    return get_type_hints(options, include_extras=True)


def _bound(kind: Any) -> str:  # noqa: ANN401 - a type, which has no type of its own
    """Return the bound of an option in words: the description of its type."""
    for part in (kind, *get_args(kind)):
        for mark in getattr(part, "__metadata__", ()):
            if isinstance(mark, Meta) and mark.description:
                return mark.description
    return getattr(kind, "__name__", str(kind))
