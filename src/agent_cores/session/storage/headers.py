"""``HeaderReader``: reads stored headers where one that cannot be read must not stop the others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agent_cores.session.codec import decode_header
from agent_cores.session.errors import CorruptRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models import SessionMetadata

logger = logging.getLogger("agent_cores.session")

_REMEMBERED = 10_000
"""How many unreadable sessions are remembered, so that each is logged once."""


class HeaderReader:
    """Reads headers for listings and sweeps.

    What cannot be read, a header of a newer release included, is logged once with the id of its
    session, and left as it is.
    """

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def read(
        self, fields: Mapping[str, Any], namespace: str, session_id: str
    ) -> SessionMetadata | None:
        """Return the header, or ``None`` if it cannot be read."""
        try:
            return decode_header(fields, namespace, session_id)
        except CorruptRecordError as error:
            self._log(error)
            return None

    def _log(self, error: CorruptRecordError) -> None:
        name = error.namespace, error.session_id
        if name in self._logged:
            return
        if len(self._logged) >= _REMEMBERED:
            self._logged.clear()
        self._logged.add(name)
        logger.error("%s; listings and sweeps leave it out, and it is not removed", error)
