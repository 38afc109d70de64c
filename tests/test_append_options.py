"""``AppendOptions``: whether anything was given."""

from __future__ import annotations

from typing import Any

import pytest

from agent_cores.session.verbs.appending import AppendOptions


class Incomparable:
    """A caller's value that refuses to be compared, as an array may."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise TypeError


def test_options_are_empty_if_nothing_was_given() -> None:
    assert AppendOptions().is_empty
    assert AppendOptions(context_removals=()).is_empty


@pytest.mark.parametrize("field", AppendOptions.__struct_fields__)
def test_options_are_not_empty_if_any_one_field_was_given(field: str) -> None:
    given: dict[str, Any] = {field: Incomparable()}
    assert not AppendOptions(**given).is_empty
