"""The sessions of OpenAI's Agents SDK: ``OpenAIAgentsSession``.

``session`` is what the SDK calls, ``compaction`` what its wrapper that compacts calls besides.
"""

from __future__ import annotations

from agent_cores.session.adapters.openai_agents.session import OpenAIAgentsSession

__all__ = ["OpenAIAgentsSession"]
