"""The state machine's values: few names, so that changes collide; small limits; short times."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec import UNSET

from agent_cores.session.models import Hold, Limits, NamedMessages, RenewOn

LIMITS = Limits(context_bytes=60, metadata_bytes=120, grants=2, rewind_messages=4)

SESSIONS = st.sampled_from(("one", "one", "two", "three"))
USERS = st.sampled_from(("ann", "bob"))
SUBJECTS = st.sampled_from(("ann", "bob", "group:team"))
TOKENS = st.sampled_from(("t1", "t2"))
ENDING = st.sampled_from((2, 10, 40))
SECONDS = st.none() | ENDING
TAGS = st.sampled_from(((), ("x",), ("x", "y")))
CONTENT = st.sampled_from((UNSET, "hello", "other", None, [1], {"a": 1.0}, "x" * 300))
VALUES = st.sampled_from((1, 1.0, True, "\x00😀", [], {"a": [None]}, "x" * 30))
KEYS = st.sampled_from(("a", "b", "键"))
CONTEXT = st.dictionaries(KEYS, VALUES, max_size=2)
METADATA = st.dictionaries(KEYS, st.none() | VALUES, max_size=2)
_IDS = st.sampled_from("mnopqrstuvwxyz")
MESSAGES = st.lists(
    st.tuples(_IDS, st.sampled_from(("hello",) * 5 + ("other", [1]))),
    min_size=1,
    max_size=3,
    unique_by=lambda message: message[0],
)
NAMED = st.builds(
    NamedMessages,
    ids=st.lists(_IDS, min_size=1, max_size=5, unique=True).map(tuple),
) | st.builds(
    NamedMessages,
    seqs=st.lists(st.integers(1, 15), min_size=1, max_size=5, unique=True).map(tuple),
)
_NAMES = ("incarnation", "access_revision", "expected_revision", "expected_last_seq", "turn")
GUARDS = st.sampled_from(
    (
        *({},) * 6,
        {"incarnation": "right", "access_revision": "right"},
        dict.fromkeys(_NAMES[:4], "right"),
        dict.fromkeys(_NAMES, "right"),
        *({name: "wrong"} for name in _NAMES),
    )
)
"""The guards of a change: some that hold and some that do not."""
SELDOM = st.integers(0, 7).map(lambda number: number == 7)
BASES = st.sampled_from(("stored", "stored", "bare", "older"))
HOLDS = st.sampled_from((None, None, Hold.FROZEN, Hold.MOVED))
RENEW_ON = st.sampled_from(list(RenewOn))
LASTING = st.none() | st.sampled_from((1, 20))
