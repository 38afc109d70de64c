"""The contenders and workloads: a new contender or workload is one file and one entry here.

Contenders are compared within their group, which is the kind of storage underneath. Nothing here
imports a contender, because each runs in its own process, and perhaps in its own environment.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.adapter_catalogue import ADAPTERS, LANGGRAPH, LANGGRAPH_POSTGRES_GROUP
from benchmarks.entries import Contender, Workload

FIRST_MESSAGE = "a session begins with its first message"

OURS_SQLITE = Contender("agent_cores, SQLite", "sqlite", "ours", "benchmarks.ours:SqliteStore")
OURS_MEMORY = Contender("agent_cores, memory", "memory", "ours", "benchmarks.ours:MemoryStore")
LIMIT_SQLITE = Contender(
    "limit: apsw by hand",
    "sqlite",
    "limit",
    "benchmarks.limits.sqlite_group_commit:SqliteGroupCommit",
    only=("append", "read", "create"),
)
OPENAI_SQLITE = Contender(
    "openai-agents SQLiteSession",
    "sqlite",
    "peer",
    "benchmarks.peers.openai_agents_sqlite:OpenAIAgentsSqlite",
    home="peers",
    statement="from agents import SQLiteSession",
    lacks={
        "create": FIRST_MESSAGE,
        "list": "SQLiteSession lists no sessions",
        "sweep": "SQLiteSession has no expiry",
    },
)
ADK_SQLITE = Contender(
    "ADK DatabaseSessionService",
    "sqlite",
    "peer",
    "benchmarks.peers.google_adk:AdkSqlite",
    home="peers",
    statement="from google.adk.sessions import DatabaseSessionService",
    lacks={"sweep": "ADK sessions have no expiry"},
)
ADK_MEMORY = Contender(
    "ADK InMemorySessionService",
    "memory",
    "peer",
    "benchmarks.peers.google_adk:AdkMemory",
    home="peers",
    statement="from google.adk.sessions import InMemorySessionService",
    lacks={"sweep": "ADK sessions have no expiry"},
)
ADK_MEMORY_EVENTS_READY = Contender(
    "ADK in memory, events ready-made",
    "memory",
    "peer",
    "benchmarks.peers.google_adk:AdkMemoryEventsReady",
    home="peers",
    only=("append",),
)
OURS_REDIS = Contender(
    "agent_cores, Redis", "redis", "ours", "benchmarks.ours:RedisStore", server="valkey"
)
LIMIT_REDIS = Contender(
    "limit: hiredis by hand",
    "redis",
    "limit",
    "benchmarks.limits.redis_one_connection:RedisOneConnection",
    server="valkey",
    only=("append", "create"),
)
OPENAI_REDIS = Contender(
    "openai-agents RedisSession",
    "redis",
    "peer",
    "benchmarks.peers.openai_agents_redis:OpenAIAgentsRedis",
    home="peers",
    server="valkey",
    statement="from agents.extensions.memory import RedisSession",
    lacks={
        "create": FIRST_MESSAGE,
        "list": "RedisSession lists no sessions",
        "sweep": "Redis itself expires its keys",
    },
)
LLAMA_INDEX_REDIS = Contender(
    "LlamaIndex RedisChatStore",
    "redis",
    "peer",
    "benchmarks.peers.llama_index_redis:LlamaIndexRedis",
    home="peers",
    server="valkey",
    statement="from llama_index.storage.chat_store.redis import RedisChatStore",
    lacks={
        "create": FIRST_MESSAGE,
        "list": "RedisChatStore lists keys, all of them",
        "sweep": "Redis itself expires keys",
    },
)
LLAMA_INDEX_REDIS_FOREVER = Contender(
    "RedisChatStore without expiry",
    "redis",
    "peer",
    "benchmarks.peers.llama_index_redis:LlamaIndexRedisForever",
    home="peers",
    server="valkey",
    only=("append",),
)
OURS_POSTGRES = Contender(
    "agent_cores, PostgreSQL",
    "postgres",
    "ours",
    "benchmarks.ours:PostgresStore",
    server="postgres",
)
LIMIT_POSTGRES = Contender(
    "limit: asyncpg by hand",
    "postgres",
    "limit",
    "benchmarks.limits.postgres_group_commit:PostgresGroupCommit",
    server="postgres",
    only=("append", "create"),
)
OPENAI_POSTGRES = Contender(
    "openai-agents SQLAlchemySession",
    "postgres",
    "peer",
    "benchmarks.peers.openai_agents_postgres:OpenAIAgentsPostgres",
    home="peers",
    server="postgres",
    statement="from agents.extensions.memory import SQLAlchemySession",
    lacks={
        "create": FIRST_MESSAGE,
        "list": "SQLAlchemySession lists no sessions",
        "sweep": "it has no expiry",
    },
)
ADK_POSTGRES = Contender(
    "ADK on PostgreSQL",
    "postgres",
    "peer",
    "benchmarks.peers.google_adk:AdkPostgres",
    home="peers",
    server="postgres",
    lacks={"sweep": "ADK sessions have no expiry"},
)
OURS_MYSQL = Contender(
    "agent_cores, MariaDB", "mysql", "ours", "benchmarks.ours:MysqlStore", server="mariadb"
)
LIMIT_MYSQL = Contender(
    "limit: asyncmy by hand",
    "mysql",
    "limit",
    "benchmarks.limits.mysql_group_commit:MysqlGroupCommit",
    server="mariadb",
    only=("append", "create"),
)
ADK_MYSQL = Contender(
    "ADK on MariaDB",
    "mysql",
    "peer",
    "benchmarks.peers.google_adk:AdkMysql",
    home="peers",
    server="mariadb",
    lacks={"sweep": "ADK sessions have no expiry"},
)
SERVICE_MEMORY = Contender(
    "agent_cores service, memory",
    "http",
    "ours",
    "benchmarks.ours_over_http:ServiceOnMemory",
    only=("http",),
)
SERVICE_SQLITE = Contender(
    "agent_cores service, SQLite",
    "http-sqlite",
    "ours",
    "benchmarks.ours_over_http:ServiceOnSqlite",
    only=("http", "http-create"),
)
LIMIT_HTTP = Contender(
    "limit: Starlette echo", "http", "limit", "benchmarks.limits.http_echo:HttpEcho", only=("http",)
)
ADK_SERVER = Contender(
    "adk api_server, SQLite",
    "http-sqlite",
    "peer",
    "benchmarks.peers.google_adk_server:AdkServer",
    home="peers",
    only=("http-create",),
)

ANY_LOOP_MEMORY = Contender(
    "agent_cores, memory, any loop",
    "any-loop",
    "ours",
    "benchmarks.ours:AnyLoopMemoryStore",
    only=("any-loop",),
)
ANY_LOOP_SQLITE = Contender(
    "agent_cores, SQLite, any loop",
    "any-loop-sqlite",
    "ours",
    "benchmarks.ours:AnyLoopSqliteStore",
    only=("any-loop",),
)

BY_ID = tuple(
    replace(ours, group=f"by-id-{ours.group}", only=("by-id",))
    for ours in (OURS_SQLITE, OURS_REDIS, OURS_POSTGRES)
)
TAIL = tuple(
    replace(ours, group=f"tail-{ours.group}", only=("tail",))
    for ours in (OURS_SQLITE, OURS_REDIS, OURS_POSTGRES, OURS_MYSQL)
)
OPERATOR = tuple(
    replace(ours, group=f"operator-{ours.group}", only=("operator",))
    for ours in (OURS_SQLITE, OURS_REDIS, OURS_POSTGRES, OURS_MYSQL)
)

CONTENDERS = (
    ANY_LOOP_MEMORY,
    ANY_LOOP_SQLITE,
    OURS_SQLITE,
    LIMIT_SQLITE,
    OPENAI_SQLITE,
    ADK_SQLITE,
    OURS_MEMORY,
    ADK_MEMORY,
    ADK_MEMORY_EVENTS_READY,
    OURS_REDIS,
    LIMIT_REDIS,
    OPENAI_REDIS,
    LLAMA_INDEX_REDIS,
    LLAMA_INDEX_REDIS_FOREVER,
    OURS_POSTGRES,
    LIMIT_POSTGRES,
    OPENAI_POSTGRES,
    ADK_POSTGRES,
    OURS_MYSQL,
    LIMIT_MYSQL,
    ADK_MYSQL,
    *BY_ID,
    *TAIL,
    *OPERATOR,
    *ADAPTERS,
    SERVICE_MEMORY,
    LIMIT_HTTP,
    SERVICE_SQLITE,
    ADK_SERVER,
)

WORKLOADS = (
    Workload("append", "append", "Append one message, over 200 sessions", in_rounds=True),
    Workload("create", "create", "Create a session", in_rounds=True),
    Workload("read", "read", "Read the last messages of a session", in_rounds=True),
    Workload("list", "listing", "List a user's newest sessions", in_rounds=False),
    Workload("length", "length", "Append to a session by its length", in_rounds=False),
    Workload(
        "depth",
        "depth",
        "Read the last messages of a session by its length",
        in_rounds=False,
        groups=("sqlite", "redis", "postgres", LANGGRAPH, LANGGRAPH_POSTGRES_GROUP),
    ),
    Workload(
        "sweep",
        "sweep",
        "Sweep expired sessions",
        in_rounds=False,
        # The timed sweep is an explicit one; a background sweep would take its work.
        environment={"SESSION_CLEANUP_INTERVAL": "0"},
    ),
    Workload(
        "memory",
        "memory",
        "Memory for each byte of the messages",
        in_rounds=False,
        groups=("redis",),
    ),
    Workload(
        "by-id",
        "by_id",
        "Read and delete messages by their ids, by the length of the session",
        in_rounds=False,
        groups=tuple(ours.group for ours in BY_ID),
    ),
    Workload(
        "tail",
        "tail",
        "Replace and pop messages at the end of a session",
        in_rounds=False,
        groups=tuple(ours.group for ours in TAIL),
    ),
    Workload(
        "operator",
        "operator",
        "List sessions as an operator, and trim a session",
        in_rounds=False,
        groups=tuple(ours.group for ours in OPERATOR),
    ),
    Workload(
        "checkpoint",
        "checkpoint",
        "Read a checkpoint of LangGraph by the length of the thread; put one with writes",
        in_rounds=False,
        groups=(LANGGRAPH, LANGGRAPH_POSTGRES_GROUP),
    ),
    Workload(
        "any-loop",
        "any_loop",
        "Append one message, by the loop that calls",
        in_rounds=False,
        groups=("any-loop", "any-loop-sqlite"),
    ),
    Workload(
        "http",
        "http_append",
        "Append one message over HTTP",
        in_rounds=True,
        groups=("http", "http-sqlite"),
    ),
    Workload(
        "http-create",
        "http_create",
        "Create a session over HTTP",
        in_rounds=True,
        groups=("http-sqlite",),
    ),
)

IMPORT = "import"
CRASH = "crash"
NAMES = (*(workload.name for workload in WORKLOADS), IMPORT, CRASH)
