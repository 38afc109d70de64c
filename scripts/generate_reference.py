"""Write the tables of the reference from the code: settings, metrics and errors.

A page has a line ``<!-- table: NAME -->`` where a table begins and ``<!-- end -->`` where it ends.
``--check`` changes nothing, and fails if a page differs from the code.
"""

from __future__ import annotations

import inspect
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import griffe

from agent_cores.session import errors, settings
from agent_cores.session.service import settings as service_settings
from agent_cores.session.service.metrics.definitions import METRICS
from agent_cores.session.wire.errors import ERRORS, ErrorRow, cause_and_cure
from agent_cores.session.wire.shapes import Problem
from scripts.check_docs import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Settings = settings.SessionSettings | service_settings.ServiceSettings

TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
KINDS = {
    "bool": "true or false",
    "float": "number",
    "int": "whole number",
    "int | None": "whole number",
    "Literal['hashed', 'plain']": "hashed or plain",
    "str": "text",
    "str | None": "text",
    "tuple[str, ...]": "list",
    "tuple[Issuer, ...]": "list of tables",
}
NOT_FOR_CALLERS = {errors.StaleHeaderError, errors.ReplacementError}
"""Between store and manager: callers meet them, if at all, as a conflict."""


def markdown(text: str) -> str:
    """Return a docstring's text for a cell."""
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    titles = [*titles]
    lines = [titles, ["--"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in lines)


def shown(value: object) -> str:
    """Return a default as one would write it."""
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`"


@cache
def settings_of(kind: type[Settings], name_of: Callable[[str], str]) -> str:
    """Return the table of a class of settings; the meaning is in the docstring of each field."""
    source = Path(inspect.getfile(kind))
    module = griffe.visit(kind.__module__, filepath=source, code=source.read_text("utf-8"))
    described = module[kind.__name__]
    defaults = kind()
    rows = []
    for field in kind.__struct_fields__:
        attribute = described[field]
        rows.append(
            (
                f"`{name_of(field)}`",
                KINDS[str(attribute.annotation)],
                shown(getattr(defaults, field)),
                markdown(attribute.docstring.value),
            )
        )
    return table(("name, TOML key", "type", "default", "meaning"), rows)


def library_settings() -> str:
    """Return the table of the library's settings."""
    return settings_of(settings.SessionSettings, settings.environment_name)


def settings_of_the_service() -> str:
    """Return the table of the service's settings."""
    return settings_of(service_settings.ServiceSettings, service_settings.environment_name)


def metrics() -> str:
    """Return the table of the metrics."""
    rows = [
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.text)
        for one in METRICS
    ]
    return table(("metric", "type", "labels", "meaning"), rows)


def otel_metrics() -> str:
    """Return the table of OpenTelemetry's instruments."""
    rows = []
    for one in METRICS:
        if one.otel is not None:
            kind = "up-down counter" if one.otel.sums else one.kind
            attributes = ", ".join(f"`{name}`" for name in one.otel.attributes if name)
            rows.append((f"`{one.otel.name}`", kind, one.otel.unit, attributes, f"`{one.name}`"))
    return table(("instrument", "type", "unit", "attributes", "for Prometheus"), rows)


def _all(kind: type[errors.SessionError]) -> Iterator[type[errors.SessionError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _all(below)


def every_error() -> str:
    """Return the table of the errors, by status, then those that only the library raises."""
    classes = {kind.code: kind for kind in _all(errors.SessionError) if kind not in NOT_FOR_CALLERS}
    rows = []
    for row in sorted(ERRORS.values(), key=lambda row: row.status):
        kind = classes.pop(row.code, None) or raised_for(row)
        rows.append((row.code, kind, f"{row.status}", row.cause, row.cure))
    rows += [
        (code, kind, f"{kind.http_status} `internal`", *cause_and_cure(kind))
        for code, kind in classes.items()
    ]
    titles = ("code, Python class", "status", "what happened", "what to do")
    return table(
        titles,
        (
            (f"`{code}`<br>`{kind.__name__}`", status, markdown(cause), capital(markdown(cure)))
            for code, kind, status, cause, cure in rows
        ),
    )


def raised_for(row: ErrorRow) -> type[errors.SessionError]:
    """Return the class that ``SessionClient`` raises for a code that has none of its own."""
    if row.error_of is None:
        return errors.SessionError
    problem = Problem(type="", title="", status=row.status, code=row.code, detail="")
    return type(row.error_of(problem))


def capital(text: str) -> str:
    """Return a sentence with its first letter in upper case."""
    return text[:1].upper() + text[1:]


TABLES: dict[str, Callable[[], str]] = {
    "settings": library_settings,
    "service_settings": settings_of_the_service,
    "metrics": metrics,
    "otel_metrics": otel_metrics,
    "errors": every_error,
}


def generated(page: Path) -> str:
    """Return a page with its tables made anew."""
    text = page.read_text(encoding="utf-8")
    return TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def pages() -> dict[str, Path]:
    """Return the page of each table."""
    found: dict[str, Path] = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        found.update((name, page) for _, name, _ in TABLE.findall(page.read_text("utf-8")))
    return found


def main() -> int:
    """Write the tables, or compare them."""
    stale = 0
    for page in dict.fromkeys(pages().values()):
        text = generated(page)
        if text == page.read_text(encoding="utf-8"):
            continue
        if "--check" in sys.argv:
            print(f"{page.relative_to(ROOT)} differs from the code: run make reference")
            stale = 1
        else:
            page.write_text(text, encoding="utf-8")
            print(f"{page.relative_to(ROOT)} is written")
    return stale


if __name__ == "__main__":
    sys.exit(main())
