"""``Driver``: the base of the state machine: two stores, three sessions, one clock."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis.stateful import RuleBasedStateMachine

from agent_cores.session.errors import SessionError
from agent_cores.session.models import Applied, Change, SessionMetadata
from agent_cores.session.testing.beside import Beside
from agent_cores.session.testing.provider.strategies import LIMITS
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.clock import ManualClock

_NAMESPACES = count(1)


class Driver(RuleBasedStateMachine):
    """Three sessions in a separate namespace, in the provider and in the oracle.

    With ``fast_path`` appends carry a header as their basis, the stored one or an older one;
    without it they carry none, so that no provider may take its fast path.
    """

    def __init__(
        self,
        provider: StorageProvider,
        clock: ManualClock,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        *,
        fast_path: bool,
    ) -> None:
        super().__init__()
        self.namespace: str = f"machine-{next(_NAMESPACES)}"
        self.beside: Beside = Beside(provider)
        self.clock = clock
        self.run = run
        self.fast_path = fast_path
        self.incarnations: count[int] = count(1)
        self.seen: dict[str, list[SessionMetadata]] = {"one": [], "two": [], "three": []}
        self.creates: dict[str, Change] = {}

    def teardown(self) -> None:
        """Clean up for the next example."""
        for kept in list(self.beside.oracle.sessions.values()):
            header = kept.header
            self.apply(
                change_of(
                    header,
                    self.clock(),
                    delete=True,
                    expected_hold=header.hold,
                    must_be_expired=header.is_expired(self.clock()),
                )
            )

    def apply(self, change: Change) -> Applied | None:
        """Apply a change to both; ``None`` if both refuse it."""
        try:
            applied = self.run(self.beside.apply(change))
        except SessionError:
            return None
        assert isinstance(applied, Applied)
        self.seen[change.session_id].append(applied.header)
        return applied

    def stored(self, session_id: str) -> SessionMetadata:
        """Return the stored header, or that of a session that was never created."""
        header = self.beside.oracle.header(self.namespace, session_id)
        if header is None:
            header = new_header(session_id, at=self.clock(), namespace=self.namespace)
        return header

    def write(self, session_id: str, guards: dict[str, str], **effects: Any) -> None:  # noqa: ANN401
        """Apply a change with guards that do or do not hold."""
        header = self.stored(session_id)
        right = {
            "incarnation": header.incarnation,
            "access_revision": header.access_revision or 1,
            "expected_revision": header.revision,
            "expected_last_seq": header.last_seq,
            "turn": "t1" if header.turn is None else header.turn.token,
        }
        wrong = {name: "t9" if name == "turn" else 0 for name in right}
        chosen = {
            name: (right if kind == "right" else wrong)[name] for name, kind in guards.items()
        }
        self.apply(
            Change(
                namespace=self.namespace,
                session_id=session_id,
                at=self.clock(),
                limits=LIMITS,
                **(chosen | effects),
            )
        )

    def stored_message(self, session_id: str, place: int) -> tuple[int, str]:
        """Return seq and id of a stored message, or of one that is not there."""
        kept = self.beside.oracle.sessions.get((self.namespace, session_id))
        messages = [] if kept is None else kept.messages
        if -len(messages) <= place < len(messages):
            return messages[place].seq, messages[place].id
        return 1, "a"

    def free_ids(self) -> list[str]:
        """Return the ids under which a session can be created."""
        headers = {name: self.beside.oracle.header(self.namespace, name) for name in self.seen}
        return [
            name
            for name, header in headers.items()
            if header is None or header.is_expired(self.clock())
        ]

    def create_session(
        self,
        session_id: str,
        owner_id: str,
        ttl: float | None,
        lifetime: float | None,
        *,
        context: Mapping[str, Any] | None = None,
        messages: Sequence[tuple[str, object]] = (),
        **fields: Any,  # noqa: ANN401
    ) -> None:
        """Create a session, and remember the change, so that it can be repeated."""
        header = new_header(
            session_id,
            at=self.clock(),
            namespace=self.namespace,
            incarnation=next(self.incarnations),
            owner_id=owner_id,
            ttl_seconds=ttl,
            max_lifetime_seconds=lifetime,
            **fields,
        )
        append = tuple(new_message(name, text, at=self.clock()) for name, text in messages)
        entries = new_context(**(context or {}))
        change = creation(header, append=append, context_set=entries, limits=LIMITS)
        if self.apply(change) is not None:
            self.creates[session_id] = change

    def basis(self, session_id: str, kind: str) -> SessionMetadata | None:
        """Return the header that an append is decided on, ``None`` without the fast path."""
        if not self.fast_path:
            return None
        older = self.seen[session_id]
        if kind == "older" and older:
            return older[-min(3, len(older))]
        stored = self.beside.oracle.header(self.namespace, session_id)
        if kind == "bare" and stored is not None:  # the part that the manager caches
            return msgspec.structs.replace(stored, title=None, tags=(), attributes={})
        return stored
