"""The conversations of Pydantic AI: ``SessionConversationStore``.

``store`` is what agents call. It keeps conversations in ``families``, and finds them in a
``directory``; the ``codec`` is how records and entries are stored.
"""

from __future__ import annotations

from agent_cores.session.adapters.pydantic_ai.store import SessionConversationStore

__all__ = ["SessionConversationStore"]
