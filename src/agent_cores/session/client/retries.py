"""What a client knows of a session before it appends, so that a retry restores nothing removed."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from agent_cores.session.models.version import read_version

MOST_KNOWN = 10_000
NO_SESSION = "0.1.0"
"""The version of no session: an append that expects it is answered if it is known, else refused."""


class RetryState(msgspec.Struct):
    """A request that may be sent again: whether an answer was lost, and the headers from then on.

    Known messages are answered before ``If-Match`` is compared. Unknown ones were not stored, or
    have been removed since, which raises the revision.
    """

    headers: dict[str, str] = {}
    lost: bool = False


class KnownVersions:
    """The versions of sessions, as the service last told them; bounded."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def note(self, session_id: str, etag: str | None) -> None:
        """Take in the ETag of an answer about a session."""
        version = (etag or "").strip('"')
        if read_version(version) is None:
            return
        self._known[session_id] = version
        self._known.move_to_end(session_id)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def retry_state(self, session_id: object) -> RetryState:
        """Return how an append is repeated: only while the session is as it was last known."""
        version = NO_SESSION
        if isinstance(session_id, str):
            version = self._known.get(session_id, NO_SESSION)
        return RetryState({"If-Match": f'"{version}"'})
