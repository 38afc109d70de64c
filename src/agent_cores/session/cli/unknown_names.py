"""Names that are not settings: the commands refuse a misspelt one and warn of the others.

In a program that uses the library, ``SESSION_COOKIE_NAME`` may be somebody else's. A command is a
process of ours, and one that ignored ``SESSION_STORAGE_ULR`` would work on another store.
"""

from __future__ import annotations

import logging
import os

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.settings import unknown_settings
from agent_cores.session.sources import log_unknown

_SERVICE_LINK = "SESSION_PORT"
"""What Kubernetes sets, besides others, in every pod for a Service that is named ``session``."""


def refuse_misspelt() -> None:
    """Raise ``ConfigurationError`` for names that look misspelt; warn of other unknown ones."""
    unknown = unknown_settings()
    misspelt = [str(one) for one in unknown if one.misspelt]
    if misspelt:
        raise ConfigurationError("; ".join(misspelt) + _advice())
    log_unknown(unknown, at_least=logging.WARNING)


def has_service_links() -> bool:
    """Whether Kubernetes set the address of a Service in variables that are our settings."""
    return os.environ.get(_SERVICE_LINK, "").startswith(("tcp://", "udp://"))


def _advice() -> str:
    if not has_service_links():
        return ""
    return (
        ". Kubernetes sets such names for a Service that is called session: set"
        " enableServiceLinks: false in the pod, or name the Service otherwise"
    )
