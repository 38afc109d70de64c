"""The files that hold settings, ``.env`` in the working folder and a TOML file; misspelt names.

An unknown name is rejected in the TOML file, which is ours alone. In the environment and in
``.env``, which others use too, it is logged: as a warning if it looks misspelt. The command line
refuses those: see :mod:`agent_cores.session.cli.unknown_names`.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PREFIX = "SESSION_"
_MISSPELT = 0.77
"""How similar a name must be to count as a misspelling, where 1 is equal. Found by trying names
that other programs use (``SESSION_MANAGER``, ``SESSION_PREFIX``, ``SESSION_LIFETIME``)."""
_SIMILAR = 0.5
_OF_OTHERS = frozenset({"SESSION_MANAGER"})
"""What X11 sets in every desktop session."""

logger: logging.Logger = logging.getLogger("agent_cores.session")
_logged: set[str] = set()


def read_dotenv() -> dict[str, str]:
    """Return what ``.env`` in the working folder sets."""
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


def read_toml(config: str, known: Collection[str]) -> dict[str, Any]:
    """Return what the TOML file sets; ``ConfigurationError`` for an unknown name."""
    try:
        found = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # both kinds of bad text are ValueErrors
        detail = f"SESSION_CONFIG names {config!r}, which cannot be read as TOML: {error}"
        raise ConfigurationError(detail) from error
    for name in found:
        if name not in known:
            near = nearest(name, known, _SIMILAR)
            advice = f"did you mean {near}?" if near else "the names are in docs/settings.md"
            detail = (
                f"SESSION_CONFIG names {config!r}, which sets {name!r}: no such setting; {advice}"
            )
            raise ConfigurationError(detail)
    return found


class UnknownName(NamedTuple):
    """A name with our prefix that is not a setting; ``near`` is the most similar setting, if any.

    ``misspelt``: it is so similar that it was probably meant.
    """

    name: str
    place: str
    near: str | None
    misspelt: bool

    def __str__(self) -> str:
        advice = ""
        if self.near is not None:
            asks = "did you mean" if self.misspelt else "the most similar setting is"
            advice = f"; {asks} {self.near}" + ("?" if self.misspelt else "")
        return f"{self.name} in {self.place} is not a setting{advice}"


def unknown_names(names: Iterable[str], known: Collection[str], place: str) -> list[UnknownName]:
    """Return the names with our prefix, in any case, that are not settings."""
    found = []
    for name in sorted(names):
        if not name.upper().startswith(PREFIX) or name in known or name in _OF_OTHERS:
            continue
        meant = nearest(name, known, _MISSPELT)
        near = meant or nearest(name, known, _SIMILAR)
        found.append(UnknownName(name, place, near, meant is not None))
    return found


def log_unknown(found: Iterable[UnknownName], *, at_least: int = logging.INFO) -> None:
    """Log each unknown name once: a warning if it can only be meant for us, else information."""
    for one in found:
        if one.name not in _logged:
            _logged.add(one.name)
            ours = one.misspelt or one.name.upper().startswith(f"{PREFIX}SERVICE_")
            logger.log(max(at_least, logging.WARNING if ours else logging.INFO), "%s", one)


def nearest(name: str, known: Collection[str], alike: float) -> str | None:
    """Return the known name that is most similar, if any is at least ``alike``."""
    bare = {each.removeprefix(PREFIX): each for each in known}
    found = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, 1, alike)
    return bare[found[0]] if found else None
