"""The description of the interface: OpenAPI for programs, a page for people to try it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from agent_cores.session.service.problems import Refusal
from agent_cores.session.service.responses import Response
from agent_cores.session.service.routing import Route

if TYPE_CHECKING:
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.service.document.page import PageFile
    from agent_cores.session.service.headers import Headers
    from agent_cores.session.service.request.call import Call


def described(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Return the given routes, plus those that describe them all."""

    @cache
    def document_of(limits: Limits) -> bytes:
        from agent_cores.session.service.document.openapi import document  # noqa: PLC0415 - on demand

        return document(every, limits)

    async def openapi(call: Call) -> Response:
        """Return the OpenAPI document."""
        _check_enabled(call)
        return Response(200, document_of(call.manager.runtime.limits))

    every = (
        *routes,
        Route(
            method="GET",
            path="/v1/openapi.json",
            handler=openapi,
            right="open",
            summary="This description",
            responses={200: dict},
        ),
        Route(
            method="GET",
            path="/docs",
            handler=docs,
            right="open",
            summary="A page that shows this description, on which you can try it",
            responses={200: str},
        ),
        Route(
            method="GET",
            path="/docs/{file}",
            handler=docs_file,
            right="open",
            summary="A script or style of that page",
            responses={200: bytes},
        ),
    )
    return every


async def docs(call: Call) -> Response:
    """Return the page; it loads nothing from elsewhere."""
    _check_enabled(call)
    return Response(200, _page(), content_type=b"text/html; charset=utf-8")


async def docs_file(call: Call) -> Response:
    """Return a script or a style of the page."""
    _check_enabled(call)
    found = _page_file(call.path[0], compressed=_accepts_gzip(call.headers))
    if found is None:
        raise Refusal("not_found", "no such path")
    headers = [(b"content-encoding", b"gzip")] if found.is_compressed else []
    return Response(200, found.body, headers, found.content_type)


def _accepts_gzip(headers: Headers) -> bool:
    for choice in b",".join(headers.values(b"accept-encoding")).lower().split(b","):
        coding, _, weight = choice.partition(b";")
        if coding.strip() == b"gzip":
            return re.fullmatch(rb"\s*q=0(\.0*)?\s*", weight) is None
    return False


@cache
def _page() -> bytes:
    from agent_cores.session.service.document.page import page  # noqa: PLC0415 - on demand

    return page()


def _page_file(name: str, *, compressed: bool) -> PageFile | None:
    from agent_cores.session.service.document.page import page_file  # noqa: PLC0415 - on demand

    return page_file(name, compressed=compressed)


def _check_enabled(call: Call) -> None:
    if not call.settings.docs:
        raise Refusal("not_found", "no such path")
