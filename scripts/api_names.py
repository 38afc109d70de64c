"""What the API reference has on which page."""

from __future__ import annotations

PACKAGE = "agent_cores.session"
PUBLIC = (
    "",
    "client",
    "integrations.django",
    "integrations.fastapi",
    "integrations.flask",
    "lifecycle",
    "models",
    "service",
    "storage",
    "testing",
)
"""The modules whose ``__all__`` is public; the first is the package itself."""
BRIEF = {"SyncSessionManager", "SyncSessionOperator", "SyncSessionClient", "SessionClient"}
"""Classes whose methods are explained with those of another."""
ELSEWHERE = {
    "SessionSettings",
    "lifecycle.EVENT_NAMES",
    "lifecycle.Handler",
    "service.ServiceSettings",
}
"""Names that the tables of the settings or other entries explain."""
ERRORS = (
    "SessionError",
    "InvalidInputError",
    "SessionNotFoundError",
    "SessionExpiredError",
    "MessageNotFoundError",
    "RevisionMismatchError",
    "LastSeqMismatchError",
    "TurnHeldError",
    "CorruptRecordError",
    "StorageUnavailableError",
)
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "manager": (
        "API: the manager",
        "What a program does with sessions. [Errors](../errors.md) says what can go wrong.",
        (
            "get_session_manager",
            "SessionManager",
            "SessionOperator",
            "SyncSessionManager",
            "SyncSessionOperator",
            "DEFAULT_TTL_HOURS",
            "LifecycleManager",
            "SessionEvent",
        ),
    ),
    "models": (
        "API: what the manager returns and takes",
        "The types of arguments and results.",
        (
            "Session",
            "SessionMetadata",
            "Message",
            "NewMessage",
            "ImportedMessage",
            "NewSession",
            "Page",
            "Grant",
            "Turn",
            "AccessRole",
            "SessionStatus",
            "Visibility",
            "RenewOn",
            "SessionCount",
            "ErasureReceipt",
        ),
    ),
    "errors": (
        "API: errors with fields",
        "The errors that hold more than a message. All of them are in [errors](../errors.md).",
        tuple(f"errors.{name}" for name in ERRORS),
    ),
    "service": (
        "API: the service and its client",
        "The HTTP service as an ASGI application, and the client with the verbs of the manager.",
        (
            "service.create_app",
            "service.Service",
            "client.SessionClient",
            "client.SyncSessionClient",
        ),
    ),
    "integrations": (
        "API: FastAPI, Flask, Django",
        "A manager in [FastAPI](../fastapi.md), [Flask](../flask.md) or [Django](../django.md).",
        (
            *(
                f"integrations.fastapi.{name}"
                for name in (
                    "Sessions",
                    "sessions_of",
                    "sessions_in",
                    "add_error_handler",
                    "error_response",
                    "StreamedReply",
                    "SessionResponse",
                    "MessageResponse",
                    "SessionPageResponse",
                    "MessagePageResponse",
                    "ProblemResponse",
                )
            ),
            *(
                f"integrations.flask.{name}"
                for name in ("init_app", "current_sessions", "error_response", "streamed_reply")
            ),
            *(
                f"integrations.django.{name}"
                for name in (
                    "sessions",
                    "async_sessions",
                    "SessionErrorMiddleware",
                    "streamed_reply",
                )
            ),
        ),
    ),
    "adapters": (
        "API: agent frameworks",
        "The interfaces of agent frameworks on a manager; see [adapters](../adapters/README.md).",
        (
            "adapters.openai_agents.OpenAIAgentsSession",
            "adapters.google_adk.ADKSessionService",
            "adapters.langgraph.SessionSaver",
            "adapters.langgraph_store.SessionStore",
            "adapters.claude_agent_sdk.ClaudeSessionStore",
            "adapters.pydantic_ai.SessionConversationStore",
        ),
    ),
    "storage": (
        "API: storage",
        "For authors of providers: [writing a backend](../writing-a-backend.md).",
        (
            "storage.StorageFactory",
            "storage.StorageProvider",
            "storage.NativeProvider",
            "storage.Capabilities",
            "storage.Counts",
            *(
                f"models.{name}"
                for name in (
                    "Change",
                    "AccessEffect",
                    "HoldEffect",
                    "RenewEffect",
                    "TurnEffect",
                    "MessageUpdate",
                    "apply_change",
                    "State",
                    "Applied",
                    "Snapshot",
                    "StoredMessage",
                    "Window",
                    "SeqRange",
                    "NamedMessages",
                    "OldestMessages",
                    "Query",
                    "Cursor",
                    "Found",
                    "Ended",
                    "Hold",
                    "Limits",
                    "DEFAULT_NAMESPACE",
                    "matches",
                    "order_key",
                    "removable_among",
                )
            ),
        ),
    ),
    "testing": (
        "API: the contract suite",
        "For authors of providers and of adapters: [testing a provider](../testing-a-provider.md).",
        (
            "testing.ProviderContract",
            "testing.ManagerContract",
            "testing.VerbContract",
            "testing.Store",
            "testing.ManualClock",
            "testing.Oracle",
            "testing.suite_settings",
        ),
    ),
}
"""Each page: its title, what it is about, and the names on it."""
