"""The transcripts of the Claude Agent SDK: ``ClaudeSessionStore``.

``store`` is what the SDK calls. Entries become ``parts`` of a batch, and each ``transcript`` writes
them; ``known`` is what it need not read again.
"""

from __future__ import annotations

from agent_cores.session.adapters.claude_agent_sdk.store import ClaudeSessionStore

__all__ = ["ClaudeSessionStore"]
