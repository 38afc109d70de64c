"""The rules of the state machine that read: windows, named messages and listings."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from agent_cores.session.models import NamedMessages, Query, SessionStatus, Window
from agent_cores.session.testing.provider.driver import Driver
from agent_cores.session.testing.provider.strategies import NAMED, SESSIONS, SUBJECTS, TAGS, USERS


class Reads(Driver):
    """Read from the provider and the oracle, and compare: one rule for each kind of read."""

    @rule(session_id=SESSIONS, named=NAMED, max_bytes=st.sampled_from((1, 200, 10_000)))
    def read_named(self, session_id: str, named: NamedMessages, max_bytes: int) -> None:
        """Read messages by id or by seq."""
        window = Window.of(named, max_bytes=max_bytes)
        self.run(self.beside.compare_window(self.namespace, session_id, window))

    @rule(
        session_id=SESSIONS,
        limit=st.integers(1, 5),
        bound=st.integers(0, 15),
        side=st.sampled_from(("latest", "before_seq", "after_seq")),
        max_bytes=st.sampled_from((1, 200, 10_000)),
    )
    def read(self, session_id: str, limit: int, bound: int, side: str, max_bytes: int) -> None:
        """Read a window."""
        bounds: dict[str, Any] = {} if side == "latest" else {side: bound}
        window = Window(limit=limit, max_bytes=max_bytes, **bounds)
        self.run(self.beside.compare_window(self.namespace, session_id, window))

    @rule(
        owner_id=st.none() | USERS,
        subjects=st.just(()) | st.lists(SUBJECTS, unique=True, max_size=2).map(tuple),
        status=st.sampled_from((None, *SessionStatus)),
        tags=TAGS,
        limit=st.integers(1, 2),
    )
    def find(
        self,
        owner_id: str | None,
        subjects: tuple[str, ...],
        status: SessionStatus | None,
        tags: tuple[str, ...],
        limit: int,
    ) -> None:
        """Walk a listing."""
        query = Query(
            namespace=self.namespace,
            at=self.clock(),
            owner_id=None if subjects else owner_id,
            subjects=subjects,
            status=status,
            tags=tags,
            limit=limit,
        )
        self.run(self.beside.compare_listing(query))
