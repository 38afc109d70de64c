"""The files that hold settings, ``.env`` in the working folder and a TOML file; misspelt names.

An unknown name is rejected in the TOML file, which is ours alone. In the environment and in
``.env``, which others use too, it is ignored, with a warning if it looks misspelt.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PREFIX = "SESSION_"
_MISSPELT = 0.77
"""How similar a name must be to count as a misspelling, where 1 is equal. Found by trying names
that other programs use (``SESSION_MANAGER``, ``SESSION_PREFIX``, ``SESSION_LIFETIME``)."""
_SIMILAR = 0.5

logger: logging.Logger = logging.getLogger("agent_cores.session")
_warned: set[str] = set()


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
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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


def warn_of_misspelt(names: Iterable[str], known: Collection[str], place: str) -> None:
    """Warn of unknown names with our prefix that look misspelt, once for each."""
    for name in names:
        if not name.startswith(PREFIX) or name in known or name in _warned:
            continue
        near = nearest(name, known, _MISSPELT)
        if near is not None:
            _warned.add(name)
            logger.warning("%s in %s is not a setting; did you mean %s?", name, place, near)


def nearest(name: str, known: Collection[str], alike: float) -> str | None:
    """Return the known name that is most similar, if any is at least ``alike``."""
    bare = {each.removeprefix(PREFIX): each for each in known}
    found = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, 1, alike)
    return bare[found[0]] if found else None
