"""A graph of LangGraph that remembers its user across threads, in a store of ours.

Needs the packages ``langgraph`` and the extra of that name, and no network.

    python -m agent_cores.session.examples.langgraph_memory [STORAGE-URL]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore  # noqa: TC002 - LangGraph reads the annotation

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.adapters.langgraph_store import SessionStore

MEMORIES = ("memories",)


class State(TypedDict):
    """What the user said, and what the agent answers."""

    said: str
    answer: str


async def talk(state: State, *, store: BaseStore) -> dict[str, Any]:
    """Remember a city that the user names, and recommend those that are known."""
    words = state["said"].split()
    if words[:2] == ["I", "love"]:
        await store.aput(MEMORIES, words[-1], {"kind": "city", "weight": 1})
    known = await store.asearch(MEMORIES, filter={"kind": "city", "weight": {"$gte": 1}})
    return {"answer": f"You love {', '.join(item.key for item in known) or 'nothing yet'}."}


def graph() -> StateGraph[Any, Any, Any, Any]:
    """Return the graph: one node."""
    built = StateGraph(State)
    built.add_node("talk", talk)
    built.add_edge(START, "talk")
    built.add_edge("talk", END)
    return built


async def main(storage: str = "memory://") -> None:
    """Talk in three threads of one user."""
    async with SessionManager(storage, any_loop=True) as manager:
        app = graph().compile(
            checkpointer=SessionSaver(manager, user_id="ann"),
            store=SessionStore(manager, user_id="ann", ttl={"default_ttl": 60 * 24 * 90}),
        )
        for thread, said in enumerate(["I love Rome", "I love Bergen", "Where to go?"]):
            config: Any = {"configurable": {"thread_id": str(thread)}}
            print((await app.ainvoke({"said": said}, config))["answer"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
