"""The long-term memory of LangGraph: ``SessionStore``. Its checkpoints are in ``langgraph``.

``store`` is what graphs call. Each ``namespace`` is a session with ``items``; ``matching`` decides
what a search finds, and the ``sweeper`` removes what has expired.
"""

from __future__ import annotations

from agent_cores.session.adapters.langgraph_store.store import SessionStore

__all__ = ["SessionStore"]
