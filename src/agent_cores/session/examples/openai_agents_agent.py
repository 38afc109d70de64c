"""An agent of OpenAI's Agents SDK whose conversation is in a store of ours.

A scripted model answers, so the example needs neither a key nor a network. Needs the extra
``openai-agents``.

    python -m agent_cores.session.examples.openai_agents_agent [STORAGE-URL]
"""

from __future__ import annotations

import asyncio
import sys

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from agent_cores.session import SessionManager
from agent_cores.session.adapters.openai_agents import OpenAIAgentsSession
from agent_cores.session.inputs import new_id


@function_tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


async def main(storage: str = "memory://") -> None:
    """Run two turns of one conversation, and show what is stored."""
    set_tracing_disabled(disabled=True)
    model = ScriptedModel(
        [
            [function_call("weather", {"city": "Oslo"}, call_id="call_1")],
            [assistant_message("It rains in Oslo.")],
            [assistant_message("You asked about Oslo.")],
        ]
    )
    agent = Agent("helper", model=model, tools=[weather])
    session_id = f"chat-{new_id()}"
    async with SessionManager(storage) as manager:
        for question in ("What is the weather in Oslo?", "What did I ask?"):
            session = OpenAIAgentsSession(session_id, manager, user_id="ann")
            result = await Runner.run(agent, question, session=session)
            print(result.final_output)
        stored = await manager.get_session_messages(session_id, "ann")
        print(", ".join(message.role for message in stored))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
