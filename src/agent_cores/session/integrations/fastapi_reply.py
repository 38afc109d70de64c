"""``StreamedReply``: a response that streams a reply and saves it, whole or as far as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio import CancelScope, sleep_forever
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from agent_cores.session.integrations.reply import (
    EVENT_STREAM,
    Reason,
    Reply,
    saved_event,
    text_event,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping

    from starlette.background import BackgroundTask
    from starlette.types import Receive, Scope, Send

    from agent_cores.session.manager import SessionManager
    from agent_cores.session.models.message import Message


class StreamedReply(StreamingResponse):
    """Stream chunks of text to the client, and save them as one message.

    ``chunks`` is what an agent produces: an async iterable of text. Its end is the end of the
    reply: the message is saved, then the response ends, so a response that ended properly was
    saved. ``role``, ``message_id``, ``metadata`` and ``turn`` are those of ``add_message``.

    If the client goes away, the producer is stopped and what it produced is saved with
    ``{"incomplete": "disconnected"}`` in the metadata. With ``finish`` it runs to its end all the
    same, and the whole reply is saved. If it raises, what it produced is saved with ``"failed"``;
    if the server cancels the request, with ``"cancelled"``. Both cut the response off. Nothing is
    saved where nothing was produced. If saving is refused, the error is logged and raised.

    With ``events`` the response is a stream of server-sent events: ``data`` is a chunk as a JSON
    string, and the last event, ``saved``, has the stored message.
    """

    background: BackgroundTask | None

    def __init__(
        self,
        sessions: SessionManager,
        session_id: str,
        user_id: str,
        chunks: AsyncIterable[str],
        *,
        role: str = "assistant",
        message_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        turn: str | None = None,
        finish: bool = False,
        events: bool = False,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "text/plain",
    ) -> None:
        self._sessions = sessions
        self._chunks = aiter(chunks)
        self._finishes = finish
        self._events = events
        self._failed = False
        self._fault: Exception | None = None
        self._reply = Reply(
            session_id,
            user_id,
            role=role,
            message_id=message_id,
            metadata=metadata,
            turn=turn,
        )
        kind = EVENT_STREAM if events else media_type
        super().__init__(self._streamed(), status_code, headers, kind)
        self.headers.setdefault("cache-control", "no-store")

    @property
    def message(self) -> Message | None:
        """The message as it is stored; ``None`` before, and if nothing was produced."""
        return self._reply.message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, save what is not saved when that ends, then run the background tasks."""
        background, self.background = self.background, None
        reason: Reason = "cancelled"
        try:
            await super().__call__(scope, receive, send)
            reason = "disconnected"  # unless the reply is saved, which is the end of the stream
        except (ClientDisconnect, OSError):  # how servers report that the client is gone
            if self._fault is not None:  # an OSError too, which Starlette takes for the client's
                raise self._fault from self._fault.__cause__
            reason = "disconnected"
        finally:
            with CancelScope(shield=True):
                await self._end(reason)
        if background is not None:
            await background()

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Return when the client is gone, which ends the response; not if it is to be finished."""
        await super().listen_for_disconnect(receive)
        if self._finishes:
            await sleep_forever()  # until the stream has ended; what is sent to nobody is dropped

    async def _streamed(self) -> AsyncIterator[str | bytes]:
        while (chunk := await self._next()) is not None:
            yield text_event(chunk) if self._events else chunk
        await self._save()
        if self._events:
            yield saved_event(self.message)

    async def _next(self) -> str | None:
        """Return the producer's next chunk, ``None`` at its end."""
        try:
            chunk = await anext(self._chunks)
            self._reply.add(chunk)
        except StopAsyncIteration:
            return None
        except Exception as error:
            self._failed = True
            self._fault = error
            raise
        return chunk

    async def _end(self, reason: Reason) -> None:
        """Save what is not saved yet, when the response is over."""
        try:
            while self._finishes and reason == "disconnected" and not self._reply.is_over:
                if await self._next() is None:
                    await self._save()
        finally:
            try:
                await self._save("failed" if self._failed else reason)
            finally:
                close = getattr(self._chunks, "aclose", None)
                if close is not None:
                    await close()

    async def _save(self, reason: Reason | None = None) -> None:
        arguments = self._reply.to_save(reason)
        if arguments is None:
            self._reply.is_over = True
            return
        try:
            with self._reply.failures_logged(), CancelScope(shield=True):
                self._reply.message = await self._sessions.add_message(**arguments)
        except Exception as error:
            self._reply.is_over = True  # refused: the same again would be too
            self._fault = error
            raise
        self._reply.is_over = True
