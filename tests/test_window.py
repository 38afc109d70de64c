"""Windows of messages, beside the plainest way to say what they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_cores.session.models import StoredMessage, Window

AT = datetime(2030, 1, 1, tzinfo=UTC)
SEQS = st.sets(st.integers(1, 20)).map(sorted)
BOUNDS: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.integers(0, 22).map(lambda seq: {"before_seq": seq}),
    st.integers(0, 22).map(lambda seq: {"after_seq": seq}),
)


@given(SEQS, st.integers(1, 8), BOUNDS, st.integers(1, 60))
def test_a_window_is_the_nearest_messages_that_fit(
    seqs: list[int], limit: int, bounds: dict[str, Any], max_bytes: int
) -> None:
    messages = [StoredMessage(seq, str(seq), AT, b"x" * seq) for seq in seqs]
    window = Window(limit=limit, max_bytes=max_bytes, **bounds)
    page, has_more = window.select(messages)
    before = bounds.get("before_seq", 99)
    reached = [m for m in messages if bounds.get("after_seq", 0) < m.seq < before]
    ahead = reached if "after_seq" in bounds else reached[::-1]
    taken = page if "after_seq" in bounds else page[::-1]
    assert taken == ahead[: len(taken)]
    assert has_more is (len(taken) < len(ahead))
    assert len(taken) <= limit
    assert len(taken) == 1 or sum(len(message.body) for message in taken) <= max_bytes
    if has_more and len(taken) < limit:
        assert sum(len(message.body) for message in ahead[: len(taken) + 1]) > max_bytes
    assert bool(page) is bool(reached)
