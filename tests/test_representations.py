"""What a log, a traceback or a failed assertion shows of our objects: no secret, no text."""

from __future__ import annotations

import importlib
import io
import pkgutil
import re
from typing import Any

import msgspec
import pytest
from rich.console import Console

import agent_cores.session as package
from agent_cores.session import NewMessage, SessionManager, SessionSettings
from agent_cores.session.client import SessionClient
from agent_cores.session.models.representation import hides
from agent_cores.session.service.auth.issuer import Issuer
from agent_cores.session.service.settings import ServiceSettings

SECRET = "sesame-" * 6
CONFIDENTIAL = {
    "attributes",
    "body",
    "content",
    "context",
    "context_set",
    "context_updates",
    "metadata",
    "metadata_updates",
    "packed",
    "secret",
    "secret_hash",
    "title",
    "turn",
}
PLAIN = {
    "Session.metadata",  # a header, which hides its own
    "SessionMetadata.turn",  # a lease, which hides its token
    "Problem.title",  # of a kind of error
    "Instrument.attributes",  # the names of a metric's attributes
    "ReadRequest.context",  # whether it is asked for
}


_NOT_OURS = re.compile(r"\.testing|\.adapters\.|\.examples\.|\.integrations\.django")
"""These need a framework, or one that is set up, and have no structs of their own."""


def structs() -> list[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__") and not _NOT_OURS.search(module.name):
            members = vars(importlib.import_module(module.name)).values()
            found.update(
                kind
                for kind in members
                if isinstance(kind, type)
                and issubclass(kind, msgspec.Struct)
                and kind.__module__.startswith(package.__name__)
            )
    return sorted(found, key=str)


def test_every_struct_hides_what_is_confidential_by_its_name() -> None:
    kinds = structs()
    assert len(kinds) > 50
    shown = {
        f"{kind.__name__}.{field}"
        for kind in kinds
        for field in kind.__struct_fields__
        if field in CONFIDENTIAL and field not in getattr(kind.__repr__, "hidden", ())
    }
    assert {name for name in shown if not name.startswith("Session.")} <= PLAIN
    assert {name for name in shown if name.startswith("Session.")} <= {"Session.metadata"}


def text_of(shown: object) -> str:
    """Return all the ways in which an object is shown, as one text."""
    console = Console(width=10_000, record=True, file=io.StringIO())
    console.print(shown)
    return f"{shown!r} {shown!s} {[shown]} {console.export_text()}"


def issuer() -> Issuer:
    return Issuer(
        issuer="https://login.example",
        audience="sessions",
        algorithms=("HS256",),
        namespaces=("default",),
        secret=SECRET,
    )


@pytest.mark.parametrize(
    "shown",
    [
        issuer(),
        ServiceSettings(jwt_issuers=(issuer(),)),
        SessionSettings(
            storage_url=f"postgresql://u:{SECRET}@h/d", redis_url=f"redis://:{SECRET}@h"
        ),
        NewMessage("user", SECRET, metadata={"k": SECRET}),
        SessionClient("https://sessions.example", SECRET),
    ],
    ids=lambda shown: type(shown).__name__,
)
def test_secrets_are_not_shown(shown: object) -> None:
    assert "sesame" not in text_of(shown)


async def test_sessions_messages_and_turns_are_shown_without_their_text() -> None:
    events: list[Any] = []
    async with SessionManager("memory://") as sessions:
        sessions.lifecycle.on("message.appended", events.append)
        sessions.lifecycle.on("session.created", events.append)
        talk = await sessions.create_session(
            "ann", {"title": SECRET, "k": SECRET}, context={"k": SECRET}
        )
        said = await sessions.add_message(
            talk, "ann", "user", SECRET, metadata={"k": SECRET}, message_id="m1"
        )
        session = await sessions.get_session(talk, "ann")
        turn = await sessions.take_turn(talk, "ann", token=SECRET)
        page = await sessions.list_user_sessions("ann")
        for shown in (said, session, turn, page, *events, sessions):
            assert "sesame" not in text_of(shown)
        messages = await sessions.get_session_messages(talk, "ann")
        assert "sesame" not in f"{messages!r} {[messages]} {(messages,)}"
        assert SECRET in f"{messages}", "what a program prints for people"
        assert "m1" in repr(said)
        assert talk in repr(session)
        assert said.content == session.metadata["k"] == SECRET


def test_nothing_is_shown_as_nothing_and_a_wrong_name_is_refused() -> None:
    @hides("secret")
    class Key(msgspec.Struct):
        name: str
        secret: str | None = None

    assert repr(Key("a")) == "Key(name='a', secret=None)"
    assert repr(Key("a", "b")) == "Key(name='a', secret=…)"
    with pytest.raises(TypeError, match="Key has no field token"):
        hides("token")(Key)
