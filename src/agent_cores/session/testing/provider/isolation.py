"""Namespaces: no entry point shows anything of another namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionNotFoundError
from agent_cores.session.models import AccessEffect, Query
from agent_cores.session.testing.beside import walk
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.changes import grant
from agent_cores.session.testing.samples import (
    DISTINCT_NAMES,
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)

if TYPE_CHECKING:
    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock

NAMESPACES = ("default", "team-a", "team-a_b", "0")


async def fill(beside: Beside, clock: ManualClock, session_id: str) -> list[SessionMetadata]:
    """Create the same id in every namespace, each with its own content."""
    headers = []
    for number, namespace in enumerate(NAMESPACES):
        header = new_header(
            session_id,
            at=clock.advance(1),
            namespace=namespace,
            incarnation=number + 1,
            tags=("x",),
            grants={"bob": grant("bob", clock)},
        )
        message = new_message("m", f"of {namespace}", at=clock())
        change = creation(header, append=(message,), context_set=new_context(k=namespace))
        headers.append((await beside.apply(change)).header)
    return headers


class IsolationCases(ProviderCases):
    """The same ids in several namespaces."""

    async def test_one_id_in_several_namespaces_is_several_sessions(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        headers = await fill(beside, clock, "talk")
        for header in headers:
            message = new_message("n", header.namespace, at=clock())
            await beside.apply(
                change_of(header, clock(), append=(message,), context_set=new_context(l=1))
            )
        await beside.apply(change_of(headers[1], clock(), delete=True))
        for namespace in NAMESPACES:
            await beside.compare(namespace, "talk")
        message = new_message("o", at=clock())
        with pytest.raises(SessionNotFoundError):
            await beside.apply(change_of(headers[1], clock(), append=(message,), basis=headers[1]))

    async def test_a_listing_has_one_namespace(self, beside: Beside, clock: ManualClock) -> None:
        await fill(beside, clock, "talk")
        await fill(beside, clock, "talk 2")
        for namespace in (*NAMESPACES, "empty"):
            for query in (
                Query(namespace=namespace, at=clock(), owner_id="ann"),
                Query(namespace=namespace, at=clock(), owner_id="ann", tags=("x",), limit=1),
                Query(namespace=namespace, at=clock(), subjects=("bob",)),
                Query(namespace=namespace, at=clock()),
            ):
                await beside.compare_listing(query)
                found = await walk(beside.provider, query)
                assert {header.namespace for header in found} <= {namespace}

    async def test_no_id_reaches_into_another_namespace(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await fill(beside, clock, "talk")
        for session_id in ("team-a%2Ftalk", "team-a:talk", "team-a", "..%2F0%2Ftalk"):
            for namespace in NAMESPACES:
                assert await beside.provider.read(namespace, session_id) is None
        for namespace in ("team", "team-a_", "TEAM-A", ""):
            assert await beside.provider.read(namespace, "talk") is None

    async def test_a_sweep_names_the_namespace(self, beside: Beside, clock: ManualClock) -> None:
        headers = await fill(beside, clock, "talk")
        at = clock.advance(7_200)
        await beside.apply(creation(new_header(at=at, namespace="team-b", incarnation=9)))
        ended = await beside.due(at, 30)
        names = sorted((taken.namespace, taken.incarnation) for taken in ended)
        assert names == sorted((header.namespace, header.incarnation) for header in headers)
        for taken in ended[:2]:
            await beside.apply(taken.removal(at))
        for namespace in (*NAMESPACES, "team-b"):
            await beside.compare(namespace, "talk")

    async def test_the_seven_methods_see_another_namespace_in_the_id(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header("a%b 会话", at=clock(), namespace="team-a")
        message = new_message("m", at=clock())
        await beside.apply(creation(header, append=(message,)))
        await beside.apply(change_of(header, clock(), access=AccessEffect(public=True)))
        stored_id = "team-a/a%25b%20%E4%BC%9A%E8%AF%9D"
        provider = beside.provider
        assert [session.id for session in await provider.list_sessions()] == [stored_id]
        session = await provider.load_session(stored_id)
        assert session is not None
        assert session.id == stored_id
        assert await provider.load_session("a%b 会话") is None
        assert await provider.update_metadata(stored_id, {"title": "t"}) is True
        await provider.save_session(session)
        again = await provider.read("team-a", "a%b 会话")
        assert again is not None
        assert again.header.title is None
        assert await provider.delete_session(stored_id) is True
        assert await provider.read("team-a", "a%b 会话") is None

    async def test_names_that_look_alike_stay_apart_in_every_list(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for number, name in enumerate(DISTINCT_NAMES):
            header = new_header(
                name,
                at=clock.advance(1),
                namespace="team-a",
                incarnation=number + 1,
                owner_id=name,
                tags=(name,),
                grants={name: grant(name, clock)},
            )
            await beside.apply(creation(header))
        for name in DISTINCT_NAMES:
            for query in (
                Query(namespace="team-a", at=clock(), owner_id=name),
                Query(namespace="team-a", at=clock(), owner_id=name, tags=(name,)),
                Query(namespace="team-a", at=clock(), subjects=(name,)),
            ):
                await beside.compare_listing(query)
                found = await walk(beside.provider, query)
                assert [header.session_id for header in found] == [name]
