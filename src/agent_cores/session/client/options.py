"""The options of a client, checked. Messages never repeat them: a URL may contain a password."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from yarl import URL

from agent_cores.session.errors import ConfigurationError

_DAY = 86_400
_OWN = frozenset(
    {
        "accept",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "if-match",
        "transfer-encoding",
        "x-operator",
        "x-user-groups",
        "x-user-id",
    }
)
"""Headers that the client sets itself."""
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def checked_url(value: object) -> str:
    """Return the base URL, which may have a path of its own."""
    if not isinstance(value, str) or not value.lower().startswith(("https://", "http://")):
        raise ConfigurationError("base_url begins with https:// or http://")
    if not value.isprintable() or " " in value or "\\" in value:
        raise ConfigurationError("base_url has no spaces, backslashes or control characters")
    try:
        url = URL(value)
    except ValueError:
        url = URL()
    if not url.host or url.port == 0:
        raise ConfigurationError("base_url has a host and, perhaps, a port from 1 to 65535")
    if url.user is not None or url.password is not None:
        raise ConfigurationError("base_url holds no user or password; the service takes an api_key")
    if "?" in value or "#" in value:
        raise ConfigurationError("base_url has no query and no fragment")
    return str(url).rstrip("/")


def checked_key(value: object) -> str:
    """Return the credential, which must be valid in a header."""
    if (
        not isinstance(value, str)
        or not value
        or not value.isascii()
        or not value.isprintable()
        or " " in value
    ):
        raise ConfigurationError("api_key is an API key or a token: ASCII without spaces")
    return value


def checked_seconds(value: object, name: str) -> float:
    """Return a duration that is positive and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} is a number of seconds, not {type(value).__name__}")
    if not 0 < value <= _DAY:
        raise ConfigurationError(f"{name} is more than 0 and at most a day")
    return float(value)


def checked_count(value: object, name: str, least: int) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is a whole number, at least {least}")
    return value


def checked_ssl(value: object) -> ssl.SSLContext | None:
    """Return the TLS context; the default trusts the system's certificates."""
    if value is not None and not isinstance(value, ssl.SSLContext):
        raise ConfigurationError(f"ssl_context is an ssl.SSLContext, not {type(value).__name__}")
    return value


def checked_proxy(value: object) -> URL | None:
    """Return the proxy's address, which may contain a user name and password."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.lower().startswith(("https://", "http://")):
        raise ConfigurationError("proxy begins with http:// or https://")
    try:
        url = URL(value)
    except ValueError:
        url = URL()
    if not url.host or url.port == 0 or not value.isprintable() or " " in value:
        raise ConfigurationError("proxy has a host and, perhaps, a port from 1 to 65535")
    return url


def checked_headers(value: object) -> dict[str, str]:
    """Return headers to send with every request; refuse those that the client sets itself."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"headers is a mapping, not {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not name or not set(name) <= _TOKEN:
            raise ConfigurationError("headers: a name is letters, digits and -")
        if name.lower() in _OWN:
            raise ConfigurationError(f"headers: the client sets {name} itself")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise ConfigurationError(f"headers: the value of {name} is printable ASCII text")
    return dict(value)
