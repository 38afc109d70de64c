"""``agent-sessions doctor``: what is set, what was found, and what to mend."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from agent_cores.session.cli.examining import examine
from agent_cores.session.cli.output import say, say_json, shown, table
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.settings import ServiceSettings
from agent_cores.session.service.settings import environment_name as service_name
from agent_cores.session.settings import SessionSettings, environment_name, where_set

if TYPE_CHECKING:
    from agent_cores.session.storage.findings import Finding

_COLUMNS = ("SETTING", "VALUE", "SOURCE")
_DEFAULT = "default"
Json = Annotated[bool, Parameter(name="--json", negative=())]


class Setting(NamedTuple):
    """A setting: its name, its value without secrets, and where it is set."""

    name: str
    value: Any
    source: str


def doctor(*, storage: str | None = None, as_json: Json = False) -> None:
    """Check settings, storage, clock and machine, and say what to mend. No session is changed.

    Exits with 1 if there is a problem.

    Parameters
    ----------
    storage
        The storage URL, instead of the configured one.
    as_json
        Print one line of JSON, with every setting, also those that have their defaults.
    """
    logging.getLogger("agent_cores").addHandler(logging.NullHandler())  # findings say it better
    findings = asyncio.run(examine(storage))
    settings = _settings()
    problems = [one for one in findings if one.is_problem]
    if as_json:
        listed = [one._asdict() for one in settings]
        say_json({"healthy": not problems, "findings": findings, "settings": listed})
    else:
        _print(findings, settings)
        say("")
        say(f"{len(problems)} to mend." if problems else "Nothing must be mended.")
    if problems:
        sys.exit(1)


def _print(findings: list[Finding], settings: list[Setting]) -> None:
    given = [one for one in settings if one.source != _DEFAULT]
    if given:
        for line in table(_COLUMNS, [(one.name, str(one.value), one.source) for one in given]):
            say(line)
        say("")
    width = max(len(one.about) for one in findings)
    for one in findings:
        mark = "problem" if one.is_problem else "advice" if one.mend else "ok"
        say(f"{mark:<8} {one.about:<{width}}  {shown(one.found)}")
        if one.mend:
            say(f"{'':<8} {'':<{width}}  -> {shown(one.mend)}")


def _settings() -> list[Setting]:
    """Return every setting; none if they cannot be read, which is a finding."""
    try:
        places = where_set()
        shown_values = {
            **{environment_name(n): v for n, v in SessionSettings.load().__rich_repr__()},
            **_of_the_service(ServiceSettings.load()),
        }
    except ConfigurationError:
        return []
    return [
        Setting(name, value, places.get(name, _DEFAULT)) for name, value in shown_values.items()
    ]


def _of_the_service(settings: ServiceSettings) -> dict[str, Any]:
    values = {service_name(name): getattr(settings, name) for name in settings.__struct_fields__}
    values[service_name("log_key")] = settings.log_key and "…"
    values[service_name("jwt_issuers")] = [one.issuer for one in settings.jwt_issuers]
    return values
