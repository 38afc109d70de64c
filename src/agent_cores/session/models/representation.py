"""``hides``: structs whose representation leaves out what no log may hold.

Message text, context, metadata and secrets would reach a log by a line that prints a whole object,
by a traceback with local variables, or by a failed assertion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import msgspec

S = TypeVar("S", bound="msgspec.Struct")


class _Hidden:
    """A placeholder for a value."""

    def __repr__(self) -> str:
        return "…"


_HIDDEN = _Hidden()


def in_full(struct: msgspec.Struct) -> str:
    """Return the representation with every value shown."""
    fields = struct.__struct_fields__
    return _text(struct, [(name, getattr(struct, name)) for name in fields])


def _text(struct: msgspec.Struct, values: Iterable[tuple[str, Any]]) -> str:
    parts = ", ".join(f"{name}={value!r}" for name, value in values)
    return f"{type(struct).__name__}({parts})"


def hides(*fields: str) -> Callable[[type[S]], type[S]]:
    """Leave the values of some fields out of ``repr()``; it still shows whether there is one.

    The same holds for rich, which has a protocol of its own.
    """

    def decorate(kind: type[S]) -> type[S]:
        unknown = set(fields).difference(kind.__struct_fields__)
        if unknown:
            raise TypeError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
        hidden = frozenset(fields)

        def shown(struct: S) -> Iterator[tuple[str, Any]]:
            for name in struct.__struct_fields__:
                value = getattr(struct, name)
                yield name, _HIDDEN if name in hidden and value else value

        def representation(struct: S) -> str:
            return _text(struct, shown(struct))

        representation.hidden = hidden  # type: ignore[attr-defined]
        kind.__repr__ = representation  # type: ignore[method-assign,assignment]
        kind.__rich_repr__ = shown  # type: ignore[method-assign,assignment]
        return kind

    return decorate
