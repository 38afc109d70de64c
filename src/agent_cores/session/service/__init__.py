"""The HTTP service: the manager's verbs over HTTP, for programs in any language."""

from __future__ import annotations

from agent_cores.session.service.app import Service, create_app
from agent_cores.session.service.settings import ServiceSettings

__all__ = ["Service", "ServiceSettings", "create_app"]
