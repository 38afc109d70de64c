"""Call ``groups_of`` within the deadline, and check what it returns."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

from agent_cores.session.errors import (
    ConfigurationError,
    GroupsUnavailableError,
    InvalidInputError,
)

GroupsOf = Callable[[str], Iterable[str] | Awaitable[Iterable[str]]]


async def ask_for_groups(
    groups_of: GroupsOf, user_id: str, *, most: int, seconds: float
) -> tuple[str, ...]:
    """Return the names of a user's groups.

    Raises ``InvalidInputError`` for more than ``most`` groups, ``GroupsUnavailableError`` after
    ``seconds``, and ``ConfigurationError`` if the result is not names. Errors of ``groups_of``
    itself pass through. A synchronous ``groups_of`` that blocks cannot be interrupted.
    """
    groups = groups_of(user_id)
    if inspect.isawaitable(groups):
        groups = await _in_time(groups, seconds)
    names = _names(groups, most + 1)
    if len(names) > most:
        raise InvalidInputError(
            "groups_of", f"returned more than {most} groups (SESSION_MAX_GROUPS)"
        )
    return names


async def _in_time(groups: Awaitable[Iterable[str]], seconds: float) -> Iterable[str]:
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            return await groups
    except TimeoutError as error:
        if not bound.expired():
            raise  # an error of groups_of itself
        raise GroupsUnavailableError from error


def _names(groups: object, most: int) -> tuple[str, ...]:
    kind = type(groups).__name__
    if isinstance(groups, str | bytes) or not isinstance(groups, Iterable):
        detail = f"groups_of must return an iterable of names, such as a list of str, not {kind}"
        raise ConfigurationError(detail)
    names = tuple(islice(groups, most))
    for name in names:
        if not isinstance(name, str):
            wrong = type(name).__name__
            raise ConfigurationError(
                f"groups_of must return names as str; its {kind} holds {wrong}"
            )
    return names
