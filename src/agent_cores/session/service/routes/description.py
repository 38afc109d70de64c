"""The description of the interface: OpenAPI for programs, an HTML page for people."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from agent_cores.session.service.problems import Refusal
from agent_cores.session.service.responses import Response
from agent_cores.session.service.routing import Route

if TYPE_CHECKING:
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.service.request.call import Call


def described(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Return the given routes, plus those that describe them all."""

    @cache
    def document_of(limits: Limits) -> bytes:
        from agent_cores.session.service.document.openapi import document  # noqa: PLC0415 - on demand

        return document(every, limits)

    @cache
    def page_of_all() -> bytes:
        from agent_cores.session.service.document.page import page  # noqa: PLC0415 - on demand

        return page(every)

    async def openapi(call: Call) -> Response:
        """Return the OpenAPI document."""
        _check_enabled(call)
        return Response(200, document_of(call.manager.runtime.limits))

    async def docs(call: Call) -> Response:
        """Return the HTML page; it loads nothing from elsewhere."""
        _check_enabled(call)
        return Response(200, page_of_all(), content_type=b"text/html; charset=utf-8")

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
            summary="This description, as a page",
            responses={200: str},
        ),
    )
    return every


def _check_enabled(call: Call) -> None:
    if not call.settings.docs:
        raise Refusal("not_found", "no such path")
