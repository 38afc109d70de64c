"""``Messages``: those of one session of a thread. Only what the user wrote is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.layouts.langgraph import PAGE, parts
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionNotFoundError
from agent_cores.session.models.values import EncodedJson, encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.adapters.pieces import Draft
    from agent_cores.session.models.message import Message


class Fetched(NamedTuple):
    """Messages by id, and the version of their session with the last page.

    The version is ``None`` if there is no session.
    """

    messages: dict[str, Message]
    version: str | None
    pages: int


class Messages:
    """The messages of one session."""

    def __init__(self, acting: Acting, session_id: str) -> None:
        self.acting = acting
        self.session_id = session_id

    async def add(
        self,
        messages: Sequence[Draft],
        *,
        expected_last_seq: int | None = None,
        expected_version: str | None = None,
    ) -> list[Message]:
        """Add messages in one write. ``ConflictError`` if one is stored with other content."""
        verbs, user_id = self.acting
        if len(messages) == 1:  # this costs less than a list of one
            [message] = messages
            stored = await verbs.add_message(
                self.session_id,
                user_id,
                message["role"],
                _encoded(message["content"]),
                message_id=message["id"],
                metadata=message.get("metadata"),
                expected_last_seq=expected_last_seq,
                expected_version=expected_version,
            )
            return [stored]
        new = [{**each, "content": _encoded(each["content"])} for each in messages]
        return await verbs.add_messages(
            self.session_id,
            user_id,
            new,
            expected_last_seq=expected_last_seq,
            expected_version=expected_version,
        )

    async def insert(self, messages: Sequence[Draft]) -> None:
        """Add the messages whose ids are not stored yet, in as many writes as they take.

        ``ConflictError`` if somebody else wrote one of them.
        """
        for part in parts(messages):
            pauses, missing = backoff(), part
            while missing:
                try:
                    await self.add(missing)
                except ConflictError:
                    stored = (await self._stored([each["id"] for each in part])).messages
                    left = [each for each in part if each["id"] not in stored]
                    user_id = self.acting.user_id
                    is_foreign = any(each.author_id != user_id for each in stored.values())
                    if is_foreign or (len(left) == len(missing) and not await pauses.pause()):
                        raise
                    missing = left
                    continue
                break

    async def replace(self, messages: Sequence[Draft]) -> None:
        """Add messages; where an id is stored, its content becomes this one."""
        verbs, user_id = self.acting
        for part in parts(messages):
            found = await self.fetch([each["id"] for each in part])
            for each in part:
                stored = found.get(each["id"])
                if stored is not None and stored.content != each["content"]:
                    await verbs.update_message(
                        self.session_id, user_id, stored.seq, content=each["content"]
                    )
            await self.insert([each for each in part if each["id"] not in found])

    async def fetch(self, ids: Iterable[str]) -> dict[str, Message]:
        """Return the user's messages with these ids, in as many pages as they take."""
        return (await self.fetch_with_version(list(ids))).messages

    async def fetch_with_version(self, ids: Sequence[str]) -> Fetched:
        """Return the same, with the version of the session."""
        user_id = self.acting.user_id
        found, version, pages = await self._stored(ids)
        if any([each.author_id != user_id for each in found.values()]):  # noqa: C419 - faster
            found = {name: each for name, each in found.items() if each.author_id == user_id}
        return Fetched(found, version, pages)

    async def after(self, seq: int = 0) -> AsyncIterator[tuple[list[Message], int]]:
        """Yield pages of the user's messages after a seq, and the session's last seq."""
        verbs, user_id = self.acting
        while True:
            page = await verbs.get_session_messages(self.session_id, user_id, PAGE, after_seq=seq)
            yield self.own(page), page.last_seq or 0
            if not page.has_more:
                return
            seq = page[-1].seq

    async def before(self, seq: int, limit: int) -> tuple[list[Message], int]:
        """Return the latest messages of the user before a seq, and the seq to go on from; or 0."""
        verbs, user_id = self.acting
        page = await verbs.get_session_messages(self.session_id, user_id, limit, before_seq=seq)
        return self.own(page), page[0].seq if page else 0

    async def delete(self, ids: Sequence[str], *, expected_last_seq: int | None = None) -> None:
        """Delete at most 1,000 messages in one write."""
        verbs, user_id = self.acting
        await verbs.delete_messages(
            self.session_id, user_id, ids=ids, expected_last_seq=expected_last_seq
        )

    async def delete_session(self) -> None:
        """Delete the session if there is one."""
        verbs, user_id = self.acting
        try:
            await verbs.delete_session(self.session_id, user_id)
        except SessionNotFoundError:
            return

    def own(self, messages: Iterable[Message]) -> list[Message]:
        """Return the messages that the user wrote."""
        user_id = self.acting.user_id
        return [each for each in messages if each.author_id == user_id]

    async def _stored(self, ids: Sequence[str]) -> Fetched:
        """Return the messages with these ids, whoever wrote them; none if there is no session."""
        verbs, user_id = self.acting
        found: dict[str, Message] = {}
        version, pages = None, 0
        for first in range(0, len(ids), PAGE):
            wanted = list(ids[first : first + PAGE])
            while wanted:
                try:
                    page = await verbs.get_messages(self.session_id, user_id, ids=wanted)
                except SessionNotFoundError:
                    return Fetched(found, None, pages)
                version = page.version
                pages += 1
                found.update((each.id, each) for each in page)
                if not page.has_more:
                    break
                read = {each.id for each in page}
                wanted = [each for each in wanted if each not in read]
        return Fetched(found, version, pages)


def _encoded(content: Any) -> Any:  # noqa: ANN401 - any JSON in, and what the verbs take as such
    """Return what a message says, encoded: it is made of text and bytes, so it needs no check."""
    try:
        return EncodedJson(encode_json(content))
    except UnicodeEncodeError:  # a lone surrogate: the verb says where
        return content
