"""What may go wrong between us and a server: what may be over soon, and what callers are told."""

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
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)


class NotSentError(StorageError):
    """No connection: nothing was sent. Never leaves the wire."""


class LostAnswerError(StorageError):
    """Sent, and no answer came. Never leaves the wire."""


REPLIES = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)
"""Errors that a server answers, though redis-py derives some from its ``ConnectionError``."""
FAILURES = (NotSentError, LostAnswerError, RedisClusterException, *REPLIES)
"""All that one try to send a command may raise."""
BROKEN = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a connection raises that is, or goes, bad."""
_PASSING = (
    NotSentError,
    LostAnswerError,
    RedisClusterException,
    AskError,
    TryAgainError,
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
)
_PASSING_WORDS = ("BUSY ", "NOREPLICAS ")  # of which redis-py makes no class


def is_passing(error: Exception) -> bool:
    """Whether it may be over soon: a failover, a slot on its way, a server that just started."""
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)


def translated(error: Exception) -> SessionError:
    """Return the error that callers are told. What a server refuses, it has not carried out."""
    text = told(error)
    if isinstance(error, OutOfMemoryError):
        return QuotaExceededError(f"Redis is full: {text}")
    if text.startswith("WRONGTYPE"):
        return StoreFormatError(f"a key holds something else: {text}")
    known = isinstance(error, NotSentError | LostAnswerError)
    return StorageUnavailableError(f"Redis {'does not answer' if known else 'refuses'}: {text}")


def told(error: BaseException) -> str:
    """Return what an error says, or its name if it says nothing."""
    return str(error) or type(error).__name__
