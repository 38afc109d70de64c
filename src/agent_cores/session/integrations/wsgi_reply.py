"""``saved``: what Flask and Django stream, saved whole or as far as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.integrations.reply import Reason, Reply, saved_event, text_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent_cores.session.sync_manager import SyncSessionManager


def saved(
    sessions: SyncSessionManager,
    session_id: str,
    user_id: str,
    chunks: Iterable[str],
    *,
    role: str = "assistant",
    message_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    turn: str | None = None,
    finish: bool = False,
    events: bool = False,
) -> Iterator[bytes]:
    """Yield the chunks as bytes, and save them as one message when they or the client end.

    The server closes the iterator when the client goes away, at the next chunk. The arguments and
    the marks of an incomplete reply are those of ``fastapi.StreamedReply``.
    """
    reply = Reply(
        session_id, user_id, role=role, message_id=message_id, metadata=metadata, turn=turn
    )
    produced = iter(chunks)
    reason: Reason | None = "failed"
    try:
        for chunk in produced:
            reply.add(chunk)
            reason = "disconnected"
            yield text_event(chunk) if events else chunk.encode()
            reason = "failed"
        reason = None
    except GeneratorExit:
        if finish:
            reason = "failed"
            for chunk in produced:
                reply.add(chunk)
            reason = None
        raise
    finally:
        try:
            arguments = reply.to_save(reason)
            if arguments is not None:
                with reply.failures_logged():
                    reply.message = sessions.add_message(**arguments)
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()
    if events:
        yield saved_event(reply.message)
