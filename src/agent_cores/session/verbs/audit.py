"""The audit log: one line for each call of an operator, and for what the service adds."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Verb = Callable[..., Coroutine[Any, Any, Any]]

logger: logging.Logger = logging.getLogger("agent_cores.session.audit")
"""Level INFO. Records have the fields ``FIELDS``; those that do not apply are ``None``."""
_log = logging.getLogger(__name__)
_LINE = "%s in %s: %s%s, session %s: %s"

FIELDS = (
    "operator",
    "user",
    "key",
    "address",
    "namespace",
    "verb",
    "session_id",
    "erased_user",
    "outcome",
    "request_id",
)
"""``key`` is the id of the API key or the issuer of the token, ``address`` the caller's;
on the command line, ``key`` is the user of the machine, after ``os-user:``."""

INCOMPLETE = "incomplete"
"""The outcome of what succeeded in part and is to be called again."""

ERASE = "erase_user"
_run_by: ContextVar[str | None] = ContextVar("run_by", default=None)
T = TypeVar("T")
_NO_CALLS = frozenset({"initialize", "shutdown"})


def record(
    operator: str | None,
    namespace: str | None,
    verb: str,
    session_id: object,
    failure: BaseException | None,
    *,
    key: str | None = None,
    user: str | None = None,
    address: str | None = None,
    request_id: str | None = None,
    erased_user: str | None = None,
    is_complete: bool = True,
    code: str | None = None,
) -> None:
    """Write the line of one call; ``failure`` is what it raised.

    ``erased_user`` is whom it erases, ``code`` that of a failure in another process. What callers
    choose is quoted, so that it cannot pass for another part of the line. A handler that raises
    changes nothing about the call: that is logged.
    """
    outcome = INCOMPLETE if failure is None and not is_complete else code or outcome_of(failure)
    about = None if session_id is None else str(session_id)
    who = f"operator {operator!a}" if operator is not None else f"user {user!a}"
    line = _LINE % (
        who if key is None else f"{who} (key {key})",
        namespace or "-",
        verb,
        "" if erased_user is None else f" {erased_user!a}",
        "-" if about is None else ascii(about),
        outcome,
    )
    fields = {
        "operator": operator,
        "user": user,
        "key": key,
        "address": address,
        "namespace": namespace,
        "verb": verb,
        "session_id": about,
        "erased_user": erased_user,
        "outcome": outcome,
        "request_id": request_id,
    }
    try:
        logger.info("%s", line, extra=fields)
    except Exception as error:  # noqa: BLE001 - whatever a handler of the program's own raises
        with suppress(Exception):
            problem = "a handler of the audit log failed (%s) with this line, request %s: %s"
            _log.error(problem, type(error).__name__, request_id or "-", line)


def outcome_of(failure: BaseException | None) -> str:
    """Return ``done``, the code of the refusal, or ``cancelled``."""
    if failure is None:
        return "done"
    if isinstance(failure, asyncio.CancelledError | KeyboardInterrupt):
        return "cancelled"
    return failure.code if isinstance(failure, SessionError) else "internal"


@contextmanager
def run_by(key: str) -> Iterator[None]:
    """Have the lines of operators' calls in the block name who runs them, as ``key``."""
    before = _run_by.set(key)
    try:
        yield
    finally:
        _run_by.reset(before)


def audited(kind: type[T]) -> type[T]:
    """Make every public verb of a class of operators write its line to the audit log."""
    for name in dir(kind):
        verb = inspect.getattr_static(kind, name)
        if not name.startswith("_") and name not in _NO_CALLS and inspect.iscoroutinefunction(verb):
            setattr(kind, name, _audited(name, verb))
    return kind


def _audited(name: str, verb: Verb) -> Verb:
    signature = inspect.signature(verb)

    @wraps(verb)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the verb's own
        session_id, failure = None, None
        more: dict[str, Any] = {}
        try:
            given = signature.bind(self, *args, **kwargs).arguments
            session_id = given.get("session_id")
            if name == ERASE:
                more["erased_user"] = given.get("user_id")
            result = await verb(self, *args, **kwargs)
            if name == "create_session":
                session_id = result
            if name == ERASE:
                more["is_complete"] = result.complete
        except BaseException as error:
            failure = error
            raise
        finally:
            namespace, key = self._scope.namespace, _run_by.get()
            record(self.operator, namespace, name, session_id, failure, key=key, **more)
        return result

    return call
