"""The transcripts of the Claude Agent SDK: ``ClaudeSessionStore``."""

from __future__ import annotations

from agent_cores.session.adapters.claude_agent_sdk.store import ClaudeSessionStore

__all__ = ["ClaudeSessionStore"]
