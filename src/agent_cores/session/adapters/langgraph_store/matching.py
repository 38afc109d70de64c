"""What LangGraph's filters and conditions match, as its ``InMemoryStore`` decides it.

One thing differs: an order that a value has not (a missing field, an object, text beside a number)
is no match, where ``InMemoryStore`` raises ``TypeError`` or ``ValueError``. Texts that are no
numbers are compared as texts, such as dates in ISO format.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langgraph.store.base import MatchCondition

_WILDCARD = "*"
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def matches_filter(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Return whether all fields of an item are as wanted; ``ValueError`` for other operators."""
    return all(_is(value.get(key), each) for key, each in (wanted or {}).items())


def matches_condition(namespace: Sequence[str], condition: MatchCondition) -> bool:
    """Return whether a namespace begins, or ends, with the path of a condition."""
    path = condition.path
    if condition.match_type not in {"prefix", "suffix"}:
        problem = f"Unsupported match type: {condition.match_type}"
        raise ValueError(problem)
    if len(namespace) < len(path):
        return False
    first = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    part = namespace[first : first + len(path)]
    return all(wanted in (_WILDCARD, label) for label, wanted in zip(part, path, strict=True))


def fixed_prefix(conditions: Sequence[MatchCondition]) -> tuple[str, ...]:
    """Return the longest prefix that the conditions ask for, up to a wildcard."""
    prefixes = [tuple(each.path) for each in conditions if each.match_type == "prefix"]
    fixed = [path[: path.index(_WILDCARD)] if _WILDCARD in path else path for path in prefixes]
    return max(fixed, key=len, default=())


def _is(value: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        if any(key.startswith("$") for key in wanted):
            return all(_applies(value, name, operand) for name, operand in wanted.items())
        return isinstance(value, dict) and all(
            _is(value.get(key), each) for key, each in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(_is(each, other) for each, other in zip(value, wanted, strict=True))
        )
    return value == wanted


def _applies(value: object, name: str, operand: object) -> bool:
    if name == "$eq":
        return value == operand
    if name == "$ne":
        return value != operand
    if name not in _ORDERS:
        problem = f"Unsupported operator: {name}"
        raise ValueError(problem)
    numbers = _number(value), _number(operand)
    if None not in numbers:
        return _ORDERS[name](*numbers)
    if isinstance(value, str) and isinstance(operand, str):
        return _ORDERS[name](value, operand)
    return False


def _number(value: object) -> float | None:
    if not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
