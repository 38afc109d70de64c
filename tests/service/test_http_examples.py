"""The examples of the HTTP interface are what the service answers, one of every route."""

from __future__ import annotations

from agent_cores.session.service.routes import ROUTES
from agent_cores.session.service.routing import Router
from tests.service.http_examples import DOCS, pages
from tests.service.http_steps import STORY


async def test_the_examples_are_what_the_service_answers() -> None:
    made = await pages()
    assert {path.name for path in DOCS.glob("http-*.md")} == made.keys()
    for name, text in made.items():
        assert (DOCS / name).read_text("utf-8") == text, f"{name}: run make reference"


def test_every_route_has_an_example() -> None:
    router = Router(ROUTES)
    shown = set()
    for step in STORY:
        path = step.path.partition("?")[0].replace("{", "").replace("}", "")
        route, _ = router.find({"method": step.method, "path": path, "raw_path": path.encode()})
        if step.shown and step.status < 400:
            shown.add(route.name)
    assert shown == {route.name for route in ROUTES}
