"""How a removal of several writes reports that it stopped between two of them."""

from __future__ import annotations

from agent_cores.session.errors import (
    ConflictError,
    OverloadedError,
    SessionError,
    SessionNotFoundError,
    StorageUnavailableError,
)


def raise_half_way(error: BaseException, detail: str) -> None:
    """Raise ``error`` as that of a removal which stopped half way.

    It returns if the caller should raise ``error`` itself: the caller was cancelled, or the session
    is gone. ``detail`` says how far the removal came.
    """
    if not isinstance(error, SessionError) or isinstance(error, SessionNotFoundError):
        return
    if isinstance(error, StorageUnavailableError | OverloadedError):
        raise StorageUnavailableError(detail, outcome_unknown=True) from error
    raise ConflictError(detail) from error
