"""The file that ``export`` writes, or standard output; what cannot be written is named."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from agent_cores.session.cli.output import OutputError
from agent_cores.session.errors import (
    ConfigurationError,
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
)
from agent_cores.session.files import claimed, local_path, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNFINISHED = ".unfinished"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def written(output: str | None) -> Iterator[BinaryIO]:
    """Open the file to write, under a name of its own until it is whole; never one that exists."""
    if output is None:
        yield sys.stdout.buffer
        with failures_named(output):
            sys.stdout.buffer.flush()
        return
    path = local_path(output, "the output")
    if path.exists():
        raise ConfigurationError(f"{output} exists; name a new file")
    with failures_named(output), claimed(path, _UNFINISHED) as file:
        file.truncate(0)  # of what a killed one left
        yield file
        file.flush()
        os.fsync(file.fileno())
        publish(path.with_name(path.name + _UNFINISHED), path)


@contextmanager
def failures_named(output: str | None) -> Iterator[None]:
    """Raise a ``SessionError`` if the block cannot write the output, unless its reader is gone."""
    try:
        yield
    except (SessionError, BrokenPipeError):  # a refused caller, say, which is an OSError too
        raise
    except OSError as error:
        problem = error.strerror or error
        if output is None:
            raise OutputError(f"the output cannot be written: {problem}") from error
        if error.errno in _FULL:
            raise QuotaExceededError(f"{output} cannot be written: {problem}") from error
        raise StorageUnavailableError(f"{output} cannot be written: {problem}") from error
