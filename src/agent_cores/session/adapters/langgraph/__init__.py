"""The checkpoints of LangGraph: ``SessionSaver``. Its long-term memory is in ``langgraph_store``.

``saver`` is what graphs call, with its twins in ``blocking``, and ``agent_server`` makes one. A
``thread`` is a ``log`` of checkpoints and the ``data`` that they refer to, both of them
``messages``. What is done to it is in ``putting``, ``removal``, ``copying`` and ``delta``;
``known`` is what need not be read again.
"""

from __future__ import annotations

from agent_cores.session.adapters.langgraph.agent_server import agent_server_checkpointer
from agent_cores.session.adapters.langgraph.saver import SessionSaver

__all__ = ["SessionSaver", "agent_server_checkpointer"]
