"""Division of what one write cannot hold."""

from __future__ import annotations

from agent_cores.session.adapters.parts import MOST_ITEMS, in_parts


def test_a_part_has_no_more_items_than_one_write_takes() -> None:
    items = [*range(2 * MOST_ITEMS + 1)]
    parts = [*in_parts(items, lambda _: 1)]
    assert [len(part) for part in parts] == [MOST_ITEMS, MOST_ITEMS, 1]
    assert [item for part in parts for item in part] == items


def test_a_part_has_no_more_bytes_than_allowed_unless_it_is_one_item() -> None:
    parts = [*in_parts(["aaaa", "bbbb", "c", "d" * 20, "e"], len, most_bytes=8)]
    assert parts == [["aaaa", "bbbb"], ["c"], ["d" * 20], ["e"]]


def test_nothing_is_no_part() -> None:
    assert [*in_parts([], len)] == []
