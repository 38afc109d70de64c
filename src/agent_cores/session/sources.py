"""Where settings are written, ``.env`` in the working folder and a TOML file; and misspelt names.

A name that is not ours is refused in our own file. In the environment and in ``.env``, which
others use too, it is passed over, with a warning if it looks like a misspelling of ours.
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
_ALIKE = 0.77
"""How alike a name has to be to be taken for a misspelling, 1 being the same: found by trying the
names that other programs use (``SESSION_MANAGER``, ``SESSION_PREFIX``, ``SESSION_LIFETIME``)."""
_A_LITTLE_ALIKE = 0.5

logger = logging.getLogger("agent_cores.session")
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
    """Return what our own file sets; ``ConfigurationError`` for a name that is not known."""
    try:
        found = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        detail = f"SESSION_CONFIG names {config!r}, which cannot be read as TOML: {error}"
        raise ConfigurationError(detail) from error
    for name in found:
        if name not in known:
            near = nearest(name, known, _A_LITTLE_ALIKE)
            advice = f"did you mean {near}?" if near else "the names are in docs/settings.md"
            detail = (
                f"SESSION_CONFIG names {config!r}, which sets {name!r}: no such setting; {advice}"
            )
            raise ConfigurationError(detail)
    return found


def warn_of_misspelt(names: Iterable[str], known: Collection[str], place: str) -> None:
    """Warn, once a name, of those that begin as ours do and look like one of ours."""
    for name in names:
        if not name.startswith(PREFIX) or name in known or name in _warned:
            continue
        near = nearest(name, known, _ALIKE)
        if near is not None:
            _warned.add(name)
            logger.warning("%s in %s is no setting; did you mean %s?", name, place, near)


def nearest(name: str, known: Collection[str], alike: float) -> str | None:
    """Return the known name that is most like this one, if any is as much alike as that."""
    bare = {each.removeprefix(PREFIX): each for each in known}
    found = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, 1, alike)
    return bare[found[0]] if found else None
