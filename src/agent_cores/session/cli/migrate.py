"""``agent-sessions migrate``: upgrade the tables to this program's schema, or check them.

For stores whose tables the service itself may not alter (``SESSION_SCHEMA=check``).
"""

from __future__ import annotations

import asyncio

from agent_cores.session.cli.opening import Json  # noqa: TC001 - cyclopts reads it
from agent_cores.session.cli.output import say, say_json
from agent_cores.session.cli.unknown_names import refuse_misspelt
from agent_cores.session.manager import SessionManager
from agent_cores.session.settings import SessionSettings

_OPTION = "schema"


def migrate(*, check: bool = False, storage: str | None = None, as_json: Json = False) -> None:
    """Upgrade the tables to this program's schema; run it as a user who may alter tables.

    Parameters
    ----------
    check
        Alter nothing; fail if the tables are missing, too old, or too new for this program.
    storage
        The storage URL, instead of the configured one.
    as_json
        Print one line of JSON.
    """
    store, has_schema = asyncio.run(_migrate("check" if check else "apply", storage))
    if as_json:
        say_json({"store": store, "has_schema": has_schema})
    elif has_schema:
        say(f"{store}: the schema is the one that this program needs")
    else:
        say(f"{store}: there is no schema to migrate")


async def _migrate(schema: str, storage: str | None) -> tuple[str, bool]:
    """Return which store it is, and whether it has a schema."""
    refuse_misspelt()
    settings = SessionSettings.load(schema=schema)
    url = storage or settings.storage_url
    manager = SessionManager(url and without_schema(url), settings=settings)
    provider = manager.runtime.storage
    if _OPTION not in provider.options_from(settings):
        return provider.describe(), False
    await provider.initialize()
    await provider.shutdown()
    return provider.describe(), True


def without_schema(url: str) -> str:
    """Return the URL without ``schema=``, which restricts the service, not this command."""
    address, _, query = url.partition("?")
    kept = [each for each in query.split("&") if each.partition("=")[0] not in {"", _OPTION}]
    return "?".join((address, "&".join(kept))) if kept else address
