"""The codes of the errors: stable, and one a class."""

from __future__ import annotations

from agent_cores.session import errors
from agent_cores.session.errors import SessionError
from agent_cores.session.wire.errors import ERRORS

INTERNAL_TO_THE_MANAGER = {errors.StaleHeaderError, errors.ReplacementError}
"""The manager handles these; a caller meets them, if at all, as a conflict."""


def _all(kind: type[SessionError]) -> list[type[SessionError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _all(below))]


def _defined_here() -> list[type[SessionError]]:
    return [kind for kind in _all(SessionError) if kind.__module__ == errors.__name__]


def test_every_class_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in _defined_here() if kind not in INTERNAL_TO_THE_MANAGER]
    codes = [kind.code for kind in kinds]
    assert len(codes) > 20
    assert sorted(codes) == sorted(set(codes))


def test_every_class_has_the_status_with_which_the_service_reports_it() -> None:
    for kind in _defined_here():
        row = ERRORS.get(kind.code, ERRORS["internal"])
        assert kind.http_status == row.status, kind


def test_the_tree_in_the_docstring_names_every_class_with_its_code() -> None:
    tree = [line.split() for line in (errors.__doc__ or "").splitlines()]
    shown = {
        next(word for word in words if word.endswith("Error")): words
        for words in tree
        if any(word.endswith("Error") for word in words)
    }
    for kind in _defined_here():
        assert any(word.rstrip(":") == kind.code for word in shown[kind.__name__]), kind
