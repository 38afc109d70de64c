"""Copies of threads: the data first, then the checkpoints that were there before, in their order.

A checkpoint that is still there after the data was read has lost nothing before. The target's log
must not change while checkpoints are added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.langgraph.log import unordered
from agent_cores.session.adapters.layouts.langgraph import (
    is_checkpoint,
    parts,
    value_messages,
    values_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_cores.session.adapters.langgraph.thread import Thread
    from agent_cores.session.adapters.pieces import Draft
    from agent_cores.session.models.message import Message


async def copy_thread(source: Thread, target: Thread) -> None:
    """Copy a thread with everything that belongs to it.

    Equal checkpoints of the target are replaced, others stay. ``ConflictError`` if something is put
    there at the same time.
    """
    session = await source.log.read(0)
    if session is None or source.log.session_id == target.log.session_id:
        return
    await target.open()
    begun = await target.log.read(0)
    last_seq = 0 if begun is None else begun.metadata.last_seq
    was_empty = last_seq == 0
    await _copy_data(source, target)
    async for page, _ in source.log.after():
        found = [
            each for each in page if is_checkpoint(each) and each.seq <= session.metadata.last_seq
        ]
        if any(each.updated_at is not None for each in found):  # completed since, perhaps
            await _copy_data(source, target)
        known = {} if was_empty else await target.log.fetch([each.id for each in found])
        await _replace(target, [each for each in found if each.id in known], known)
        new = [each for each in found if each.id not in known]
        sorted_by_readers = [each for each in new if each.seq <= unordered(session)]
        if not was_empty:
            sorted_by_readers = new
        if sorted_by_readers:
            await target.log.note_unordered(last_seq + len(sorted_by_readers))
        last_seq = await _add(target, new, last_seq)
    if not was_empty:  # values that the copy shares with removed checkpoints may have gone
        await target.data.change()
        await _copy_data(source, target)


async def _replace(
    target: Thread, messages: Sequence[Message], known: Mapping[str, Message]
) -> None:
    changed = [each for each in messages if each.content != known[each.id].content]
    contents: list[Any] = [each.content for each in changed]
    small = [value for each in contents for value in value_messages(each["ns"], values_in(each))]
    if small:  # a saver that knows the old checkpoints would not repeat these in the next ones
        await target.data.restore(small)
    await target.log.replace([_draft(each) for each in changed])


async def _add(target: Thread, messages: Sequence[Message], last_seq: int) -> int:
    for part in parts([_draft(each) for each in messages]):
        stored = await target.log.add(part, expected_last_seq=last_seq)
        last_seq = stored[-1].seq
    return last_seq


async def _copy_data(source: Thread, target: Thread) -> None:
    async for page, _ in source.data.after():
        await target.data.replace([_draft(each) for each in page])


def _draft(message: Message) -> Draft:
    return {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "metadata": message.metadata,
    }
