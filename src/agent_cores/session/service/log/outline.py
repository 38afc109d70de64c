"""What a log records of an error: its type and where it was raised, never its message.

The message of an error may contain message text or name a session. Only the messages of
configuration errors contain neither.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_CAUSES = 10


def kinds(error: BaseException) -> str:
    """Return the types of an error and of its causes, on one line."""
    return " from ".join(map(_kind, _chain(error)))


def outline(error: BaseException) -> str:
    """Return the types of an error and of its causes, each with its frames."""
    lines: list[str] = []
    for one in _chain(error):
        lines.append(_kind(one))
        lines += [
            f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(one.__traceback__)
        ]
    return "\n".join(lines)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if one is None:
            return
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _kind(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return f"{name} ({error})" if isinstance(error, ConfigurationError) else name
