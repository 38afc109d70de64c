"""The command ``agent-sessions``."""

from __future__ import annotations

from agent_cores.session.cli.main import main

__all__ = ["main"]
