"""Errors that every database server can cause, in the words that all dialects use for them.

A dialect only says what the errors of its driver mean, as ``DriverErrors``.
"""

from __future__ import annotations

import re
import socket
import ssl
from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from agent_cores.session.errors import (
    ConfigurationError,
    InvalidInputError,
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.storage.sql.errors import (
    ClashError,
    ConnectionLostError,
    DeadlockError,
    LockedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_REASON = 200
_REFUSED = "Connect call failed"  # asyncio's, where a host has several addresses


class Server(NamedTuple):
    """What the errors call a kind of server, and the options of its URL that they name."""

    name: str
    docs: str
    ca_option: str
    tls_options: str
    names_option: str = "SESSION_TABLE_PREFIX"


class Failure(Enum):
    """What the error of a statement means."""

    DEADLOCK = auto()
    CLASH = auto()
    LOCKED = auto()
    """A lock was not granted in time."""
    FULL = auto()
    """Its disk, or what the user may use of it."""
    READ_ONLY = auto()
    BAD_VALUE = auto()
    NO_TABLE = auto()
    NOT_OURS = auto()
    """A table lacks a column of ours, or is there before we create it."""
    DENIED = auto()
    REFUSED = auto()
    """Any other error that the server answers."""
    NO_RESPONSE = auto()
    """The connection ended, so perhaps only the response was lost."""


_ERRORS: dict[
    Failure,
    tuple[type[ClashError | QuotaExceededError | StorageUnavailableError | StoreFormatError], str],
] = {
    Failure.FULL: (QuotaExceededError, "{name} is full ({error})"),
    Failure.DEADLOCK: (DeadlockError, "the server ended this transaction because of a deadlock"),
    Failure.CLASH: (ClashError, "a concurrent transaction was in the way ({error})"),
    Failure.LOCKED: (LockedError, "another transaction holds a lock that this one needs"),
    Failure.READ_ONLY: (
        StorageUnavailableError,
        "the {name} server is read-only: a replica or a standby",
    ),
    Failure.NO_TABLE: (
        StoreFormatError,
        "a table of the store is missing ({reason}); restore the store from a backup",
    ),
    Failure.NOT_OURS: (
        StoreFormatError,
        (
            "a table is not as this program makes it ({reason}); restore the store from a backup, "
            "or, if the table belongs to another program, name ours with {names_option}"
        ),
    ),
    Failure.DENIED: (
        StorageUnavailableError,
        "{name} denies this user access ({error}); {docs} says what to grant",
    ),
    Failure.REFUSED: (StorageUnavailableError, "{name} refuses the statement ({error})"),
}
_UNWRITABLE = frozenset({Failure.READ_ONLY, Failure.DENIED})


class DriverErrors(ABC):
    """What the errors of one driver mean.

    ``classes`` are those of every error of a statement, ``connecting`` those that only an attempt
    to connect can raise besides. ``rolls_back``: an error that the server responds with means that
    nothing was written, also if it is that of a commit.
    """

    server: ClassVar[Server]
    classes: ClassVar[tuple[type[Exception], ...]]
    connecting: ClassVar[tuple[type[Exception], ...]] = ()
    rolls_back: ClassVar[bool] = False

    @abstractmethod
    def failure(self, error: Exception) -> Failure:
        """Return what the error of a statement means."""

    @abstractmethod
    def name(self, error: Exception) -> str:
        """Return how messages call the server's error: a class or a number."""

    @abstractmethod
    def of_connection(self, error: Exception, *, seconds: float) -> SessionError:
        """Return our error for a failure to connect, which was waited for that many seconds."""

    def of_statement(self, error: Exception, *, may_be_done: bool) -> SessionError:
        """Return our error for that of a statement; ``may_be_done``: it may have been written."""
        failure = self.failure(error)
        if failure is Failure.NO_RESPONSE:
            return no_response(self.server, error, may_be_done=may_be_done)
        if failure is Failure.BAD_VALUE:
            detail = f"{self.server.name} refuses it ({self.name(error)})"
            return InvalidInputError("value", detail)
        kind, text = _ERRORS[failure]
        words = {"error": self.name(error), "reason": reason_of(error)}
        detail = text.format(**words, **self.server._asdict())
        if failure is Failure.REFUSED:
            unknown = may_be_done and not self.rolls_back
            return StorageUnavailableError(detail, outcome_unknown=unknown)
        if failure in _UNWRITABLE:
            return StorageUnavailableError(detail, why="unwritable")
        return kind(detail)


class CodedErrors(DriverErrors):
    """What the errors of a driver mean that gives the server's codes. ``hints``: what to do."""

    failures: ClassVar[Mapping[int, Failure]]
    hints: ClassVar[Mapping[int, str]]

    @abstractmethod
    def code(self, error: Exception) -> int:
        """Return the code of a server's error; 0 for any other error."""

    def failure(self, error: Exception) -> Failure:
        """Return what the error of a statement means."""
        return self.failures.get(self.code(error), Failure.REFUSED)

    def name(self, error: Exception) -> str:
        """Return the code of the error."""
        return f"{self.server.name} error {self.code(error)}"

    def of_connection(self, error: Exception, *, seconds: float) -> SessionError:
        """Return our error for a failure to connect."""
        code = self.code(error)
        if code:
            return refused_connection(self.server, reason_of(error), self.hints.get(code, ""))
        return no_connection(self.server, error, seconds=seconds)


def no_response(server: Server, error: Exception, *, may_be_done: bool) -> StorageUnavailableError:
    """Return the error of a server that did not answer; ``may_be_done``: it may have written."""
    detail = f"{server.name} did not answer ({type(error).__name__})"
    if isinstance(error, TimeoutError):
        return StorageUnavailableError(detail, outcome_unknown=may_be_done)
    return ConnectionLostError(detail, outcome_unknown=may_be_done)


def refused_connection(server: Server, reason: str, hint: str = "") -> StorageUnavailableError:
    """Return the error of a connection that the server refuses, with what to do about it."""
    refusal = f"{server.name} refuses the connection: {reason}"
    return StorageUnavailableError(f"{refusal}; {hint}" if hint else refusal)


def no_connection(server: Server, error: Exception, *, seconds: float) -> StorageUnavailableError:
    """Return the error of a connection that failed after at most so many seconds."""
    cause = error if isinstance(error, OSError) else error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StorageUnavailableError(
            f"the certificate of the {server.name} server cannot be verified: "
            f"{cause.verify_message}; name the file that vouches for it by {server.ca_option}, or "
            "the host as the certificate does"
        )
    if isinstance(cause, ssl.SSLError):
        return StorageUnavailableError(
            f"TLS with the {server.name} server failed ({cause.reason or type(cause).__name__}); "
            f"check {server.tls_options} of the storage URL, and whether the server offers TLS"
        )
    if isinstance(cause, TimeoutError):
        return StorageUnavailableError(
            f"{server.name} did not answer within {seconds:g} s: the server is silent, or all "
            "connections of the pool are taken"
        )
    if isinstance(cause, socket.gaierror):
        return StorageUnavailableError("the host of the storage URL is not known (gaierror)")
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError) or _REFUSED in str(cause):
        return ConnectionLostError(
            "nothing accepts connections at the host and port, or the socket, of the storage URL "
            f"({type(cause).__name__})"
        )
    return no_response(server, error, may_be_done=False)


def require_version(name: str, version: str, oldest: tuple[int, ...]) -> None:
    """Raise for a server that is too old; the first numbers in ``version`` are its version."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[: len(oldest)]))
    if numbers < oldest:
        required = ".".join(map(str, oldest))
        raise StorageUnavailableError(f"the server is {name} {version}; {required} is the oldest")


def unreadable_url(store: str) -> ConfigurationError:
    """Return the error of a URL that is none; its own text may repeat a part of the password."""
    return ConfigurationError(
        f"{store}: the storage URL cannot be read; in a user name or password write characters "
        "such as @ : / ? # in percent-encoding, as %40 for @"
    )


def reason_of(error: Exception) -> str:
    """Return the driver's text of an error: one line, at most 200 characters."""
    text = str(error.args[-1] if error.args else type(error).__name__)
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_REASON]
