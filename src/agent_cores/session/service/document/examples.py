"""Example requests and responses for the description of the interface; a test checks each."""

from __future__ import annotations

from typing import Any

_AT = "2026-01-02T03:04:05.678Z"
_MESSAGE: dict[str, Any] = {
    "seq": 1,
    "id": "Zt3mQ0yS7pWk1sB4nUeHdA",
    "role": "user",
    "content": "What is the weather in Oslo?",
    "author_id": "ann",
    "created_at": _AT,
    "metadata": {"model": "small"},
    "updated_at": None,
}
_GRANT: dict[str, Any] = {
    "subject": "group:support",
    "role": "viewer",
    "expires_at": None,
    "granted_by": "ann",
    "granted_at": _AT,
}
_SESSION: dict[str, Any] = {
    "id": "c2Vzc2lvbi1vZi1hbm4tMQ",
    "owner_id": "ann",
    "status": "active",
    "visibility": "shared",
    "access_role": "owner",
    "title": "Weather",
    "tags": ["demo"],
    "metadata": {"channel": "web"},
    "created_at": _AT,
    "updated_at": _AT,
    "last_active_at": _AT,
    "expires_at": "2026-01-03T03:04:05.678Z",
    "ttl_seconds": 86_400,
    "max_lifetime_seconds": None,
    "renew_on": "write",
    "message_count": 1,
    "last_seq": 1,
    "revision": 2,
    "version": "4611686018427387904.2.1",
    "turn_expires_at": None,
    "context": {"city": "Oslo"},
    "grants": [_GRANT],
}

_CONVERSATION: dict[str, Any] = {
    "id": "conv_c2Vzc2lvbi1vZi1hbm4tMQ",
    "created_at": 1_767_323_045,
    "metadata": {"topic": "weather"},
    "object": "conversation",
}
_ITEM: dict[str, Any] = {
    "id": "msg_Zt3mQ0yS7pWk1sB4nUeHdA",
    "type": "message",
    "status": "completed",
    "role": "user",
    "content": [{"type": "input_text", "text": "What is the weather in Oslo?"}],
}
_EASY: dict[str, Any] = {"role": "user", "content": "What is the weather in Oslo?"}
_OPENAI_ERROR: dict[str, Any] = {
    "message": "/items/0/content: text, or a list of objects, each with its type",
    "type": "invalid_request_error",
    "param": "items[0].content",
    "code": "invalid_input",
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "Session": _SESSION,
    "Message": _MESSAGE,
    "Grant": _GRANT,
    "Problem": {
        "type": "urn:agent-sessions:error:invalid_input",
        "title": "Invalid input",
        "status": 422,
        "code": "invalid_input",
        "detail": "/messages/0/role: 0 bytes; it is from 1 to 255",
        "errors": [{"field": "/messages/0/role", "message": "0 bytes; it is from 1 to 255"}],
    },
    "SessionPage": {"data": [_SESSION], "has_more": False, "next_cursor": None},
    "MessagePage": {"data": [_MESSAGE], "has_more": False, "last_seq": 1},
    "GrantPage": {"data": [_GRANT], "has_more": False, "next_cursor": None},
    "Appended": {"data": [_MESSAGE], "last_seq": 1, "revision": 2},
    "Popped": {"data": [_MESSAGE]},
    "Deleted": {"deleted": 3},
    "Turn": {"turn": "5mYc0wq2T1uVf8xR3kPz7A", "expires_at": _AT},
    "Me": {
        "namespace": "default",
        "user_id": "ann",
        "groups": ["support"],
        "rights": ["read", "write", "act-as"],
        "key_id": "k3yId",
    },
    "Erased": {"sessions": 3, "messages": 41, "grants": 1, "complete": True, "failed": []},
    "Statistics": {"sessions": 12, "due": 0},
    "Health": {"status": "ok"},
    "Unavailable": {"reason": "full", "status": "unavailable"},
    "Empty": {},
    "NewMessage": {"role": "user", "content": "What is the weather in Oslo?"},
    "CreateSession": {
        "title": "Weather",
        "tags": ["demo"],
        "metadata": {"channel": "web"},
        "context": {"city": "Oslo"},
        "messages": [{"role": "system", "content": "Answer in one sentence."}],
        "ttl_seconds": 86_400,
    },
    "NewSession": {"title": "Weather", "tags": ["demo"], "ttl_seconds": 86_400},
    "UpdateSession": {
        "metadata_updates": {"title": "Weather in Oslo", "channel": None},
        "context_updates": {"units": "metric"},
        "context_removals": ["city"],
    },
    "AppendMessages": {
        "messages": [
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"role": "assistant", "content": [{"type": "text", "text": "Rain, 4 degrees."}]},
        ],
        "create": {"title": "Weather", "tags": ["demo"]},
        "metadata_updates": {"answered": True},
        "expected_last_seq": 0,
    },
    "ReplaceMessages": {
        "after_seq": 1,
        "messages": [{"role": "assistant", "content": "Rain in Oslo, 4 degrees."}],
        "expected_last_seq": 7,
    },
    "PopMessages": {"count": 2},
    "UpdateMessage": {
        "content": "What is the weather in Bergen?",
        "metadata_updates": {"edited": True},
        "metadata_removals": ["model"],
    },
    "DeleteMessages": {"keep_last": 100},
    "ShareSession": {"subject": "group:support", "role": "viewer"},
    "RevokeAccess": {"subject": "group:support"},
    "SetVisibility": {"visibility": "public"},
    "TransferOwnership": {"owner_id": "bob", "keep_role": "editor"},
    "RenewSession": {"ttl_seconds": 3_600},
    "ForkSession": {"up_to_seq": 1, "title": "Another way"},
    "RewindSession": {"to_seq": 1},
    "SessionCount": {"sessions": 128, "complete": True, "next_cursor": None},
    "TakeTurn": {"turn": "5mYc0wq2T1uVf8xR3kPz7A", "lease_seconds": 30},
    "RenewTurn": {"lease_seconds": 60},
    "EraseUser": {"user_id": "ann"},
    "Conversation": _CONVERSATION,
    "ConversationItem": _ITEM,
    "DeletedConversation": {
        "id": _CONVERSATION["id"],
        "deleted": True,
        "object": "conversation.deleted",
    },
    "ItemList": {
        "data": [_ITEM],
        "first_id": _ITEM["id"],
        "last_id": _ITEM["id"],
        "has_more": False,
        "object": "list",
    },
    "CreateConversation": {"items": [_EASY], "metadata": {"topic": "weather"}},
    "UpdateConversation": {"metadata": {"topic": "weather in Oslo"}},
    "CreateItems": {"items": [_EASY]},
    "OpenAIError": {"error": _OPENAI_ERROR},
    "OpenAIErrorDetail": _OPENAI_ERROR,
}
