"""Ids of frameworks as ids of ours: valid, different for different texts, and reversible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cores.session.adapters.ids import (
    LONGEST,
    id_of,
    id_of_parts,
    ids_of_parts,
    parts_of,
    text_of,
    user_id_of,
)
from agent_cores.session.inputs import Inputs
from agent_cores.session.models.limits import Limits

ANY = st.text(st.characters(exclude_categories=()), max_size=400)
"""Any text, lone surrogates included."""
INPUTS = Inputs(Limits())


@pytest.mark.parametrize("text", ["chat-17", "user:ann", "会话", "a b", "..."])
def test_an_id_that_is_valid_stays_as_it_is(text: str) -> None:
    assert id_of(text) == text


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a/b", "a%2Fb"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("", "%"),
        ("100%", "100%25"),
        ("a\nb", "a%0Ab"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_an_id_that_is_not_valid_is_percent_encoded(text: str, encoded: str) -> None:
    assert id_of(text) == encoded
    assert text_of(encoded) == text


def test_a_user_of_a_framework_is_never_a_group() -> None:
    assert user_id_of("group:staff") == "group%3Astaff"
    assert text_of("group%3Astaff") == "group:staff"


@given(ANY)
def test_every_id_is_valid_and_leads_back(text: str) -> None:
    encoded = id_of(text)
    assert INPUTS.new_identifier(encoded, "session_id") == encoded
    assert text_of(encoded) in {text, None}
    assert (text_of(encoded) is None) is encoded.startswith("%~")
    user = user_id_of(text)
    assert INPUTS.user_id(user) == user
    assert text_of(user) in {text, None}


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_every_id_of_several_parts_is_valid_and_leads_back(parts: list[str]) -> None:
    encoded = id_of_parts(*parts)
    assert INPUTS.new_identifier(encoded, "session_id") == encoded
    assert parts_of(encoded) in {tuple(parts), None}


@given(st.lists(ANY, min_size=1, max_size=3), st.lists(ANY, max_size=3))
def test_several_ids_that_begin_alike_are_those_of_their_parts(
    parts: list[str], last: list[str]
) -> None:
    assert ids_of_parts(*parts, last=last) == [id_of_parts(*parts, each) for each in last]


@given(st.lists(ANY, min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_ids(texts: list[str]) -> None:
    assert id_of(texts[0]) != id_of(texts[1])
    assert user_id_of(texts[0]) != user_id_of(texts[1])


def test_parts_do_not_run_into_one_another() -> None:
    assert id_of_parts("a:b", "c") != id_of_parts("a", "b:c")
    assert id_of_parts("a", "") != id_of_parts("a")


def test_an_id_that_is_too_long_is_its_hash() -> None:
    long = "x" * (LONGEST + 1)
    assert id_of(long).startswith("%~")
    assert id_of(long) != id_of(long + "x")
    assert text_of(id_of(long)) is None
    assert id_of("x" * LONGEST) == "x" * LONGEST
