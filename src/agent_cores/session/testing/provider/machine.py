"""The state machine: random changes to a provider and the oracle, compared after each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)
from msgspec import UNSET

from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Grant,
    Hold,
    HoldEffect,
    MessageUpdate,
    NamedMessages,
    OldestMessages,
    RenewEffect,
    RenewOn,
    SeqRange,
    TurnEffect,
)
from agent_cores.session.models.values import encode_json
from agent_cores.session.testing.provider.machine_reads import Reads
from agent_cores.session.testing.provider.strategies import (
    BASES,
    CONTENT,
    CONTEXT,
    ENDING,
    GUARDS,
    HOLDS,
    KEYS,
    LASTING,
    MESSAGES,
    METADATA,
    NAMED,
    RENEW_ON,
    SECONDS,
    SELDOM,
    SESSIONS,
    SUBJECTS,
    TAGS,
    TOKENS,
    USERS,
)
from agent_cores.session.testing.samples import (
    new_context,
    new_message,
)


class ProviderMachine(Reads):
    """Everything that can be done with a session: one rule each."""

    @initialize(ttl=ENDING, lifetime=SECONDS, renew_on=RENEW_ON, context=CONTEXT)
    def begin(
        self, *, ttl: float, lifetime: float | None, renew_on: RenewOn, context: dict[str, Any]
    ) -> None:
        """Start with one session that expires, one that does not, and one that is being built."""
        message = [("a", "hello")]
        self.create_session("one", "ann", ttl, lifetime, renew_on=renew_on, context=context)
        self.create_session("two", "bob", None, None, messages=message, tags=("x",))
        self.create_session("three", "ann", ttl, None, hold=Hold.OPENING)

    @precondition(lambda self: self.free_ids())
    @rule(
        owner_id=USERS,
        ttl=SECONDS,
        lifetime=SECONDS,
        renew_on=RENEW_ON,
        opening=SELDOM,
        tags=TAGS,
        context=CONTEXT,
        messages=st.just([]) | MESSAGES,
    )
    def create(
        self,
        *,
        owner_id: str,
        ttl: float | None,
        lifetime: float | None,
        renew_on: RenewOn,
        opening: bool,
        tags: tuple[str, ...],
        context: dict[str, Any],
        messages: list[tuple[str, object]],
    ) -> None:
        """Create a session: under a free id or an expired one."""
        hold = Hold.OPENING if opening else None
        self.create_session(
            self.free_ids()[0],
            owner_id,
            ttl,
            lifetime,
            renew_on=renew_on,
            hold=hold,
            tags=tags,
            context=context,
            messages=messages,
        )

    @rule(session_id=SESSIONS, again=st.booleans(), sure=SELDOM)
    def create_taken(self, session_id: str, again: bool, sure: bool) -> None:
        """Repeat the latest create that was applied, or create under an id that is taken."""
        if not sure:
            return
        if not again:
            self.create_session(session_id, "bob", None, None)
        elif session_id in self.creates:
            self.apply(self.creates[session_id])

    @rule(session_id=SESSIONS, messages=MESSAGES, guards=GUARDS, basis=BASES)
    def append(
        self,
        session_id: str,
        messages: list[tuple[str, object]],
        guards: dict[str, str],
        basis: str,
    ) -> None:
        """Append: new ids, known ids, known ids with other content."""
        append = tuple(new_message(name, text, at=self.clock()) for name, text in messages)
        header = self.basis(session_id, basis)
        effects: dict[str, Any] = {"append": append, "basis": header}
        if header is not None and not guards:  # as the manager does
            effects["incarnation"] = header.incarnation
            effects["access_revision"] = header.access_revision
        self.write(session_id, guards, **effects)

    @rule(session_id=SESSIONS, messages=MESSAGES, seconds=st.sampled_from((0, 0.3, 1.2)))
    def append_plainly(
        self, session_id: str, messages: list[tuple[str, object]], seconds: float
    ) -> None:
        """Append as the manager usually does: on the stored header, a little later."""
        self.clock.advance(seconds)
        self.append(session_id, messages, {}, "stored")

    @rule(
        session_id=SESSIONS,
        messages=MESSAGES,
        guards=GUARDS,
        context=CONTEXT,
        dropped=st.sets(KEYS, max_size=2),
        metadata=METADATA,
        tags=st.none() | TAGS,
    )
    def append_with_updates(
        self,
        *,
        session_id: str,
        messages: list[tuple[str, object]],
        guards: dict[str, str],
        context: dict[str, Any],
        dropped: set[str],
        metadata: dict[str, Any],
        tags: tuple[str, ...] | None,
    ) -> None:
        """Append and change context and metadata in one write."""
        updates = metadata if tags is None else {**metadata, "tags": list(tags)}
        append = tuple(new_message(name, text, at=self.clock()) for name, text in messages)
        self.write(
            session_id,
            guards,
            append=append,
            metadata=updates,
            context_set=new_context(**context),
            context_drop=tuple(sorted(dropped - context.keys())),
        )

    @rule(
        session_id=SESSIONS,
        guards=GUARDS,
        metadata=METADATA,
        title=st.sampled_from((None, "t", "题")),
        tags=TAGS,
        context=CONTEXT,
    )
    def update(
        self,
        *,
        session_id: str,
        guards: dict[str, str],
        metadata: dict[str, Any],
        title: str | None,
        tags: tuple[str, ...],
        context: dict[str, Any],
    ) -> None:
        """Change metadata and context."""
        updates = {**metadata, "title": title, "tags": list(tags)}
        self.write(session_id, guards, metadata=updates, context_set=new_context(**context))

    @rule(
        session_id=SESSIONS,
        guards=GUARDS,
        owner_id=st.none() | USERS,
        public=st.none() | st.booleans(),
        archived=st.none() | st.booleans(),
        revoke=st.sets(SUBJECTS, max_size=1),
        granted=st.sets(SUBJECTS, max_size=2),
        lasting=LASTING,
    )
    def give_access(
        self,
        *,
        session_id: str,
        guards: dict[str, str],
        owner_id: str | None,
        public: bool | None,
        archived: bool | None,
        revoke: set[str],
        granted: set[str],
        lasting: int | None,
    ) -> None:
        """Change who may do what."""
        end = None if lasting is None else self.clock() + timedelta(seconds=lasting)
        grants = tuple(
            Grant(
                subject=subject,
                role=AccessRole.EDITOR,
                granted_by="ann",
                granted_at=self.clock(),
                expires_at=end,
            )
            for subject in sorted(granted)
        )
        effect = AccessEffect(
            owner_id=owner_id,
            public=public,
            archived=archived,
            revoke=tuple(sorted(revoke)),
            grant=grants,
        )
        self.write(session_id, guards, access=effect)

    @rule(session_id=SESSIONS, guards=GUARDS, token=TOKENS, do=st.sampled_from("tttrx"))
    def take_turn(self, session_id: str, guards: dict[str, str], token: str, do: str) -> None:
        """Take, renew or release the turn."""
        end = None if do == "x" else self.clock() + timedelta(seconds=5)
        effect = TurnEffect(token=token, lease_end=end, take=do == "t")
        self.write(session_id, guards, turn_effect=effect)

    @rule(session_id=SESSIONS, guards=GUARDS, ttl=SECONDS, given=st.booleans())
    def renew(
        self, session_id: str, guards: dict[str, str], ttl: float | None, given: bool
    ) -> None:
        """Renew, with another idle time or the same."""
        self.write(session_id, guards, renew=RenewEffect(ttl) if given else RenewEffect())

    @rule(session_id=SESSIONS, guards=GUARDS, first=st.integers(1, 12), length=st.integers(1, 9))
    def remove(self, session_id: str, guards: dict[str, str], first: int, length: int) -> None:
        """Remove messages."""
        self.write(session_id, guards, remove=SeqRange(first, first + length - 1))

    @rule(session_id=SESSIONS, guards=GUARDS, named=NAMED)
    def remove_named(self, session_id: str, guards: dict[str, str], named: NamedMessages) -> None:
        """Remove messages by id or by seq."""
        self.write(session_id, guards, remove=named)

    @rule(
        session_id=SESSIONS,
        guards=GUARDS,
        before_seq=st.none() | st.integers(0, 15),
        keep=st.sampled_from((0, 0, 1, 3, 6)),
    )
    def remove_oldest(
        self, session_id: str, guards: dict[str, str], before_seq: int | None, keep: int
    ) -> None:
        """Remove messages from the oldest one on."""
        self.write(session_id, guards, remove=OldestMessages(before_seq=before_seq, keep=keep))

    @rule(
        session_id=SESSIONS,
        guards=GUARDS,
        first=st.integers(1, 12),
        messages=MESSAGES,
        metadata=st.just({}) | METADATA,
    )
    def replace(
        self,
        *,
        session_id: str,
        guards: dict[str, str],
        first: int,
        messages: list[tuple[str, Any]],
        metadata: dict[str, Any],
    ) -> None:
        """Replace the tail, or append if there is none."""
        last = self.stored(session_id).last_seq
        drafts = tuple(new_message(i, content, at=self.clock()) for i, content in messages)
        remove = SeqRange(first, last) if last >= first else None
        self.write(session_id, guards, append=drafts, remove=remove, metadata=metadata)

    @rule(
        session_id=SESSIONS,
        guards=GUARDS,
        place=st.integers(-4, 3),
        moved=SELDOM,
        content=CONTENT,
        metadata=METADATA,
        dropped=st.sets(KEYS, max_size=2).map(tuple),
    )
    def update_message(
        self,
        *,
        session_id: str,
        guards: dict[str, str],
        place: int,
        moved: bool,
        content: object,
        metadata: dict[str, Any],
        dropped: tuple[str, ...],
    ) -> None:
        """Update a stored message, or one that is not there."""
        seq, message_id = self.stored_message(session_id, place)
        update = MessageUpdate(
            seq=seq + moved,
            id=message_id,
            content=None if content is UNSET else encode_json(content),
            metadata=encode_json(metadata),
            metadata_drop=dropped,
        )
        self.write(session_id, guards, update=update)

    @rule(session_id=SESSIONS, guards=GUARDS, sure=SELDOM)
    def delete(self, session_id: str, guards: dict[str, str], sure: bool) -> None:
        """Delete the session if it has expired, and otherwise now and then."""
        if sure or self.stored(session_id).is_expired(self.clock()):
            self.write(session_id, guards, delete=True)

    @rule(session_id=SESSIONS, hold=HOLDS, sure=SELDOM)
    def set_hold(self, session_id: str, hold: Hold | None, sure: bool) -> None:
        """Set or lift the hold; the change names the current one."""
        if hold is not None and not sure:
            return
        stands = self.stored(session_id).hold
        self.write(session_id, {}, expected_hold=stands, hold=HoldEffect(hold))

    @rule(messages=MESSAGES, gap=st.integers(1, 4), sure=SELDOM)
    def build(self, messages: list[tuple[str, object]], gap: int, sure: bool) -> None:
        """Append messages that already have a seq, as a fork does."""
        header = self.stored("three")
        if header.hold is not Hold.OPENING and not sure:
            return
        append = tuple(
            new_message(name, text, at=self.clock(), seq=header.last_seq + gap * number)
            for number, (name, text) in enumerate(messages, 1)
        )
        self.write("three", {}, expected_hold=header.hold, append=append)

    @rule(seconds=st.sampled_from((0.001, 0.4, 0.999, 1, 1.5, 2, 9, 30, 60)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from((0, 2, 10, 61)), remove=st.booleans())
    def sweep(self, seconds: float, remove: bool) -> None:
        """Lease what has expired after some time, and perhaps remove it."""
        self.clock.advance(seconds)
        for ended in self.run(self.beside.due(self.clock(), 10)):
            if remove:
                self.apply(ended.removal(self.clock()))
