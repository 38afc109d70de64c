"""What the client makes of answers: of later versions, of every code, and of strangers."""

# ruff: noqa: ANN401 - answers are of any shape

from __future__ import annotations

import asyncio
import gzip
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from agent_cores.session import errors
from agent_cores.session.client import SessionClient, pool
from agent_cores.session.models.session import AccessRole, RenewOn, Visibility
from agent_cores.session.wire.errors import ERRORS

KEY = "ask_id_c2VjcmV0"
AT = "2025-01-02T03:04:05.678Z"
THEN = datetime(2025, 1, 2, 3, 4, 5, 678_000, UTC)
GRANT = {
    "subject": "ben",
    "role": "commenter",
    "expires_at": None,
    "granted_by": "ann",
    "granted_at": AT,
    "later": 1,
}
MESSAGE = {
    "seq": 1,
    "id": "m",
    "role": "narrator",
    "content": [{"type": "hologram"}],
    "author_id": "ann",
    "created_at": AT,
    "metadata": {},
    "later": {"a": [1]},
}
SESSION: dict[str, Any] = {
    "id": "talk",
    "owner_id": "ann",
    "status": "frozen",
    "visibility": "federated",
    "access_role": "commenter",
    "title": None,
    "tags": [],
    "metadata": {},
    "created_at": AT,
    "updated_at": AT,
    "last_active_at": AT,
    "expires_at": None,
    "ttl_seconds": None,
    "max_lifetime_seconds": None,
    "renew_on": "full moon",
    "message_count": 1,
    "last_seq": 1,
    "revision": 1,
    "version": "7.1.1",
    "turn_expires_at": AT,
    "grants": [GRANT],
    "messages": [MESSAGE],
    "later": None,
}
ME = {
    "namespace": "default",
    "user_id": None,
    "groups": [],
    "rights": ["act-as", "fly"],
    "key_id": "id",
    "later": True,
}


def problem(code: str, detail: str, **others: Any) -> dict[str, Any]:
    """Return the body of a refusal, with a field of a later version."""
    known = {"type": f"urn:agent-sessions:error:{code}", "title": code, "status": 400}
    return {**known, "code": code, "detail": detail, "later": 1, **others}


class Stranger:
    """A server that gives the answer that it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})
        self.seen: list[bytes] = []
        self.speaks_http = True
        self.address = ""

    def says(self, status: int, body: Any, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = status, raw, headers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        await reader.readexactly(int(line.partition(b":")[2]))
                self.seen.append(head)
                if not self.speaks_http:
                    writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
                    break
                asks_me = b" /v1/me " in head
                status, body, headers = (
                    (200, json.dumps(ME).encode(), {}) if asks_me else self.answer
                )
                lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
                lines += [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
                lines.sort(key=lambda line: not line.startswith("HTTP"))
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        writer.close()


@pytest.fixture
async def stranger() -> AsyncIterator[tuple[Stranger, SessionClient]]:
    stranger = Stranger()
    server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
    stranger.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with SessionClient(stranger.address, KEY, retries=0, timeout=5) as client:
        yield stranger, client
    server.close()


async def test_a_session_of_a_later_version_is_read(
    stranger: tuple[Stranger, SessionClient],
) -> None:
    server, client = stranger
    server.says(200, SESSION, ETag='"7.1.1"')
    session = await client.get_session("talk", "ann")
    assert (session.visibility, session.access_role) == (Visibility.PRIVATE, AccessRole.VIEWER)
    assert (session.metadata.renew_on, session.metadata.archived) == (RenewOn.WRITE, False)
    assert session.metadata.incarnation == 7
    assert session.metadata.grants["ben"].role is AccessRole.VIEWER
    assert session.messages is not None
    assert session.messages[0].content == [{"type": "hologram"}]


async def test_other_answers_of_a_later_version_are_read(
    stranger: tuple[Stranger, SessionClient],
) -> None:
    server, client = stranger
    server.says(200, {"data": [SESSION], "has_more": False, "next_cursor": None, "later": 1})
    assert [session.id for session in await client.list_user_sessions("ann")] == ["talk"]
    server.says(200, {"data": [MESSAGE], "has_more": False, "last_seq": 1, "later": 1})
    assert [m.role for m in await client.get_session_messages("talk", "ann")] == ["narrator"]
    server.says(201, {"data": [MESSAGE], "last_seq": 1, "revision": 1, "later": 1})
    assert (await client.add_message("talk", "ann", "user", "x")).created_at == THEN
    server.says(200, GRANT)
    assert (await client.share_session("talk", "ann", "ben")).granted_at == THEN
    server.says(201, {"turn": "t", "expires_at": AT, "later": 1})
    assert (await client.take_turn("talk", "ann")).expires_at == THEN
    server.says(200, {"sessions": 1, "due": 0, "later": 1})
    assert await client.get_statistics() == {"sessions": 1, "due": 0}
    counts = {"sessions": 1, "messages": 2, "grants": 3}
    server.says(200, {**counts, "complete": True, "failed": [], "later": 1})
    assert (await client.erase_user("ann")).complete
    server.says(409, problem("turn_held", "held", values={"expires_at": AT, "later": 1}))
    with pytest.raises(errors.TurnHeldError) as held:
        await client.take_turn("talk", "ann")
    assert held.value.expires_at == THEN


WRITES: dict[str, Callable[[SessionClient], Awaitable[object]]] = {
    "create": lambda c: c.create_session("ann"),
    "update": lambda c: c.update_session("talk", "ann", {"k": 1}),
    "delete": lambda c: c.delete_session("talk", "ann"),
    "append": lambda c: c.add_message("talk", "ann", "user", "x"),
    "update message": lambda c: c.update_message("talk", "ann", 1, content="x"),
    "delete message": lambda c: c.delete_message("talk", "ann", 1),
    "delete messages": lambda c: c.delete_messages("talk", "ann", ids=["m1"]),
    "share": lambda c: c.share_session("talk", "ann", "ben"),
    "revoke": lambda c: c.revoke_access("talk", "ann", "ben"),
    "take turn": lambda c: c.take_turn("talk", "ann"),
    "release turn": lambda c: c.release_turn("talk", "ann", "t"),
    "fork": lambda c: c.fork_session("talk", "ann"),
    "erase": lambda c: c.erase_user("ann"),
}
READS: dict[str, Callable[[SessionClient], Awaitable[object]]] = {
    "get": lambda c: c.get_session("talk", "ann"),
    "get by id": lambda c: c.get_messages("talk", "ann", ids=["m1"]),
    "list": lambda c: c.list_user_sessions("ann"),
    "messages": lambda c: c.get_session_messages("talk", "ann"),
    "statistics": lambda c: c.get_statistics(),
}


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"{}", b'"\xff"', b"[" * 10_000])
@pytest.mark.parametrize("verb", [*WRITES, *READS])
async def test_a_success_that_is_not_of_the_service_is_unavailability(
    stranger: tuple[Stranger, SessionClient], verb: str, body: bytes
) -> None:
    server, client = stranger
    server.says(200, body)
    with pytest.raises(errors.StorageUnavailableError, match="base_url") as caught:
        await (WRITES | READS)[verb](client)
    assert caught.value.outcome_unknown is (verb in WRITES)


async def test_a_client_of_what_is_not_the_service_is_told_so() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = SessionClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", KEY)
    with pytest.raises(errors.StorageUnavailableError) as caught:
        await client.initialize()
    assert not caught.value.outcome_unknown
    server.close()


SPACES = gzip.compress(b" " * 1_000_000)
ENDLESS = {
    "announced": b"Content-Length: 1000000\r\n\r\n" + b" " * 1_000_000,
    "not announced": b"\r\n" + b" " * 1_000_000,
    "compressed": b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(SPACES) + SPACES,
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_no_more_of_a_response_is_kept_than_the_service_can_have_sent(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n" + ENDLESS[kind])
            await writer.drain()
        writer.close()

    monkeypatch.setattr(pool, "LARGEST_BODY", 100_000)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = SessionClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", KEY)
    with pytest.raises(errors.StorageUnavailableError, match="has more than"):
        await client.initialize()
    await client.shutdown()
    server.close()


CLASSES: dict[str, type[errors.SessionError]] = {
    "malformed_request": errors.InvalidInputError,
    "unauthenticated": errors.UnauthenticatedError,
    "access_denied": errors.AccessDeniedError,
    "quota_exceeded": errors.QuotaExceededError,
    "session_not_found": errors.SessionNotFoundError,
    "message_not_found": errors.MessageNotFoundError,
    "not_found": errors.SessionError,
    "method_not_allowed": errors.SessionError,
    "not_acceptable": errors.SessionError,
    "unsupported_media_type": errors.SessionError,
    "session_exists": errors.SessionExistsError,
    "conflict": errors.ConflictError,
    "last_seq_mismatch": errors.LastSeqMismatchError,
    "session_archived": errors.SessionArchivedError,
    "turn_held": errors.TurnHeldError,
    "turn_lost": errors.TurnLostError,
    "session_expired": errors.SessionExpiredError,
    "revision_mismatch": errors.RevisionMismatchError,
    "payload_too_large": errors.InvalidInputError,
    "headers_too_large": errors.InvalidInputError,
    "uri_too_long": errors.InvalidInputError,
    "invalid_input": errors.InvalidInputError,
    "idempotency_mismatch": errors.ConflictError,
    "rate_limited": errors.OverloadedError,
    "internal": errors.SessionError,
    "corrupt_record": errors.CorruptRecordError,
    "unsupported": errors.UnsupportedError,
    "groups_unavailable": errors.GroupsUnavailableError,
    "overloaded": errors.OverloadedError,
    "storage_unavailable": errors.StorageUnavailableError,
    "store_format": errors.StoreFormatError,
    "session_moved": errors.SessionMovedError,
}


@pytest.mark.parametrize("code", ERRORS)
async def test_every_code_is_raised_as_its_class(
    stranger: tuple[Stranger, SessionClient], code: str
) -> None:
    server, client = stranger
    server.says(ERRORS[code].status, problem(code, "words", values={"expires_at": 5}))
    for call in (client.update_session("talk", "ann", {"k": 1}), client.get_session("talk", "ann")):
        with pytest.raises(errors.SessionError) as caught:
            await call
        assert type(caught.value) is CLASSES[code]
        if caught.value.code == code == "internal":
            assert "words" in str(caught.value)


@pytest.mark.parametrize("status", [418, 500, 503])
async def test_a_code_of_a_later_version_is_told_by_name(
    stranger: tuple[Stranger, SessionClient], status: int
) -> None:
    server, client = stranger
    server.says(status, problem("moon_phase", "wrong moon"))
    with pytest.raises(errors.SessionError, match="moon_phase: wrong moon") as caught:
        await client.get_session("talk", "ann")
    assert type(caught.value) is errors.SessionError


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_without_a_code_leaves_only_writes_unknown(
    stranger: tuple[Stranger, SessionClient], status: int
) -> None:
    server, client = stranger
    server.says(status, b"<html>")
    with pytest.raises(errors.StorageUnavailableError) as caught:
        await client.get_session("talk", "ann")
    assert not caught.value.outcome_unknown
    with pytest.raises(errors.StorageUnavailableError) as caught:
        await client.update_session("talk", "ann", {"k": 1})
    assert caught.value.outcome_unknown


async def test_a_record_that_cannot_be_read_is_named(
    stranger: tuple[Stranger, SessionClient],
) -> None:
    server, client = stranger
    server.says(500, problem("corrupt_record", "a stored record cannot be read"))
    with pytest.raises(errors.CorruptRecordError) as caught:
        await client.get_session("talk", "ann")
    assert (caught.value.namespace, caught.value.session_id) == ("default", "talk")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_with_the_key(
    stranger: tuple[Stranger, SessionClient], status: int
) -> None:
    server, client = stranger
    server.seen.clear()
    server.says(status, b"", Location=f"{server.address}/elsewhere")
    with pytest.raises(errors.SessionError, match="base_url"):
        await client.get_session("talk", "ann")
    assert len(server.seen) == 1


async def test_the_key_is_in_no_representation_log_or_error(
    stranger: tuple[Stranger, SessionClient], caplog: pytest.LogCaptureFixture
) -> None:
    server, client = stranger
    caplog.set_level(0)
    shown = [repr(client), str(client), repr(client._transport)]  # noqa: SLF001
    for status, body in ((401, problem("unauthenticated", "no")), (500, b"x"), (200, b"x")):
        server.says(status, body)
        shown += await _texts_of_error(client)
    server.says(200, b"x", Content_Encoding="gzip")
    shown += await _texts_of_error(client)
    server.speaks_http = False  # aiohttp's error holds the headers of the request
    shown += await _texts_of_error(client)
    with pytest.raises(errors.ConfigurationError) as caught:
        SessionClient(server.address, f"{KEY}\n")
    shown += [str(caught.value), caplog.text]
    assert "ClientResponseError" in " ".join(shown)
    assert not [text for text in shown if KEY in text or "c2VjcmV0" in text]


async def _texts_of_error(client: SessionClient) -> list[str]:
    """Return all that an error and those behind it say."""
    with pytest.raises(errors.SessionError) as caught:
        await client.get_session("talk", "ann")
    texts = ["".join(traceback.format_exception(caught.value))]
    error: BaseException | None = caught.value
    while error is not None:
        texts += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return texts
