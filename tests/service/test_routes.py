"""Every route does what its row says."""

from __future__ import annotations

from tests.service.wire import Caller, Wire

S = "/v1/sessions"


async def test_a_session_is_created_read_changed_and_deleted(wire: Wire) -> None:
    ann = await wire.caller("ann")
    made = await ann(
        "POST",
        S,
        {
            "title": "一",
            "tags": ["a"],
            "metadata": {"k": 1},
            "context": {"c": 2},
            "ttl_seconds": 90,
        },
    )
    session = made.json()
    assert made.status == 201
    assert made.headers["location"] == f"{S}/{session['id']}"
    assert session["title"] == "一"
    assert (session["tags"], session["metadata"]) == (["a"], {"k": 1})
    assert (session["ttl_seconds"], session["owner_id"]) == (90, "ann")
    assert session["created_at"].endswith("Z")
    assert len(session["created_at"]) == len("2026-01-01T00:00:00.000Z")
    assert "messages" not in session

    path = f"{S}/{session['id']}"
    read = await ann("GET", path)
    assert read.json()["context"] == {"c": 2}
    assert read.headers["etag"] == made.headers["etag"]

    changed = await ann(
        "PATCH",
        path,
        {
            "metadata_updates": {"title": "two", "k": None, "n": [1]},
            "context_updates": {"d": None},
            "context_removals": ["c"],
        },
    )
    assert changed.json()["title"] == "two"
    assert changed.json()["metadata"] == {"n": [1]}
    assert changed.json()["revision"] == 2
    assert (await ann("GET", path)).json()["context"] == {"d": None}

    assert (await ann("DELETE", f"{path}?expected_last_seq=1")).code == "last_seq_mismatch"
    assert (await ann("DELETE", f"{path}?turn=lost")).code == "turn_lost"
    assert (await ann("DELETE", f"{path}?expected_last_seq=0")).status == 204
    assert (await ann("DELETE", path)).status == 404


async def test_messages_are_appended_paged_read_and_removed(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    path = f"{S}/{session_id}/messages"
    sent = await ann(
        "POST",
        path,
        {"messages": [{"role": "user", "content": f"{n}"} for n in range(5)]},
    )
    assert (sent.status, sent.json()["last_seq"], sent.json()["revision"]) == (201, 5, 1)
    latest = (await ann("GET", f"{path}?limit=2")).json()
    assert [m["seq"] for m in latest["data"]] == [4, 5]
    assert (latest["has_more"], latest["last_seq"]) == (True, 5)
    after = (await ann("GET", f"{path}?limit=2&after_seq=1")).json()
    assert [m["content"] for m in after["data"]] == ["1", "2"]
    before = (await ann("GET", f"{path}?before_seq=3")).json()
    assert ([m["seq"] for m in before["data"]], before["has_more"]) == ([1, 2], False)
    whole = (await ann("GET", f"{S}/{session_id}?message_limit=2")).json()
    assert [m["seq"] for m in whole["messages"]] == [4, 5]

    assert (await ann("GET", f"{path}/3")).json()["content"] == "2"
    assert (await ann("DELETE", f"{path}/3")).status == 204
    for missing in ("3", "6", "0", "x", "9" * 30):
        reply = await ann("GET", f"{path}/{missing}")
        assert (reply.status, reply.code) == (404, "message_not_found")
        assert (await ann("DELETE", f"{path}/{missing}")).code == "message_not_found"

    rewound = await ann("POST", f"{S}/{session_id}/rewind", {"to_seq": 1})
    assert (rewound.json()["message_count"], rewound.json()["last_seq"]) == (1, 5)


async def test_an_append_writes_its_context_and_honours_what_it_expects(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    done = await ann.say(session_id, context_updates={"step": 1}, expected_last_seq=0)
    assert (done.status, done.json()["revision"]) == (201, 2)
    late = await ann.say(session_id, expected_last_seq=0)
    assert (late.status, late.code) == (409, "last_seq_mismatch")
    assert late.json()["values"] == {"expected": 0, "actual": 1}


async def test_grants_are_given_listed_and_taken(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    session_id = await ann.new_session()
    path = f"{S}/{session_id}"
    given = await ann("PUT", f"{path}/grants", {"subject": "ben", "role": "editor"})
    assert given.json()["subject"] == "ben"
    assert given.json()["expires_at"] is None
    await ann("PUT", f"{path}/grants", {"subject": "group:team", "role": "viewer"})
    both = (await ann("GET", f"{path}/grants")).json()
    assert {grant["subject"] for grant in both["data"]} == {"ben", "group:team"}
    own = (await ben("GET", f"{path}/grants")).json()
    assert [grant["subject"] for grant in own["data"]] == ["ben"]
    seen = (await ben("GET", path)).json()
    assert (seen["access_role"], seen["visibility"]) == ("editor", "shared")
    listed = (await ben("GET", f"{S}?shared=true")).json()
    assert [session["id"] for session in listed["data"]] == [session_id]

    assert (await ben("POST", f"{path}/grants/revoke", {"subject": "group:team"})).status == 403
    assert (await ben("POST", f"{path}/grants/revoke", {"subject": "ben"})).status == 204
    assert (await ann("POST", f"{path}/grants/revoke", {"subject": "ben"})).status == 204
    assert (await ben("GET", path)).status == 404


async def test_groups_come_from_the_header_alone(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    session_id = await ann.new_session()
    path = f"{S}/{session_id}"
    await ann("PUT", f"{path}/grants", {"subject": "group:a b", "role": "viewer"})
    assert (await ben("GET", path)).status == 404
    groups = {"X-User-Groups": "other,a%20b"}
    assert (await ben("GET", path, headers=groups)).status == 200
    listed = await ben("GET", f"{S}?shared=true", headers=groups)
    assert [session["id"] for session in listed.json()["data"]] == [session_id]


async def test_visibility_owner_archive_and_renewal(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    session_id = await ann.new_session()
    path = f"{S}/{session_id}"
    public = await ann("PUT", f"{path}/visibility", {"visibility": "public"})
    assert public.json()["visibility"] == "public"
    assert (await ben("GET", path)).json()["access_role"] == "viewer"
    assert "context" not in (await ben("GET", path)).json()

    archived = await ann("POST", f"{path}/archive")
    assert archived.json()["status"] == "archived"
    assert (await ann("POST", f"{path}/archive", {})).status == 200
    assert (await ann.say(session_id)).code == "session_archived"
    assert (await ann("GET", S)).json()["data"] == []
    assert len((await ann("GET", f"{S}?status=archived")).json()["data"]) == 1
    assert (await ann("POST", f"{path}/unarchive")).json()["status"] == "active"

    renewed = await ann("POST", f"{path}/renew", {"ttl_seconds": 60})
    assert renewed.json()["ttl_seconds"] == 60
    assert (await ann("POST", f"{path}/renew")).json()["ttl_seconds"] == 60
    never = await ann("POST", f"{path}/renew", {"ttl_seconds": None})
    assert (never.json()["ttl_seconds"], never.json()["expires_at"]) == (None, None)

    kept = await ann("PUT", f"{path}/owner", {"owner_id": "ben", "keep_role": "viewer"})
    assert (kept.status, kept.json()["access_role"]) == (200, "viewer")
    await ben("PUT", f"{path}/visibility", {"visibility": "private"})
    given_away = await ben("PUT", f"{path}/owner", {"owner_id": "ann"})
    assert (given_away.status, given_away.body) == (204, b"")


async def test_a_fork_belongs_to_who_made_it(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    session_id = await ann.new_session(public=True)
    await ann.say(session_id, "one")
    await ann.say(session_id, "two")
    fork = await ben("POST", f"{S}/{session_id}/fork", {"up_to_seq": 1, "title": "mine"})
    assert fork.status == 201
    assert fork.headers["location"] == f"{S}/{fork.json()['id']}"
    assert (fork.json()["owner_id"], fork.json()["message_count"]) == ("ben", 1)


async def test_a_turn_is_taken_held_renewed_and_released(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    path = f"{S}/{session_id}/turn"
    taken = await ann("POST", path, {"turn": "mine", "lease_seconds": 20})
    assert (taken.status, taken.json()["turn"]) == (201, "mine")
    assert (await ann("POST", path, {"turn": "mine"})).status == 201
    held = await ann("POST", path)
    assert (held.status, held.code, held.headers["retry-after"]) == (409, "turn_held", "20")
    assert held.json()["values"]["expires_at"] == taken.json()["expires_at"]
    assert (await ann.say(session_id, turn="mine")).status == 201
    assert (await ann.say(session_id, turn="other")).code == "turn_lost"
    assert (await ann("PUT", f"{path}/mine", {"lease_seconds": 60})).status == 200
    assert (await ann("PUT", f"{path}/other")).code == "turn_lost"
    assert (await ann("DELETE", f"{path}/mine")).status == 204
    assert (await ann("POST", path)).status == 201


async def test_listing_pages_by_cursor_and_by_offset(wire: Wire) -> None:
    ann = await wire.caller("ann")
    made = []
    for n in range(5):
        made.append(await ann.new_session(tags=["all", f"t{n % 2}"]))
        wire.clock.advance(2)
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await ann("GET", f"{S}?limit=2{cursor}")).json()
        seen += [session["id"] for session in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == made[::-1]
    skipped = (await ann("GET", f"{S}?limit=2&offset=3")).json()
    assert [session["id"] for session in skipped["data"]] == made[1::-1]
    tagged = (await ann("GET", f"{S}?tag=all&tag=t1")).json()
    assert [session["id"] for session in tagged["data"]] == [made[3], made[1]]


async def test_an_existing_session_is_returned_on_request(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    await ann.new_session(id="mine")
    again = await ann("POST", S, {"id": "mine", "if_exists": "return"})
    assert (again.status, again.json()["id"]) == (200, "mine")
    assert "location" not in again.headers
    for body in ({}, {"if_exists": "return"}, {"if_exists": "return_shared"}):
        assert (await ben("POST", S, {"id": "mine", **body})).code == "session_exists"
    await ann("PUT", f"{S}/mine/grants", {"subject": "ben", "role": "editor"})
    assert (await ben("POST", S, {"id": "mine", "if_exists": "return"})).code == "session_exists"
    shared = await ben("POST", S, {"id": "mine", "if_exists": "return_shared"})
    assert (shared.status, shared.json()["owner_id"]) == (200, "ann")
    assert (await ben("POST", S, {"id": "mine", "if_exists": "any"})).status == 422


async def test_an_expired_session_is_told_to_its_owner_only(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    session_id = await ann.new_session(ttl_seconds=10, public=True)
    wire.clock.advance(10)
    gone = await ann("GET", f"{S}/{session_id}")
    assert (gone.status, gone.code) == (410, "session_expired")
    assert (await ben("GET", f"{S}/{session_id}")).status == 404


async def test_me_statistics_and_erasure(wire: Wire) -> None:
    ann = await wire.caller("ann", **{"X-User-Groups": "g"})
    who = (await ann("GET", "/v1/me")).json()
    assert (who["namespace"], who["user_id"], who["groups"]) == ("default", "ann", ["g"])
    await ann.say(await ann.new_session())
    admin = Caller(wire.service, None, await wire.key("admin"), {})
    assert (await admin("GET", "/v1/statistics")).json() == {"sessions": 1, "due": 0}
    erased = (await admin("POST", "/v1/users/erase", {"user_id": "ann"})).json()
    assert erased == {"sessions": 1, "messages": 1, "grants": 0, "complete": True, "failed": []}
    assert (await admin("GET", "/v1/statistics")).json() == {"sessions": 0, "due": 0}
    assert (await admin("GET", "/v1/me")).json()["user_id"] is None
    assert (await admin("GET", S)).code == "access_denied"


async def test_health_and_readiness_say_no_more_than_status_and_reason(wire: Wire) -> None:
    for path in ("/healthz", "/readyz"):
        reply = await wire.request("GET", path)
        assert (reply.status, reply.json()) == (200, {"status": "ok"})
    wire.service.draining = True
    reply = await wire.request("GET", "/readyz")
    assert reply.status == 503
    assert reply.json() == {"status": "unavailable", "reason": "stopping"}
    assert (await wire.request("GET", "/healthz")).status == 200
