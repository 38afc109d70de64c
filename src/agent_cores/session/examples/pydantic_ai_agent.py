"""An agent of Pydantic AI whose conversations are kept in a store of ours. Needs no network.

Needs the extra ``pydantic-ai``.

    python -m agent_cores.session.examples.pydantic_ai_agent [STORAGE-URL]
"""

from __future__ import annotations

import asyncio
import sys

from pydantic_ai import Agent, Conversation
from pydantic_ai.models.test import TestModel

from agent_cores.session import SessionManager
from agent_cores.session.adapters.pydantic_ai import SessionConversationStore


async def main(storage: str = "memory://") -> None:
    """Talk twice, and fork the conversation after the first answer."""
    agent = Agent(TestModel(custom_output_text="Take the night train."))
    async with SessionManager(storage) as manager:
        store = SessionConversationStore(manager, user_id="ann")
        for question in ("How do I get to Rome?", "And back?"):
            conversation = await store.load("trip") or Conversation(conversation_id="trip")
            await store.save(await agent.run(question, conversation=conversation))
        await store.fork("trip", at=2, new_conversation_id="another trip")
        for name in ("trip", "another trip"):
            print(f"{len(await store.load_entries(name) or ())} messages in {name}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
