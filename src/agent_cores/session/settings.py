"""``SessionSettings``: what may be set from outside, and where each value comes from.

Precedence: argument, environment, ``.env`` in the working folder, the TOML file named by
``SESSION_CONFIG``, default. In all of them a setting has the same name, in capitals: the field's
name with ``SESSION_`` before it, and ``REDIS_URL``. Unknown ``SESSION_*`` names are ignored,
since others use that prefix too.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.models.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMENT = re.compile(r"\s+#.*$")


_DAY = 86_400
_CENTURY = 100 * 366 * _DAY
_TIMES = frozenset({"default_expiry", "cleanup_interval", "timeout", "max_clock_skew"})


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Times are seconds, sizes are bytes. A value out of range is refused by name."""

    storage_url: str | None = None
    redis_url: str | None = None
    key_prefix: str = "session:"
    default_expiry: float = 86_400.0
    cleanup_interval: float = 60.0
    pool_size: int = 10
    timeout: float = 10.0
    schema: str = "apply"
    table_prefix: str | None = None
    database_schema: str = "public"
    max_clock_skew: float = 5.0
    max_cached_headers: int = 10_000
    max_cached_header_bytes: int = 33_554_432
    max_queued_writes: int = 10_000
    max_name_bytes: int = 255
    max_tags: int = 64
    max_groups: int = 256
    max_grants: int = 1_000
    max_content_bytes: int = 1_048_576
    max_metadata_bytes: int = 65_536
    max_context_bytes: int = 1_048_576
    max_context_keys: int = 1_000
    max_append_messages: int = 1_000
    max_append_bytes: int = 8_388_608
    max_page_items: int = 1_000
    max_page_bytes: int = 4_194_304
    max_json_depth: int = 100

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("default_expiry", "cleanup_interval"):
            _refuse(name, not 0 <= getattr(self, name) <= _CENTURY, "0 or more, at most a century")
        _refuse("timeout", not 0 < self.timeout <= _DAY, "more than 0, at most a day")
        _refuse("max_clock_skew", not self.max_clock_skew > 0, "more than 0")
        _refuse("schema", self.schema not in {"apply", "check"}, "apply or check")
        wrong = re.fullmatch(r"[A-Za-z0-9_]{0,40}", self.table_prefix or "") is None
        _refuse("table_prefix", wrong, "letters, digits and _, at most 40")
        _refuse("database_schema", not self.database_schema, "the name of a PostgreSQL schema")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is int and name not in _TIMES:
                _refuse(name, value < 1, "at least 1")

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("storage_url", "redis_url"):  # they may hold a password
            if shown[name]:
                shown[name] = f"{shown[name].partition(':')[0]}:…"
        fields = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__name__}({fields})"

    def limits(self) -> Limits:
        """Return the bounds that these settings give."""
        named = {f"max_{name}": name for name in Limits.__struct_fields__}
        given = {name: getattr(self, key) for key, name in named.items() if hasattr(self, key)}
        return Limits(**given)

    @classmethod
    def load(cls, **arguments: Any) -> SessionSettings:  # noqa: ANN401 - checked against the fields
        """Read every source; arguments are fields of this class and come first."""
        unknown = arguments.keys() - set(cls.__struct_fields__)
        if unknown:
            detail = f"no such setting: {', '.join(sorted(unknown))}"
            raise ConfigurationError(detail)
        found = from_files()
        found.update(os.environ)
        values: dict[str, Any] = {}
        for name in cls.__struct_fields__:
            value = found.get(environment_name(name))
            if isinstance(value, str):
                value = _COMMENT.sub("", value).strip()
            if value is not None and value != "":
                values[name] = value
        try:
            return msgspec.convert(values | arguments, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(_named(str(error))) from error


def environment_name(field: str) -> str:
    """Return the name under which a field is set: ``REDIS_URL``, else ``SESSION_<FIELD>``."""
    return "REDIS_URL" if field == "redis_url" else f"SESSION_{field.upper()}"


def _refuse(field: str, wrong: bool, bound: str) -> None:  # noqa: FBT001 - a private check
    if wrong:
        detail = f"{environment_name(field)} is {bound}"
        raise ConfigurationError(detail)


def _named(problem: str) -> str:
    """Name the setting in a message of the converter, which knows only ``$.field``."""
    return re.sub(r"`\$\.(\w+)`", lambda match: environment_name(match[1]), problem)


def from_files() -> dict[str, Any]:
    """Return what ``.env`` and the TOML file named by ``SESSION_CONFIG`` set, by name."""
    dotenv = _dotenv()
    found: dict[str, Any] = {}
    config = os.environ.get("SESSION_CONFIG") or dotenv.get("SESSION_CONFIG")
    if config:
        try:
            found.update(tomllib.loads(Path(config).read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            detail = f"SESSION_CONFIG names {config!r}, which cannot be read as TOML: {error}"
            raise ConfigurationError(detail) from error
    found.update(dotenv)
    return found


def _dotenv() -> Mapping[str, str]:
    path = Path(".env")
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 - only where there is such a file

    try:
        found = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        detail = f".env in the working folder cannot be read: {error}"
        raise ConfigurationError(detail) from error
    return {name: value for name, value in found.items() if value is not None}
