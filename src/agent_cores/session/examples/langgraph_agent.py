"""A graph of LangGraph that asks a human, whose checkpoints are kept in a store of ours.

Needs the packages ``langgraph`` and the extra of that name, and no network.

    python -m agent_cores.session.examples.langgraph_agent [STORAGE-URL]
"""

from __future__ import annotations

import asyncio
import operator
import sys
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver


class State(TypedDict):
    """What was said; each node adds to it."""

    said: Annotated[list[str], operator.add]


def plan(state: State) -> dict[str, Any]:
    """Propose a plan."""
    return {"said": [f"Plan {len(state['said'])}"]}


def review(state: State) -> dict[str, Any]:
    """Ask a human about the plan, and stop until there is an answer."""
    return {"said": [interrupt(f"Is {state['said'][-1]} good?")]}


def graph() -> StateGraph[Any, Any, Any, Any]:
    """Return the graph: a plan, then its review."""
    built = StateGraph(State)
    built.add_node("plan", plan)
    built.add_node("review", review)
    built.add_edge(START, "plan")
    built.add_edge("plan", "review")
    built.add_edge("review", END)
    return built


async def main(storage: str = "memory://") -> None:
    """Run to the question, answer it, and look at an earlier state."""
    config: Any = {"configurable": {"thread_id": "trip"}}
    async with SessionManager(storage, any_loop=True) as manager:
        app = graph().compile(checkpointer=SessionSaver(manager, user_id="ann"))
        asked = await app.ainvoke({"said": ["Rome"]}, config)
        print(asked["__interrupt__"][0].value)
        done = await app.ainvoke(Command(resume="Yes."), config)
        print(done["said"])
        async for earlier in app.aget_state_history(config):
            print(earlier.next, len(earlier.values.get("said", [])))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
