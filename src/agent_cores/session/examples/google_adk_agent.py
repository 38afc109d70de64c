"""An agent of Google's ADK whose sessions are kept in a store of ours. Needs no network.

Needs the extra ``google-adk``.

    python -m agent_cores.session.examples.google_adk_agent [STORAGE-URL]
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.genai import types

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Echo(BaseLlm):
    """A model that repeats the last thing that was said, and how much was said before."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT001, FBT002, ARG002 - ADK's own
    ) -> AsyncGenerator[LlmResponse, None]:
        """Yield the one response."""
        said = [part.text or "" for content in llm_request.contents for part in content.parts or ()]
        text = f"{said[-1]} (after {len(said) - 1} parts)"
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))


def echo_agent() -> LlmAgent:
    """Return an agent with that model, which keeps its last answer in the state."""
    return LlmAgent(name="echo", model=Echo(model="echo"), output_key="answer")


async def main(storage: str = "memory://") -> None:
    """Ask twice in one session."""
    async with SessionManager(storage) as manager:
        service = ADKSessionService(manager)
        runner = Runner(app_name="example", agent=echo_agent(), session_service=service)
        session = await service.create_session(app_name="example", user_id="ann")
        for question in ("Hello", "And now?"):
            message = types.Content(role="user", parts=[types.Part(text=question)])
            async for event in runner.run_async(
                user_id="ann", session_id=session.id, new_message=message
            ):
                for part in (event.content.parts if event.content else None) or ():
                    print(part.text)
        await runner.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
