"""What ``--session_service_uri=agentsessions://…`` says: the storage, and when sessions end."""

from __future__ import annotations

from urllib.parse import parse_qs

from agent_cores.session.errors import ConfigurationError

_OPTIONS = ("storage", "ttl_hours")


def of_uri(uri: str, ttl_hours: float | None) -> tuple[str | None, float | None]:
    """Return the URL of the storage, ``None`` for the configured one, and the idle time.

    After ``agentsessions://`` comes the URL as it is, or ``?storage=URL&ttl_hours=HOURS``, where it
    is percent-encoded. Options of the URI take precedence over arguments. Raises
    ``ConfigurationError``.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        raise ConfigurationError("uri must begin with agentsessions://")
    start = f"{scheme}{separator}"
    if not rest.startswith("?"):
        return rest or None, ttl_hours
    try:
        given = parse_qs(rest[1:], keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ConfigurationError(f"{start}? is followed by name=value, joined by &") from None
    unknown = sorted(given.keys() - set(_OPTIONS))
    if unknown:
        problem = f"{start} takes storage and ttl_hours, not {', '.join(unknown)}"
        raise ConfigurationError(f"{problem}; percent-encode the URL of the storage")
    for name, values in given.items():
        if len(values) > 1:
            raise ConfigurationError(f"{start} takes {name} once")
    hours = given.get("ttl_hours")
    storage = given.get("storage", [""])[0]
    return storage or None, ttl_hours if hours is None else _number(hours[0])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError("ttl_hours must be a number of hours") from None
