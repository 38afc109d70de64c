"""The conversations of Pydantic AI: ``SessionConversationStore``.

``store`` is what agents call. The ``codec`` is how records and entries are stored, and the
``directory`` is where they are found.
"""

from __future__ import annotations

from agent_cores.session.adapters.pydantic_ai.store import SessionConversationStore

__all__ = ["SessionConversationStore"]
