"""URLs of Redis: the servers that they name, and the options of connections to them.

    redis://[user[:password]@]host[:port][/db]      rediss://… with TLS      unix:///path?db=0
    redis+sentinel://host[:port],host[:port]/service[/db]      rediss+sentinel://…
    redis+cluster://host[:port],host[:port]                     rediss+cluster://…

``valkey`` is the same as ``redis`` in each. Options of redis-py in the query string are passed on
to it (``client_name``, ``ssl_ca_certs``, ``protocol``, …); unknown options are rejected. The
sentinels' own user and password are ``sentinel_username`` and ``sentinel_password``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.redis.driver import SSLConnection, parse_url
from agent_cores.session.storage.redis.options import RedisOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_URL = re.compile(r"(?:redis|valkey)(?P<tls>s?)(?:\+(?P<kind>cluster|sentinel))?", re.IGNORECASE)
_CERT_REQS = ("none", "optional", "required")
_PORTS = {"cluster": 6379, "sentinel": 26379}
UNUSABLE = (
    "the Redis URL cannot be used: it has an unknown option, or a wrong value of an option, a port"
    " or a database; in a password, write % : / ? # [ ] @ percent-encoded"
)


class Target(NamedTuple):
    """The servers that a URL names. ``hosts`` are those to ask, of Sentinel or a cluster."""

    kind: str = "server"
    hosts: Sequence[tuple[str, int]] = ()
    service: str = ""
    options: Mapping[str, Any] = {}
    """redis-py's options of a connection."""


def split_url(url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL without the provider's own options, and these."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(UNUSABLE) from None
    options, others = RedisOptions.split_query(
        parts.query, aliases={"max_connections": "pool_size"}
    )
    if not options:
        return url, {}
    changed = parts._replace(query=urlencode(others)).geturl()
    return changed if parts.netloc or parts.path else f"{parts.scheme}://", options


def without_login(url: str) -> str:
    """Return the URL without user, password and query.

    Without its hosts too, if a later ``@`` makes it unclear where the password ends.
    """
    scheme, mark, rest = url.partition("://")
    (authority,) = re.findall(r"^[^/?#]*", rest)
    if "@" in rest[len(authority) :]:
        return f"{scheme}{mark}…"
    return scheme + mark + re.split(r"[?#]", rest)[0].rpartition("@")[2]


def parse(url: str) -> Target:
    """Return the servers that a URL names. The driver's errors are not translated here."""
    scheme, _, rest = url.partition("://")
    known = _URL.fullmatch(scheme)
    if known is None:
        return Target(options=_options(url))
    tls = "s" if known["tls"] else ""
    if known["kind"] is None:
        return Target(options=_options(f"redis{tls}://{rest}"))
    return _several_hosts(rest, known["kind"].lower(), tls)


def _several_hosts(rest: str, kind: str, tls: str) -> Target:
    authority, slash, tail = rest.partition("/")
    if not slash:
        authority, mark, query = rest.partition("?")
        tail = mark + query
    login, at, names = authority.rpartition("@")
    hosts = [_host(name, _PORTS[kind]) for name in names.split(",")]
    service = ""
    if kind == "sentinel":
        path, mark, query = tail.partition("?")
        service, _, path = path.partition("/")
        if not service:
            detail = "the name of the service is missing: redis+sentinel://host,host/service"
            raise ConfigurationError(detail)
        tail = path + mark + query
    options = _options(f"redis{tls}://{login}{at}h/{tail}")
    if kind == "cluster" and options.pop("db", 0):
        detail = "a cluster only has database 0: the URL names another one"
        raise ConfigurationError(detail)
    del options["host"]
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return Target(kind, hosts, unquote(service), options)


def _options(url: str) -> dict[str, Any]:
    """Return redis-py's options of a URL. redis-py itself ignores a path that is not a number."""
    parts = urlsplit(url)
    if parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*/?", unquote(parts.path)):
        detail = "the path of a Redis URL is the number of a database: redis://host/0"
        raise ConfigurationError(detail)
    options = dict(parse_url(url))
    if options.get("ssl_cert_reqs", "none") not in _CERT_REQS:
        detail = f"ssl_cert_reqs in the Redis URL must be one of {', '.join(_CERT_REQS)}"
        raise ConfigurationError(detail)
    return options


def _host(name: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    if not parts.hostname:
        detail = "a host of the Redis URL has no name: redis+cluster://host[:port],host[:port]"
        raise ConfigurationError(detail)
    return parts.hostname, parts.port or port
