"""The requests of the examples: a story that calls every route, in the order in which it runs."""

from __future__ import annotations

from typing import Any

import msgspec

S = "/v1/sessions/trip"
C = "/v1/conversations/{conversation}"
TURN = "5mYc0wq2T1uVf8xR3kPz7A"
ETAG = {"If-Match": "{etag}"}
OPERATOR = {"X-Operator": "console"}


class Step(msgspec.Struct, frozen=True):
    """One request. ``{conversation}``, ``{item}`` and ``{etag}`` are those that came last.

    ``note`` is printed before the request. One that is not ``shown`` only moves the story on.
    """

    method: str
    path: str
    body: Any = None
    status: int = 200
    headers: dict[str, str] = {}
    user: str | None = "ann"
    key: str = "app"
    note: str = ""
    shown: bool = True


def said(message_id: str, role: str, content: str) -> dict[str, str]:
    """Return a new message."""
    return {"id": message_id, "role": role, "content": content}


STORY = (
    Step(
        "POST",
        "/v1/sessions",
        {
            "id": "trip",
            "title": "Trip",
            "tags": ["demo"],
            "metadata": {"channel": "web"},
            "context": {"city": "Oslo"},
            "messages": [said("m1", "user", "What is the weather in Oslo?")],
        },
        status=201,
    ),
    Step("GET", "/v1/sessions?tag=demo&limit=10"),
    Step("GET", f"{S}?message_limit=10"),
    Step("GET", S, user="bob", status=404, note="Bob may not read it, so to him it is not there:"),
    Step(
        "PATCH",
        S,
        {
            "metadata_updates": {"title": "Trip to Oslo", "channel": None},
            "context_updates": {"units": "metric"},
            "context_removals": ["city"],
        },
        headers=ETAG,
    ),
    Step(
        "PATCH",
        S,
        {"metadata_updates": {"title": "Late"}},
        headers={"If-Match": '"1"'},
        status=412,
        note="Somebody else was faster:",
    ),
    Step(
        "POST",
        f"{S}/messages",
        {
            "messages": [
                said("m2", "assistant", "Rain, 4 degrees."),
                said("m3", "user", "And tomorrow?"),
                said("m4", "assistant", "Sun."),
            ],
            "expected_last_seq": 1,
        },
        headers={"Idempotency-Key": "0f8fad5b-d9cb-469f-a165-70867728950e"},
        status=201,
    ),
    Step(
        "POST",
        f"{S}/messages",
        {"messages": [said("m5", "user", "Hello?")], "expected_last_seq": 1},
        status=409,
        note="To a conversation that went on in the meantime:",
    ),
    Step("GET", f"{S}/messages?limit=2"),
    Step("GET", f"{S}/messages/2"),
    Step(
        "PATCH",
        f"{S}/messages/3",
        {"content": "And on Friday?", "metadata_updates": {"edited": True}},
    ),
    Step("DELETE", f"{S}/messages/4", status=204),
    Step("POST", f"{S}/messages/delete", {"ids": ["m3"]}),
    Step(
        "POST",
        f"{S}/replace",
        {
            "after_seq": 2,
            "messages": [said("m6", "assistant", "Sun, 9 degrees.")],
            "expected_last_seq": 4,
        },
    ),
    Step("POST", f"{S}/pop", {"count": 1}),
    Step("POST", f"{S}/rewind", {"to_seq": 1}),
    Step("PUT", f"{S}/grants", {"subject": "bob", "role": "editor"}),
    Step("GET", f"{S}/grants"),
    Step("POST", f"{S}/turn", {"turn": TURN, "lease_seconds": 30}, status=201),
    Step(
        "POST",
        f"{S}/turn",
        {"turn": "another"},
        user="bob",
        status=409,
        note="Another worker asks for it:",
    ),
    Step("PUT", f"{S}/turn/{TURN}", {"lease_seconds": 60}),
    Step("DELETE", f"{S}/turn/{TURN}", status=204),
    Step("POST", f"{S}/grants/revoke", {"subject": "bob"}, status=204),
    Step("PUT", f"{S}/visibility", {"visibility": "public"}),
    Step("PUT", f"{S}/owner", {"owner_id": "bob", "keep_role": "editor"}),
    Step("PUT", f"{S}/owner", {"owner_id": "ann"}, user="bob", shown=False),
    Step("POST", f"{S}/archive"),
    Step("POST", f"{S}/unarchive"),
    Step("POST", f"{S}/renew", {"ttl_seconds": 3_600}),
    Step("POST", f"{S}/fork", {"id": "trip-2", "up_to_seq": 1, "title": "Another way"}, status=201),
    Step("DELETE", "/v1/sessions/trip-2", status=204),
    Step(
        "POST",
        "/v1/conversations",
        {
            "items": [{"role": "user", "content": "What is the weather in Oslo?"}],
            "metadata": {"topic": "weather"},
        },
    ),
    Step("GET", C),
    Step("POST", C, {"metadata": {"topic": "weather in Oslo"}}),
    Step("POST", f"{C}/items", {"items": [{"role": "assistant", "content": "Rain."}]}),
    Step("GET", f"{C}/items?order=asc&limit=1"),
    Step("GET", f"{C}/items/{{item}}"),
    Step("DELETE", f"{C}/items/{{item}}"),
    Step("DELETE", C),
    Step("GET", C, status=404, note="An error has OpenAI's shape:"),
    Step(
        "GET",
        "/v1/operator/sessions?tag=demo&limit=1",
        headers=OPERATOR,
        user=None,
        key="console",
        note="With a key that has the right `operator`:",
    ),
    Step(
        "GET",
        "/v1/operator/sessions/count?status=active",
        headers=OPERATOR,
        user=None,
        key="console",
    ),
    Step("GET", "/v1/me"),
    Step(
        "GET",
        "/v1/statistics",
        user=None,
        key="billing",
        note="With a key that has the right `admin`:",
    ),
    Step("POST", "/v1/users/erase", {"user_id": "ann"}, user=None, key="billing"),
    Step("GET", "/healthz", user=None, key=""),
    Step("GET", "/readyz", user=None, key=""),
    Step("GET", "/v1/openapi.json", user=None, key=""),
    Step("GET", "/docs", user=None, key=""),
    Step("GET", "/docs/page.css", user=None, key=""),
)
