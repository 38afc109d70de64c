"""The adapters of frameworks as contenders, each in the group of the framework's own store.

They run in the peers' environment. In a group of ours, "ours is" compares an adapter with the bare
manager: it is what the adapter costs.
"""

from __future__ import annotations

from benchmarks.entries import Contender

LANGGRAPH = "langgraph"
LANGGRAPH_POSTGRES_GROUP = "langgraph-postgres"
_OF_A_STORE = ("append", "read", "length", "depth")
_OF_A_SAVER = ("append", "length", "depth", "checkpoint")

OPENAI_ON_SQLITE = Contender(
    "openai-agents on agent_cores, SQLite",
    "sqlite",
    "adapter",
    "benchmarks.adapters.openai_agents:OpenAIAgentsOnSqlite",
    home="peers",
    only=_OF_A_STORE,
)
OPENAI_ON_REDIS = Contender(
    "openai-agents on agent_cores, Redis",
    "redis",
    "adapter",
    "benchmarks.adapters.openai_agents:OpenAIAgentsOnRedis",
    home="peers",
    server="valkey",
    only=_OF_A_STORE,
)
OPENAI_ON_POSTGRES = Contender(
    "openai-agents on agent_cores, PostgreSQL",
    "postgres",
    "adapter",
    "benchmarks.adapters.openai_agents:OpenAIAgentsOnPostgres",
    home="peers",
    server="postgres",
    only=_OF_A_STORE,
)
ADK_ON_SQLITE = Contender(
    "ADK on agent_cores, SQLite",
    "sqlite",
    "adapter",
    "benchmarks.adapters.google_adk:AdkOnSqlite",
    home="peers",
    only=(*_OF_A_STORE, "list"),
)
ADK_ON_POSTGRES = Contender(
    "ADK on agent_cores, PostgreSQL",
    "postgres",
    "adapter",
    "benchmarks.adapters.google_adk:AdkOnPostgres",
    home="peers",
    server="postgres",
    only=(*_OF_A_STORE, "list"),
)
LANGGRAPH_SQLITE = Contender(
    "LangGraph AsyncSqliteSaver",
    LANGGRAPH,
    "peer",
    "benchmarks.peers.langgraph_sqlite:LangGraphSqlite",
    home="peers",
    only=_OF_A_SAVER,
)
LANGGRAPH_ON_SQLITE = Contender(
    "LangGraph on agent_cores, SQLite",
    LANGGRAPH,
    "ours",
    "benchmarks.adapters.langgraph:LangGraphOnSqlite",
    home="peers",
    only=_OF_A_SAVER,
)
LANGGRAPH_POSTGRES = Contender(
    "LangGraph AsyncPostgresSaver",
    LANGGRAPH_POSTGRES_GROUP,
    "peer",
    "benchmarks.peers.langgraph_postgres:LangGraphPostgres",
    home="peers",
    server="postgres",
    only=_OF_A_SAVER,
)
LANGGRAPH_ON_POSTGRES = Contender(
    "LangGraph on agent_cores, PostgreSQL",
    LANGGRAPH_POSTGRES_GROUP,
    "ours",
    "benchmarks.adapters.langgraph:LangGraphOnPostgres",
    home="peers",
    server="postgres",
    only=_OF_A_SAVER,
)

ADAPTERS = (
    OPENAI_ON_SQLITE,
    OPENAI_ON_REDIS,
    OPENAI_ON_POSTGRES,
    ADK_ON_SQLITE,
    ADK_ON_POSTGRES,
    LANGGRAPH_SQLITE,
    LANGGRAPH_ON_SQLITE,
    LANGGRAPH_POSTGRES,
    LANGGRAPH_ON_POSTGRES,
)
"""With the frameworks' own stores that no other group has."""
