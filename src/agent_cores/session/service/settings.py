"""``ServiceSettings``: the settings of the HTTP service, each ``SESSION_SERVICE_<NAME>``.

They come from the same sources, in the same order, as the settings of the library.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any, Literal

import msgspec

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.models.representation import hides
from agent_cores.session.models.values import UNREADABLE
from agent_cores.session.service.auth.issuer import Issuer
from agent_cores.session.service.cors import check_origins
from agent_cores.session.settings import SessionSettings, from_files, named

_COMMENT = re.compile(r"\s+#.*$")
_MIB = 1_048_576
_LARGEST_PORT = 65_535
_SHORTEST_LOG_KEY = 16


@hides("log_key")
class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times are in seconds, sizes in bytes. Limits per process apply to each worker."""

    host: str = "127.0.0.1"
    """Address to listen on. ``::`` is every address, IPv4 included; ``0.0.0.0`` is every IPv4
    address; a name is every address that it resolves to."""
    port: int = 8080
    """Port, up to 65535; 0 picks a free one."""
    workers: int = 1
    """Processes."""
    keys_file: str | None = None
    """File of keys (hashes), instead of those in the store."""
    jwt_issuers: tuple[Issuer, ...] = ()
    """Issuers of tokens: a JSON list, in the TOML file tables."""
    jwt_roles: tuple[str, ...] = ("user",)
    """Message roles that a JWT may append and update, separated by commas."""
    client_ids: bool = False
    """Whether callers without ``act-as`` may choose session ids."""
    docs: bool = True
    """Whether ``/docs`` and ``/v1/openapi.json`` are served."""
    max_body_bytes: int = 16 * _MIB
    """Bytes of a request body, less by route; past it 413."""
    max_header_count: int = 100
    """Headers of a request; past it 431."""
    max_header_bytes: int = 32_768
    """Bytes of all headers, path and query included; past it 431."""
    max_url_bytes: int = 8_192
    """Bytes of path and query; past it 414, and the connection is closed."""
    max_buffered_bytes: int | None = None
    """Bytes of all bodies and responses that are held, beyond the first 64 KiB of each, per
    process; if left out, 64 MiB or four of the largest bodies, whichever is more; past it 503."""
    max_connections: int = 2_000
    """Connections, per process; past it the one that has been idle longest is closed, or the new
    one refused with 503."""
    header_timeout: float = 20.0
    """Seconds that a head may take to arrive, then the connection is closed; 0 is no bound."""
    body_timeout: float = 20.0
    """Seconds that a body may take to arrive, then 503 and the connection is closed; 0 is no bound.
    """
    send_timeout: float = 20.0
    """Seconds that a caller may take for each MiB of a response, then the connection is closed; 0
    is no bound."""
    keep_alive: float = 75.0
    """Seconds that a connection may be idle; must be longer than the proxy in front keeps one. 0 is
    one request per connection."""
    max_in_flight: int = 1_000
    """Requests being served, per process; past it 503."""
    max_in_flight_per_caller: int = 200
    """Requests of one caller being served, per process; past it 429."""
    requests_per_second: float = 0.0
    """Requests per second of one caller, per process, then 429; 0 is no bound."""
    failed_logins_per_minute: int = 60
    """Failed logins per minute of one IPv4 address, or one /64 of IPv6, per process; past it 429,
    except for keys seen before and valid tokens."""
    trusted_proxies: tuple[str, ...] = ()
    """Proxies whose ``X-Forwarded-For`` is trusted: addresses and networks, separated by commas."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages browsers let call the service, such as ``https://app.example.com``,
    separated by commas; never ``*``."""
    metrics_port: int | None = None
    """Port, on ``SESSION_SERVICE_HOST``, of a listener for Prometheus; whoever reaches it gets a
    response. If left out, there is none."""
    tracing: bool = False
    """Whether requests and calls of the store are spans of OpenTelemetry."""
    otel_metrics: bool = False
    """Whether the service is measured through OpenTelemetry's API."""
    log_user_ids: Literal["hashed", "plain"] = "hashed"
    """How the line of a request names its user: ``hashed`` with the key, or ``plain``."""
    log_key: str | None = None
    """The secret key of these hashes, at least 16 characters, which ``agent-sessions log-id`` needs
    too; if left out, a new one at each start."""
    drain_seconds: float = 0.0
    """Seconds that ``/readyz`` returns 503 before connections are closed."""
    shutdown_timeout: float = 20.0
    """Seconds that requests in flight may then take; a caller that reads nothing of its response
    for a second is not waited for."""

    def __post_init__(self) -> None:
        """Refuse values out of range, and issuers that could be mistaken for each other."""
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            if type(default) is int and value < (0 if name == "port" else 1):
                raise ConfigurationError(f"{environment_name(name)} is at least 1")
            if type(default) is float and not 0 <= value < float("inf"):
                raise ConfigurationError(f"{environment_name(name)} is 0 or more")
        if self.port > _LARGEST_PORT:
            raise ConfigurationError(f"SESSION_SERVICE_PORT is at most {_LARGEST_PORT}")
        if self.metrics_port is not None and not 0 < self.metrics_port <= _LARGEST_PORT:
            raise ConfigurationError(f"SESSION_SERVICE_METRICS_PORT is 1 to {_LARGEST_PORT}")
        if self.max_buffered_bytes is not None and self.max_buffered_bytes < self.max_body_bytes:
            raise ConfigurationError(
                "SESSION_SERVICE_MAX_BUFFERED_BYTES is at least SESSION_SERVICE_MAX_BODY_BYTES,"
                f" which is {self.max_body_bytes}"
            )
        if self.log_key is not None and len(self.log_key) < _SHORTEST_LOG_KEY:
            raise ConfigurationError(
                f"SESSION_SERVICE_LOG_KEY is at least {_SHORTEST_LOG_KEY} characters long:"
                " a shorter one can be tried out"
            )
        _check_issuers(self.jwt_issuers)
        _check_networks(self.trusted_proxies)
        check_origins(self.cors_origins)

    @property
    def most_buffered(self) -> int:
        """``max_buffered_bytes``, or its default."""
        if self.max_buffered_bytes is not None:
            return self.max_buffered_bytes
        return max(64 * _MIB, 4 * self.max_body_bytes)

    @classmethod
    def load(cls, **arguments: Any) -> ServiceSettings:  # noqa: ANN401 - checked against the fields
        """Read every source; arguments are fields of this class and take precedence."""
        unknown = arguments.keys() - set(cls.__struct_fields__)
        if unknown:
            raise ConfigurationError(f"no such setting: {', '.join(sorted(unknown))}")
        found = from_files()
        found.update(os.environ)
        values: dict[str, Any] = {}
        for name in cls.__struct_fields__:
            text = found.get(environment_name(name))
            if text is not None and text != "":
                values[name] = _read(name, text)
        try:
            return msgspec.convert(values | arguments, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(named(str(error), environment_name)) from error


def environment_name(field: str) -> str:
    """Return the environment variable of a field."""
    return f"SESSION_SERVICE_{field.upper()}"


def _read(name: str, text: object) -> object:
    if not isinstance(text, str):
        return text
    bare = _COMMENT.sub("", text).strip()
    if name in {"jwt_roles", "trusted_proxies", "cors_origins"}:
        return [part.strip() for part in bare.split(",")]
    if name == "jwt_issuers":
        return _read_issuers(text, bare)
    return bare


def _read_issuers(text: str, bare: str) -> object:
    """Parse JSON, first as it is: what looks like a comment may be part of a secret."""
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        pass
    try:
        return msgspec.json.decode(bare)
    except UNREADABLE as error:
        raise ConfigurationError(f"{environment_name('jwt_issuers')} is a JSON list") from error


def _check_issuers(issuers: tuple[Issuer, ...]) -> None:
    if len({issuer.issuer for issuer in issuers}) < len(issuers):
        raise ConfigurationError("SESSION_SERVICE_JWT_ISSUERS names an issuer twice")
    for index, one in enumerate(issuers):
        for other in issuers[index + 1 :]:
            shared = set(one.namespaces) & set(other.namespaces)
            if shared and one.user_prefix == other.user_prefix:
                raise ConfigurationError(
                    f"issuers {one.issuer} and {other.issuer} share the namespace"
                    f" {min(shared)} and so must differ in user_prefix"
                )


def _check_networks(proxies: tuple[str, ...]) -> None:
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            raise ConfigurationError(
                "SESSION_SERVICE_TRUSTED_PROXIES holds addresses and networks,"
                " such as 10.0.0.1 or 10.0.0.0/8, separated by commas"
            ) from error


__all__ = ["ServiceSettings", "SessionSettings", "environment_name"]
