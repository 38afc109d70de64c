"""Headers for listings and sweeps, where one record that cannot be read must not stop the others.

Such a record may be damaged or of a newer release. It is left out, logged once with the id of its
session, and never removed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agent_cores.session.codec import decode_header
from agent_cores.session.errors import CorruptRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models import SessionMetadata

logger: logging.Logger = logging.getLogger("agent_cores.session")

_LEFT_OUT = "listings and sweeps leave it out, and it is not removed"
_REMEMBERED = 10_000
"""How many unreadable records are remembered, so that each is logged once."""


class UnreadableRecords:
    """Logs the records that cannot be read, each once, and what becomes of them."""

    def __init__(self, outcome: str = _LEFT_OUT) -> None:
        self._outcome = outcome
        self._logged: set[object] = set()

    def log(self, name: object, error: Exception) -> None:
        """Log an error that concerns the record of that name, unless it was logged before."""
        if name in self._logged:
            return
        if len(self._logged) >= _REMEMBERED:
            self._logged.clear()
        self._logged.add(name)
        logger.error("%s; %s", error, self._outcome)


class HeaderReader:
    """Decodes headers; an unreadable one is ``None`` and is logged."""

    def __init__(self) -> None:
        self._unreadable = UnreadableRecords()

    def read(
        self, fields: Mapping[str, Any], namespace: str, session_id: str
    ) -> SessionMetadata | None:
        """Return the header, or ``None`` if it cannot be read."""
        try:
            return decode_header(fields, namespace, session_id)
        except CorruptRecordError as error:
            self._unreadable.log((error.namespace, error.session_id), error)
            return None
