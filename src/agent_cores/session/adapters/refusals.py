"""Errors of ours as the errors that a framework expects."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def raised_as(errors: Mapping[type[SessionError], type[Exception]]) -> Iterator[None]:
    """Raise the framework's error, with our message, for each of ours; the first that fits."""
    try:
        yield
    except SessionError as error:
        for ours, theirs in errors.items():
            if isinstance(error, ours):
                raise theirs(str(error)) from error
        raise
