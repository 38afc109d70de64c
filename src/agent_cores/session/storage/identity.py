"""``StoreIdentity``: whether a store is still the one that this process began with.

A store keeps a random number as its identity, made by the first check of its health. Copies of the
store have it too: a backup that was restored, a replica. An empty store, or one of another
installation, has none or another. Only checks read it; no request does.
"""

from __future__ import annotations

import secrets

from agent_cores.session.errors import StorageUnavailableError

Identity = bytes | int | None


class StoreIdentity:
    """The identity that the first check found; the later ones must find the same."""

    def __init__(self) -> None:
        self._known: Identity = None

    @property
    def is_known(self) -> bool:
        """Whether a check has found one since the store was opened."""
        return self._known is not None

    def forget(self) -> None:
        """Begin again, with the store that is opened now."""
        self._known = None

    def confirm(self, found: Identity) -> None:
        """Note what a check found; ``StorageUnavailableError`` if it is another one than before."""
        if self._known is None:
            self._known = found
        elif found != self._known:
            raise StorageUnavailableError(
                "another store, or an empty one, has taken the place of the one that this process"
                " began with; bring that one back, or restart this process to go on with the new",
                why="replaced",
            )


def new_identity() -> bytes:
    """Return an identity for a store that has none."""
    return secrets.token_hex(16).encode()
