"""What one change means: the order of its checks, and what it writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionArchivedError,
    SessionError,
    SessionExistsError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
    TurnLostError,
)
from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Change,
    Grant,
    Hold,
    HoldEffect,
    Limits,
    RenewEffect,
    RenewOn,
    SeqRange,
    SessionMetadata,
    State,
    Turn,
    TurnEffect,
    apply_change,
)
from agent_cores.session.models.change import _write, hot_append
from agent_cores.session.models.selection import END
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=5)


GRANT = Grant(subject="bob", role=AccessRole.EDITOR, granted_by="ann", granted_at=AT)


def stored(**fields: Any) -> SessionMetadata:  # noqa: ANN401
    """Return a header as a store keeps it."""
    applied = apply_change(State(), creation(new_header(at=AT)))
    return msgspec.structs.replace(applied.header, **fields)


ORDER: dict[str, tuple[dict[str, Any], dict[str, Any], type[SessionError]]] = {
    "incarnation": ({}, {"incarnation": 9}, StaleHeaderError),
    "access revision": ({}, {"access_revision": 9}, StaleHeaderError),
    "hold": ({"hold": Hold.FROZEN}, {}, SessionMovedError),
    "expired": ({"expires_at": LATER}, {}, SessionExpiredError),
    "known id": ({}, {"known": True}, ConflictError),
    "archived": ({"archived": True}, {}, SessionArchivedError),
    "turn": ({}, {"turn": "lost"}, TurnLostError),
    "revision": ({}, {"expected_revision": 9}, RevisionMismatchError),
    "last seq": ({}, {"expected_last_seq": 9}, LastSeqMismatchError),
    "limits": ({}, {"limits": Limits(context_bytes=1)}, InvalidInputError),
}
"""What can be wrong with an append, in the order in which it is told: header, change, refusal."""


@pytest.mark.parametrize("wrong", [*combinations(ORDER, 1), *combinations(ORDER, 2)], ids=str)
def test_the_first_thing_wrong_is_told(wrong: tuple[str, ...]) -> None:
    fields: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for name in wrong:
        fields |= ORDER[name][0]
        parts |= ORDER[name][1]
    message = new_message("m", at=LATER)
    other = {"m": new_message("m", "other", at=AT, seq=1)} if parts.pop("known", False) else {}
    change = change_of(
        new_header(at=AT), LATER, append=(message,), context_set=new_context(k=1), **parts
    )
    with pytest.raises(SessionError) as caught:
        apply_change(State(header=stored(**fields), known=other), change)
    assert type(caught.value) is ORDER[wrong[0]][2]


def test_what_is_not_there_is_told_before_all_else() -> None:
    change = change_of(new_header(at=AT), LATER, delete=True, incarnation=9, access_revision=9)
    with pytest.raises(SessionNotFoundError):
        apply_change(State(), change)


@pytest.mark.parametrize("later", ["archived", "turn", "revision", "last seq", "limits"])
def test_a_replay_comes_before_every_later_check(later: str) -> None:
    fields, parts, _ = ORDER[later]
    known = new_message("m", at=AT, seq=1)
    change = change_of(
        new_header(at=AT),
        LATER,
        append=(new_message("m", at=LATER),),
        context_set=new_context(k=1),
        **parts,
    )
    header = stored(**fields)
    applied = apply_change(State(header=header, known={"m": known}), change)
    assert applied.replayed
    assert not applied.writes
    assert (applied.header, applied.messages) == (header, (known,))


@pytest.mark.parametrize(
    ("fields", "incarnation", "outcome"),
    [
        ({}, 1, "replay"),
        ({"hold": Hold.OPENING}, 1, "replay"),
        ({}, 2, SessionExistsError),
        ({"archived": True}, 2, SessionExistsError),
        ({"hold": Hold.OPENING}, 2, SessionMovedError),
        ({"hold": Hold.MOVED}, 2, SessionMovedError),
        ({"expires_at": LATER}, 2, "replaced"),
        ({"expires_at": LATER}, 1, "replaced"),
        ({"expires_at": LATER, "hold": Hold.FROZEN}, 2, "replaced"),
    ],
)
def test_a_create_looks_at_what_stands_under_its_id(
    fields: dict[str, Any], incarnation: int, outcome: str | type[SessionError]
) -> None:
    state = State(header=stored(**fields))
    change = creation(new_header(at=LATER, incarnation=incarnation))
    if isinstance(outcome, str):
        applied = apply_change(state, change)
        assert applied.replayed is (outcome == "replay")
        assert (applied.replaced is not None) is (outcome == "replaced")
    else:
        with pytest.raises(outcome):
            apply_change(state, change)


ACCESS: dict[str, dict[str, Any]] = {
    "owner": {"access": AccessEffect(owner_id="bob")},
    "public": {"access": AccessEffect(public=True)},
    "archived": {"access": AccessEffect(archived=True)},
    "grant": {"access": AccessEffect(grant=(GRANT,))},
    "hold": {"hold": HoldEffect(Hold.FROZEN)},
    "idle time": {"renew": RenewEffect(ttl_seconds=5)},
}
NOT_ACCESS: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": {"a": 1}},
    "context": {"context_set": new_context(k=1)},
    "append": {"append": (new_message("m", at=LATER),)},
    "turn": {"turn_effect": TurnEffect(token="t", lease_end=LATER, take=True)},
    "same owner": {"access": AccessEffect(owner_id="ann")},
}


@pytest.mark.parametrize("name", [*ACCESS, *NOT_ACCESS])
def test_access_revision_changes_with_what_lets_a_caller_write_and_nothing_else(name: str) -> None:
    effects = (ACCESS | NOT_ACCESS)[name]
    header = stored()
    applied = apply_change(State(header=header), change_of(header, LATER, **effects))
    assert (applied.header.access_revision != header.access_revision) == (name in ACCESS)


@pytest.mark.parametrize("held", [None, 0, 1, 2**63 - 1])
@pytest.mark.parametrize("name", ACCESS)
def test_no_access_revision_comes_twice(name: str, held: int | None) -> None:
    header = msgspec.structs.replace(stored(), access_revision=held)
    seen = {held}
    for _ in range(3):
        applied = apply_change(State(header=header), change_of(header, LATER, **ACCESS[name]))
        assert applied == apply_change(
            State(header=header), change_of(header, LATER, **ACCESS[name])
        ), "the same change gives the same answer"
        token = applied.header.access_revision
        assert token is not None
        assert 0 <= token < 2**63
        assert token not in seen
        seen.add(token)
        header = msgspec.structs.replace(header, access_revision=token)


def test_a_session_saved_over_another_has_an_access_revision_of_its_own() -> None:
    header = msgspec.structs.replace(stored(), access_revision=7)
    seen = {7}
    for grants in ({}, {"bob": GRANT}, {"carl": msgspec.structs.replace(GRANT, subject="carl")}):
        given = msgspec.structs.replace(header, grants=grants)
        change = creation(given, overwrite=True)
        token = apply_change(State(header=header), change).header.access_revision
        assert token not in seen
        seen.add(token or 0)


def test_nothing_moves_backwards_on_a_clock_that_is_behind() -> None:
    header = stored(last_active_at=LATER, updated_at=LATER, listed_at=LATER, expires_at=None)
    for effects in ({"append": (new_message("m", at=AT),)}, {"metadata": {"a": 1}}):
        after = apply_change(State(header=header), change_of(header, AT, **effects)).header
        assert (after.last_active_at, after.updated_at, after.listed_at) == (LATER,) * 3


def test_a_write_never_brings_the_end_nearer() -> None:
    far = AT + timedelta(days=9)
    header = stored(expires_at=far, due_at=far)
    after = apply_change(
        State(header=header), change_of(header, LATER, append=(new_message("m", at=LATER),))
    ).header
    assert after.expires_at == far


def test_a_removal_takes_what_the_state_offers_and_keeps_the_numbering() -> None:
    header = stored(last_seq=9, message_count=4)
    state = State(header=header, removable=((9, "i"), (7, "g")))
    applied = apply_change(state, change_of(header, LATER, remove=SeqRange(7, 9)))
    assert applied.removed == ((9, "i"), (7, "g"))
    assert (applied.header.last_seq, applied.header.message_count) == (9, 2)


@pytest.mark.parametrize(
    ("stored_after", "known_at", "replayed"),
    [(None, 5, False), (4, 5, True), (5, 5, False), (4, 3, False)],
)
def test_a_replacement_is_a_replay_only_if_its_messages_came_after_what_was_last(
    stored_after: int | None, known_at: int, *, replayed: bool
) -> None:
    message = new_message("m", at=AT)
    stored_message = msgspec.structs.replace(message, seq=known_at)
    state = State(
        header=stored(last_seq=5, message_count=3),
        known={"m": stored_message},
        removable=((5, "x"), (4, "y"), (3, "z")),
    )
    change = change_of(
        stored(last_seq=5, message_count=3),
        LATER,
        append=(message,),
        remove=SeqRange(3, END),
        stored_after=stored_after,
    )
    applied = apply_change(state, change)
    assert applied.replayed == replayed
    if not replayed:
        assert [added.seq for added in applied.added] == [6]
        assert len(applied.removed) == 3


def hot(header: SessionMetadata | None, **parts: Any) -> Change:  # noqa: ANN401
    """Return an append decided on a header."""
    message = new_message("m", at=LATER)
    return change_of(new_header(at=AT), LATER, **{"append": (message,), "basis": header, **parts})


@pytest.mark.parametrize(
    "change",
    [
        hot(None),
        hot(stored(archived=True)),
        hot(stored(hold=Hold.FROZEN)),
        hot(stored(), expected_revision=2),
        hot(stored(), expected_revision=1, expected_incarnation=2),
        hot(stored(), expected_hold=Hold.OPENING),
        hot(stored(), context_set=new_context(k=1)),
        hot(stored(), metadata={"a": 1}),
        hot(stored(), turn_effect=TurnEffect(token="t", lease_end=LATER, take=True)),
        hot(stored(), append=()),
    ],
)
def test_a_fast_path_looks_first_where_more_than_a_plain_append_is_asked(change: Change) -> None:
    assert hot_append(change) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"turn": Turn("t", LATER)},
        {"renew_on": RenewOn.NEVER},
        {"max_lifetime_seconds": 20.0},
        {"ttl_seconds": None, "expires_at": None},
        {"listed_at": LATER - timedelta(milliseconds=999)},
        {"listed_at": LATER - timedelta(seconds=1)},
    ],
)
def test_a_fast_path_writes_what_apply_change_would(fields: dict[str, Any]) -> None:
    header = stored(**fields)
    change = hot(header)
    written = hot_append(change)
    meant = apply_change(State(header=header), change).header
    assert written is not None
    assert written.expires_at == meant.expires_at
    assert (written.listed_at or header.listed_at) == meant.listed_at


def test_a_fast_path_may_append_where_the_revision_of_the_basis_is_expected() -> None:
    change = hot(stored(), expected_revision=1, expected_incarnation=1)
    assert hot_append(change) == hot_append(hot(stored()))


SECONDS = st.floats(-4_000, 4_000).map(lambda seconds: timedelta(seconds=round(seconds, 3)))
TIMES = SECONDS.map(lambda span: AT + span)


@given(
    fields=st.fixed_dictionaries(
        {
            "last_active_at": TIMES,
            "listed_at": TIMES | st.none(),
            "expires_at": st.just(AT + timedelta(days=1)) | st.none(),
            "due_at": TIMES | st.just(AT + timedelta(days=2)) | st.none(),
            "ttl_seconds": st.sampled_from([None, 60.0, 90_000.0, 200_000.0]),
            "max_lifetime_seconds": st.sampled_from([None, 86_400.0, 100_000.0]),
            "renew_on": st.sampled_from(RenewOn),
            "last_seq": st.integers(0, 9),
            "message_count": st.integers(0, 9),
        }
    ),
    names=st.lists(st.sampled_from("abcd"), min_size=1, unique=True),
    known=st.sets(st.sampled_from("abcd")),
    at=TIMES,
)
def test_the_short_way_of_an_append_is_the_long_one(
    fields: dict[str, Any], names: list[str], known: set[str], at: datetime
) -> None:
    header = stored(**fields)
    state = State(
        header=header,
        known={name: new_message(name, at=AT, seq=seq) for seq, name in enumerate(known, 1)},
    )
    change = change_of(header, at, append=tuple(new_message(name, at=at) for name in names))
    applied = apply_change(state, change)
    if applied.replayed:
        assert known >= set(names)
    else:
        assert applied == _write(header, state, change)
