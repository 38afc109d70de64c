"""Errors between this process and a server: which are transient, and how they are translated."""

from __future__ import annotations

import asyncio

from agent_cores.session.errors import (
    QuotaExceededError,
    SessionError,
    StorageError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.storage.redis.driver import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)


class NotSentError(StorageError):
    """There was no connection, so nothing was sent. Never leaves ``wire.py``."""


class LostAnswerError(StorageError):
    """The response was lost. Never leaves ``wire.py``."""


REPLIES = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)
"""Errors that a server replies, though redis-py derives some from its ``ConnectionError``."""
FAILURES = (NotSentError, LostAnswerError, RedisClusterException, *REPLIES)
"""What one attempt to send a command may raise."""
BROKEN = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a broken connection raises."""
_TRANSIENT = (
    NotSentError,
    LostAnswerError,
    RedisClusterException,
    AskError,
    TryAgainError,
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
)
_TOO_FEW_REPLICAS = "NOREPLICAS "
_REFUSES_WRITES = (_TOO_FEW_REPLICAS, "MISCONF ")
_DENIED_IN_SCRIPT = "ACL failure in script"
_TRANSIENT_WORDS = ("BUSY ", _TOO_FEW_REPLICAS)  # redis-py has no classes for these


def is_transient(error: Exception) -> bool:
    """Whether a retry may help: a failover, a slot that moves, a server that is starting."""
    return isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_WORDS)


def translated(error: Exception) -> SessionError:
    """Return the error for callers. A command that a server refuses was not executed."""
    text = describe(error)
    if isinstance(error, OutOfMemoryError):
        return QuotaExceededError(f"Redis is full: {text}")
    if text.startswith("WRONGTYPE"):
        return StoreFormatError(f"a key holds another type of value: {text}")
    if isinstance(error, NoPermissionError) or text.startswith(_DENIED_IN_SCRIPT):
        detail = f"Redis denies this user a command: {text}"
        return StorageUnavailableError(detail, why="unwritable")
    if isinstance(error, ReadOnlyError) or text.startswith(_REFUSES_WRITES):
        return StorageUnavailableError(f"Redis refuses writes: {text}", why="unwritable")
    silent = isinstance(error, NotSentError | LostAnswerError)
    return StorageUnavailableError(f"Redis {'does not answer' if silent else 'refuses'}: {text}")


def describe(error: BaseException) -> str:
    """Return the text of an error, or its name if it has no text."""
    return str(error) or type(error).__name__
