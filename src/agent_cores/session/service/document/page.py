"""The description as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent_cores.session.service.routing import Route

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ddd;padding:.4rem .6rem;text-align:left;vertical-align:top}
code{font:13px ui-monospace,monospace}
"""


def page(routes: tuple[Route, ...]) -> bytes:
    """Return the page."""
    rows = "".join(map(_row, routes))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>agent-sessions</title>
<style>{_STYLE}</style></head><body>
<h1>agent-sessions</h1>
<p>Send <code>Authorization: Bearer &lt;API key or JWT&gt;</code>.
The whole description is <a href="v1/openapi.json">OpenAPI 3.1</a>.</p>
<table><thead><tr><th>request</th><th>right; role</th><th>takes</th><th>answers</th></tr></thead>
<tbody>{rows}</tbody></table></body></html>
""".encode()


def _row(route: Route) -> str:
    needs = "; ".join(filter(None, (route.right, route.role)))
    takes = [*route.query]
    if route.request is not None:
        takes += [
            field.encode_name + ("" if field.required else "?")
            for field in msgspec.structs.fields(route.request)
        ]
    answers = ", ".join(
        f"{status} {getattr(kind, '__name__', '')}".strip()
        for status, kind in route.responses.items()
    )
    return (
        f"<tr><td><code>{escape(route.name)}</code><br>{escape(route.summary)}</td>"
        f"<td>{escape(needs)}</td><td><code>{escape(', '.join(takes))}</code></td>"
        f"<td>{escape(answers)}</td></tr>\n"
    )
