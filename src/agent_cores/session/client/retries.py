"""What a client knows of a session before an append, so that a retry restores nothing removed."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from agent_cores.session.models.version import NO_SESSION, read_version

MOST_KNOWN = 10_000


class RetryState(msgspec.Struct):
    """The retries of one request: whether a response was lost, and the headers to add from then on.

    The service recognises stored messages before it compares ``If-Match``. Messages that it does
    not recognise were never stored or have been removed since, which raises the revision.
    """

    headers: dict[str, str] = {}
    lost: bool = False


class KnownVersions:
    """The last known versions of sessions; bounded."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def note(self, session_id: str, etag: str | None) -> None:
        """Record the ETag of a response about a session."""
        version = (etag or "").strip('"')
        if read_version(version) is None:
            return
        self._known[session_id] = version
        self._known.move_to_end(session_id)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def retry_state(self, session_id: object) -> RetryState:
        """Return the retry state of an append: retry only while the session is as last known."""
        version = NO_SESSION  # an append that expects it succeeds only if it was already applied
        if isinstance(session_id, str):
            version = self._known.get(session_id, NO_SESSION)
        return RetryState({"If-Match": f'"{version}"'})
