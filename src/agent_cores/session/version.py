"""The version of the installed distribution."""

from __future__ import annotations

import importlib.metadata

_DISTRIBUTION = "agent-cores-session"


def distribution_version() -> str:
    """Return the version, or ``0+unknown`` in a source tree that nobody has installed."""
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
