"""Sessions of Strands Agents on disk: ``FileSessionManager``, and ``SnapshotSessionManager``.

Each agent of a session becomes a session. A redacted message is as it was redacted, without its
original. The state of an agent is the context; that of several agents together is not imported.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of, id_of_parts
from agent_cores.session.errors import StoreFormatError
from agent_cores.session.frameworks.found import (
    FoundMessage,
    FoundSession,
    Given,
    LeftOut,
    Messages,
)
from agent_cores.session.frameworks.natural import (
    Part,
    content_of,
    role_of,
    text_part,
    tool_result,
    tool_use,
)
from agent_cores.session.frameworks.values import DamagedError, object_of, time_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_AGENTS = "session_*/agents/agent_*"
_SNAPSHOTS = "**/session/*/scopes/agent/*/snapshots/snapshot_latest.json"
_MESSAGE = re.compile(r"message_(0|[1-9][0-9]*)\.json")


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[StrandsReader]:
    """Open the folder that the session manager was given."""
    reader = StrandsReader(given.folder, given.owner)
    if not await reader.total():
        raise StoreFormatError("the source has no sessions of Strands Agents")
    yield reader


class StrandsReader:
    """Reads a file for each message, in the order of their numbers; or a file for each agent."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = owner

    async def total(self) -> int:
        """Return how many agents there are."""
        found = (self._folder.glob(each) for each in (_AGENTS, _SNAPSHOTS))
        return sum(1 for paths in found for _ in paths)

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield a session for each agent."""
        for path in sorted(self._folder.glob(_AGENTS)):
            names = (
                path.parent.parent.name.removeprefix("session_"),
                path.name.removeprefix("agent_"),
            )
            try:
                agent = object_of((path / "agent.json").read_bytes())
            except (DamagedError, OSError) as error:
                yield LeftOut(f"agent {names[1]} of session {names[0]}", _why(error))
                continue
            yield self._session(names, agent, partial(_messages, path / "messages"))
        for path in sorted(self._folder.glob(_SNAPSHOTS)):
            names = path.parts[-6], path.parts[-3]
            try:
                snapshot = object_of(path.read_bytes())
                data = object_of(snapshot.get("data"))
            except (DamagedError, OSError) as error:
                yield LeftOut(f"agent {names[1]} of session {names[0]}", _why(error))
                continue
            agent = {**data, "updated_at": snapshot.get("created_at")}
            yield self._session(names, agent, partial(_kept, data.get("messages")))

    def _session(
        self, names: tuple[str, str], agent: dict[str, Any], messages: Messages
    ) -> FoundSession:
        state = agent.get("state")
        return FoundSession(
            session_id=id_of_parts(*names),
            owner_id=self._owner,
            messages=messages,
            created_at=time_of(agent.get("created_at")) or time_of(agent.get("updated_at")),
            attributes={"strands_session": names[0], "strands_agent": names[1]},
            context={id_of(key): value for key, value in state.items()}
            if isinstance(state, dict)
            else {},
        )


async def _messages(folder: Path) -> AsyncIterator[FoundMessage | LeftOut]:
    """Yield the messages of an agent that has a file for each."""
    for number in _numbers(folder):
        try:
            stored = object_of((folder / f"message_{number}.json").read_bytes())
            said = object_of(stored.get("redact_message") or stored.get("message"))
        except (DamagedError, OSError) as error:
            yield LeftOut(f"message {number}", _why(error))
            continue
        yield _message(number, said, stored.get("created_at"))


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the messages in a folder."""
    found = (_MESSAGE.fullmatch(path.name) for path in folder.glob("message_*"))
    return sorted(int(match[1]) for match in found if match is not None)


async def _kept(messages: object) -> AsyncIterator[FoundMessage | LeftOut]:
    """Yield the messages of an agent that has one file."""
    for number, said in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(said, dict):
            yield _message(number, said, None)
        else:
            yield LeftOut(f"message {number}", "is not a JSON object")


def _message(number: int, said: dict[str, Any], created_at: object) -> FoundMessage:
    content = said.get("content")
    blocks = content if isinstance(content, list) else [{"text": content}]
    more = {key: value for key, value in said.items() if key not in {"role", "content"}}
    return FoundMessage(
        id=f"imported:{number}",
        role=role_of(said.get("role")),
        content=content_of([part for block in blocks for part in _parts(block)]),
        created_at=time_of(created_at),
        metadata={"original": more} if any(more.values()) else {},
    )


def _parts(block: object) -> list[Part]:
    """Return the parts of a block, which has one key for each."""
    if not isinstance(block, dict):
        return [{"type": "value", "value": block}]
    return [_part(kind, value) for kind, value in block.items()]


def _part(kind: str, value: object) -> Part:
    if kind == "text" and isinstance(value, str):
        return text_part(value)
    if kind == "toolUse" and isinstance(value, dict):
        return tool_use(value.get("toolUseId"), value.get("name"), value.get("input"))
    if kind == "toolResult" and isinstance(value, dict):
        result = tool_result(value.get("toolUseId"), value.get("content"))
        return {**result, "is_error": True} if value.get("status") == "error" else result
    return {"type": kind, kind: value}


def _why(error: Exception) -> str:
    return "cannot be read" if isinstance(error, OSError) else str(error)
