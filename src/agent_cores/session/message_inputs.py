"""``MessageInputs``: the checks of messages to append, import or update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agent_cores.session.codec import encode_body, encode_text
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import Inputs, moment, new_id, plain_text, whole_number
from agent_cores.session.models.effects import MessageUpdate
from agent_cores.session.models.message import ImportedMessage, NewMessage, StoredMessage
from agent_cores.session.models.raw_json import checked_content
from agent_cores.session.models.values import EncodedJson, decode_json, to_json

if TYPE_CHECKING:
    from datetime import datetime

_EMPTY = b"{}"


class MessageInputs(Inputs):
    """All checks that depend on limits, those of messages included."""

    def one_message(self, message: NewMessage, author_id: str, at: datetime) -> StoredMessage:
        """Return a message to append, encoded, with an id drawn if it has none."""
        try:
            draft = self._draft(message, author_id, at)
        except InvalidInputError as error:
            field = "message_id" if error.field == "id" else error.field
            raise InvalidInputError(field, error.problem) from error
        self._check_append_size(len(draft.body))
        return draft

    def messages(
        self, value: object, author_id: str, at: datetime, *, imports: bool = False
    ) -> tuple[StoredMessage, ...]:
        """Return messages to append, encoded; ids are drawn where missing, none may come twice.

        With ``imports`` each may have a ``created_at`` and an ``author_id`` of its own.
        """
        if not isinstance(value, list | Sequence) or isinstance(value, str | bytes):
            raise InvalidInputError("messages", f"must be a list, not {type(value).__name__}")
        whole_number(len(value), "messages", 1, self._limits.append_messages)
        drafts: list[StoredMessage] = []
        for index, item in enumerate(value):
            try:
                message = item if isinstance(item, NewMessage) else _new_message(item, imports)
                if isinstance(message, ImportedMessage):
                    drafts.append(self._imported(message, author_id, at, imports=imports))
                else:
                    drafts.append(self._draft(message, author_id, at))
            except InvalidInputError as error:
                place = f"messages/{index}/{error.field}".rstrip("/")
                raise InvalidInputError(place, error.problem) from error
        if len(drafts) > 1 and len({draft.id for draft in drafts}) < len(drafts):
            raise InvalidInputError("messages", "must not hold the same id twice")
        self._check_append_size(sum([len(draft.body) for draft in drafts]))
        return tuple(drafts)

    def message_update(
        self, seq: int, content: object, metadata_updates: object, metadata_removals: object
    ) -> MessageUpdate:
        """Return the update of the message at a seq, encoded; its id is still to be filled in."""
        most = self._limits.metadata_bytes
        metadata = _EMPTY
        if isinstance(metadata_updates, Mapping):
            metadata = self._json(dict(metadata_updates), "metadata_updates", most)
        elif metadata_updates is not None:
            kind = type(metadata_updates).__name__
            raise InvalidInputError("metadata_updates", f"must be a mapping, not {kind}")
        removals = self._keys(metadata_removals, "metadata_removals", most)
        if removals and not decode_json(metadata).keys().isdisjoint(removals):
            raise InvalidInputError("metadata_removals", "names a key that is also set")
        return MessageUpdate(
            seq=seq,
            id="",
            content=None if content is UNSET else self._content(content),
            metadata=metadata,
            metadata_drop=removals,
        )

    def _keys(self, value: object, field: str, at_most: int) -> tuple[str, ...]:
        """Return keys of an object, any text, without duplicates."""
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise InvalidInputError(field, f"must be a list of text, not {type(value).__name__}")
        keys = list(value)
        if not all(isinstance(key, str) for key in keys):
            raise InvalidInputError(field, "must be a list of text")
        keys = list(dict.fromkeys(keys))
        self._json(keys, field, at_most)
        return tuple(keys)

    def _check_append_size(self, size: int) -> None:
        most = self._limits.append_bytes
        if size > most:
            raise InvalidInputError("messages", f"are {size} bytes, at most {most} allowed")

    def _draft(self, message: NewMessage, author_id: str, at: datetime) -> StoredMessage:
        role, content = self.name(message.role, "role"), message.content
        if type(author_id) is not str:
            author_id = plain_text(author_id, "user_id")
        body = None
        if message.metadata is None and isinstance(content, str):
            body = encode_text(role, content, author_id, self._limits.content_bytes)
        if body is None:
            body = self._body(role, message, author_id)
        message_id = new_id() if message.id is None else self.new_identifier(message.id, "id")
        return StoredMessage(0, message_id, at, body)

    def _imported(
        self, message: ImportedMessage, author_id: str, at: datetime, *, imports: bool
    ) -> StoredMessage:
        """Return a message that keeps when it was created and by whom."""
        for field in ("created_at", "author_id"):
            if not imports and getattr(message, field) is not None:
                raise InvalidInputError(field, "is kept for operators only")
        created_at = moment(message.created_at, "created_at")
        if created_at is not None and created_at > at:
            raise InvalidInputError("created_at", "must not be in the future")
        if message.author_id is not None:
            author_id = self.user_id(message.author_id, "author_id")
        return self._draft(message, author_id, created_at or at)

    def _body(self, role: str, message: NewMessage, author_id: str) -> bytes:
        limits = self._limits
        content = self._content(message.content)
        metadata = _EMPTY
        given: object = message.metadata
        if given is not None:
            if isinstance(given, Mapping):
                given = dict(given)
            elif not isinstance(given, EncodedJson):
                kind = type(given).__name__
                raise InvalidInputError("metadata", f"must be a mapping, not {kind}")
            metadata = self._json(given, "metadata", limits.metadata_bytes)
        return encode_body(role, content, author_id, metadata)

    def _content(self, value: object) -> bytes:
        """Return what a message says, encoded."""
        depth, at_most = self._limits.json_depth, self._limits.content_bytes
        if isinstance(value, msgspec.Raw):
            return checked_content(value, "content", depth=depth, at_most=at_most)
        if value is not None and not isinstance(value, str | list | dict | EncodedJson):
            kind = type(value).__name__
            problem = f"must be text, a list, an object or None, or msgspec.Raw of one, not {kind}"
            raise InvalidInputError("content", problem)
        return to_json(value, "content", depth=depth, at_most=at_most)


def _new_message(item: object, imports: bool) -> NewMessage:  # noqa: FBT001 - see ``messages``
    if not isinstance(item, Mapping):
        raise InvalidInputError("", f"must be a mapping or a NewMessage, not {type(item).__name__}")
    empty = ImportedMessage("", "") if imports else NewMessage("", "")
    unknown = item.keys() - set(empty.__struct_fields__)
    if unknown:
        raise InvalidInputError("", f"has unknown keys: {', '.join(sorted(map(str, unknown)))}")
    missing = {"role", "content"} - item.keys()
    if missing:
        raise InvalidInputError("", f"lacks keys: {', '.join(sorted(missing))}")
    return msgspec.structs.replace(empty, **item)
