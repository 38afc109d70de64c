"""``agent-sessions keys``: make, list and revoke API keys."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from cyclopts import App, Parameter

from agent_cores.session.cli.opening import audit_log_shown, machine_user
from agent_cores.session.cli.output import OutputError, fail, note, say, say_json, table
from agent_cores.session.cli.status import Status
from agent_cores.session.cli.unknown_names import refuse_misspelt
from agent_cores.session.errors import ConfigurationError, InvalidInputError
from agent_cores.session.inputs import Inputs
from agent_cores.session.manager import SessionManager
from agent_cores.session.models.times import utc_now
from agent_cores.session.service.auth.api_keys import (
    ApiKey,
    Keys,
    hashed,
    is_key_id,
    key_text,
    new_secret,
)
from agent_cores.session.service.components import key_stores
from agent_cores.session.service.settings import ServiceSettings
from agent_cores.session.settings import SessionSettings
from agent_cores.session.verbs import audit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MOST_DAYS = 36_600
_COLUMNS = ("ID", "NAME", "NAMESPACE", "RIGHTS", "USER", "CREATED", "EXPIRES", "LAST USED")
Json = Annotated[bool, Parameter(name="--json", negative=())]
T = TypeVar("T")
keys: App = App(name="keys", help="Make, list and revoke API keys.")


@keys.command
def create(
    name: str,
    *,
    namespace: str = "default",
    right: Annotated[list[str] | None, Parameter(negative=())] = None,
    user: str | None = None,
    user_prefix: str = "",
    group: Annotated[list[str] | None, Parameter(negative=())] = None,
    expires_in_days: float | None = None,
    storage: str | None = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is shown only once.

    Parameters
    ----------
    name
        What the key is for.
    namespace
        The only namespace that it opens.
    right
        read, write, admin, act-as or operator; may be repeated. Default: read and write, and
        act-as unless a user is given.
    user
        The only user that the key acts for.
    user_prefix
        With act-as: only users whose ids start with this.
    group
        With act-as: only these groups; may be repeated.
    expires_in_days
        In how many days the key expires. Default: never.
    storage
        The storage URL, instead of the configured one.
    as_json
        Print one line of JSON.
    """
    inputs = Inputs(SessionSettings.load().limits())
    inputs.name(name, "name")
    if user is not None:
        inputs.user_id(user, "user")
    for name_of_group in group or ():
        inputs.name(name_of_group, "group")
    key_id, secret = new_secret()
    at = utc_now()
    rights = right or (["read", "write"] if user else ["read", "write", "act-as"])
    key = ApiKey(
        id=key_id,
        name=name,
        namespace=namespace,
        secret_hash=hashed(secret),
        rights=tuple(dict.fromkeys(rights)),
        user_id=user,
        user_prefix=user_prefix,
        groups=None if group is None else tuple(group),
        created_at=at,
        expires_at=None if expires_in_days is None else at + _days(expires_in_days),
    )
    with_keys(storage, lambda kept: kept.add(key), namespace=namespace)
    note("This key is shown once; keep it as you would a password.")
    text = key_text(key_id, secret)
    try:
        if as_json:
            say_json({"key": text, **_record(key)})
        else:
            say(text)
    except (OSError, OutputError):
        with_keys(storage, lambda kept: kept.revoke(key_id))
        raise
    _record_in_audit_log("create_key", namespace, key_id)


@keys.command(name="list")
def list_keys(*, storage: str | None = None, as_json: Json = False) -> None:
    """List the existing keys, without their secrets.

    Parameters
    ----------
    storage
        The storage URL, instead of the configured one.
    as_json
        Print one line of JSON.
    """
    found = with_keys(storage, lambda kept: kept.all())
    if as_json:
        say_json([_record(key) for key in found])
        return
    for line in table(_COLUMNS, map(_row, found)):
        say(line)


@keys.command
def revoke(key_id: str, *, storage: str | None = None, as_json: Json = False) -> None:
    """Revoke a key: every worker refuses it within 5 seconds.

    Parameters
    ----------
    key_id
        The id, or the key itself.
    storage
        The storage URL, instead of the configured one.
    as_json
        Print one line of JSON.
    """
    if key_id.startswith("ask_"):
        key_id = key_id.split("_")[1]
    if not is_key_id(key_id) or not with_keys(storage, lambda kept: kept.revoke(key_id)):
        fail("there is no such key", Status.NOT_FOUND)
    _record_in_audit_log("revoke_key", None, key_id)
    if as_json:
        say_json({"id": key_id, "revoked": True})
    else:
        note("The key is revoked.")


def _record_in_audit_log(verb: str, namespace: str | None, key_id: str) -> None:
    """Record what was done to a key, and by which user of this machine."""
    with audit_log_shown():
        audit.record(None, namespace, verb, None, None, key=key_id, user=machine_user())


def with_keys(
    storage: str | None, use: Callable[[Keys], Awaitable[T]], *, namespace: str = "default"
) -> T:
    """Open the place where keys are kept, use it, and close it."""
    return asyncio.run(_with_keys(storage, use, namespace))


async def _with_keys(storage: str | None, use: Callable[[Keys], Awaitable[T]], namespace: str) -> T:
    refuse_misspelt()
    manager = SessionManager(storage, namespace=namespace)
    settings = ServiceSettings.load()
    kept = key_stores(manager, settings)[0]
    if settings.keys_file is not None:
        return await use(kept)
    provider = manager.runtime.storage
    if not provider.capabilities.durable:
        raise ConfigurationError(
            "this store keeps nothing after its process ends; name another one with --storage or"
            " SESSION_STORAGE_URL, or keep keys in a file with SESSION_SERVICE_KEYS_FILE"
        )
    await provider.initialize()
    try:
        return await use(kept)
    finally:
        await provider.shutdown()


def _record(key: ApiKey) -> dict[str, object]:
    """Return what is shown of a key: everything but its secret and hash."""
    record: dict[str, object] = msgspec.to_builtins(key)
    del record["secret_hash"]
    return record


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        key.namespace,
        " ".join(key.rights),
        key.user_id or (key.user_prefix + "*" if "act-as" in key.rights else "-"),
        _day(key.created_at),
        _day(key.expires_at),
        _day(key.last_used_at),
    )


def _days(number: float) -> timedelta:
    if not 0 < number <= _MOST_DAYS:
        raise InvalidInputError("expires_in_days", f"more than 0 and at most {_MOST_DAYS}")
    return timedelta(days=number)


def _day(at: datetime | None) -> str:
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M")
