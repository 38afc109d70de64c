"""Transcripts of Claude Code and the Claude Agent SDK: JSON Lines below ``~/.claude/projects``.

They are as ``ClaudeSessionStore`` keeps them. Their summaries are made by the SDK, which must be
installed.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.layouts.claude_agent_sdk import (
    DEEPEST,
    context_of,
    entry_messages,
    metadata_of,
    session_id_of,
)
from agent_cores.session.errors import (
    InvalidInputError,
    MissingDependencyError,
    StoreFormatError,
)
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, Given, LeftOut
from agent_cores.session.frameworks.values import DamagedError, object_of, time_of
from agent_cores.session.models.values import check_json, decode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_SUFFIX = ".jsonl"
_FOLDED = 500
"""Entries that a summary is made of at a time."""


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[ClaudeReader]:
    """Open a folder: ``~/.claude``, its ``projects``, or one project."""
    try:
        from claude_agent_sdk import fold_session_summary  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingDependencyError("claude-agent-sdk", "claude-agent-sdk") from error
    projects = _projects(given.folder)
    if not any(True for project in projects for _ in _transcripts(project)):
        raise StoreFormatError("the source has no transcripts of Claude")
    yield ClaudeReader(projects, given.owner, fold_session_summary)


class ClaudeReader:
    """Reads each transcript line by line: main ones, and those of their sub-agents."""

    def __init__(self, projects: list[Path], owner: str, fold: Callable[..., Any]) -> None:
        self._projects = projects
        self._owner = owner
        self._fold = fold

    async def total(self) -> int:
        """Return how many transcripts there are."""
        return sum(1 for project in self._projects for _ in _transcripts(project))

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield a session for each transcript."""
        for project in self._projects:
            for path, key in _transcripts(project):
                metadata = metadata_of(key)
                yield FoundSession(
                    session_id=session_id_of(self._owner, key),
                    owner_id=self._owner,
                    messages=partial(_messages, path),
                    tags=tuple(metadata.pop("tags")),
                    attributes=metadata,
                    context={} if "subpath" in key else context_of(self._summary(path, key)),
                )

    def _summary(self, path: Path, key: dict[str, Any]) -> Any:  # noqa: ANN401 - the SDK's own
        summary, some = None, []
        for _, entry in _entries(path):
            if isinstance(entry, dict):
                some.append(entry)
            if len(some) == _FOLDED:
                summary, some = self._fold(summary, key, some), []
        return self._fold(summary, key, some)


def _projects(folder: Path) -> list[Path]:
    """Return the folders of projects."""
    if (folder / "projects").is_dir():
        folder /= "projects"
    if any(folder.glob(f"*{_SUFFIX}")):
        return [folder]
    return sorted(each for each in folder.iterdir() if each.is_dir())


def _transcripts(project: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each transcript of a project with its key."""
    for path in sorted(project.glob(f"*{_SUFFIX}")):
        yield path, {"project_key": project.name, "session_id": path.stem}
    for path in sorted(project.glob(f"*/*/**/*{_SUFFIX}")):
        session_id, *subpath = path.relative_to(project).with_suffix("").parts
        key = {"project_key": project.name, "session_id": session_id}
        yield path, {**key, "subpath": "/".join(subpath)}


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any] | DamagedError]]:
    """Yield the entries of a transcript with the numbers of their lines; also what is damaged."""
    number = 0
    sidecar = path.with_suffix(".meta.json")  # of a sub-agent
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _entry(line)
        if sidecar.is_file():
            yield number + 1, _entry(sidecar.read_bytes(), type="agent_metadata")
    except OSError:
        yield number + 1, DamagedError("cannot be read")


def _entry(data: bytes, **more: str) -> dict[str, Any] | DamagedError:
    try:
        return {**object_of(_value(data)), **more}
    except DamagedError as error:
        return error


def _value(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return what a line says: the standard library's parser also reads half a surrogate pair."""
    try:
        return decode_json(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        found = json.loads(data)
        check_json(found, "entry", DEEPEST)
    except (ValueError, RecursionError) as error:
        raise DamagedError("is not valid JSON") from error
    return found


async def _messages(path: Path) -> AsyncIterator[FoundMessage | LeftOut]:
    """Yield the entries as messages; one whose uuid came before is left out, as by the adapter."""
    known: set[str] = set()
    for number, entry in _entries(path):
        if isinstance(entry, DamagedError):
            yield LeftOut(f"line {number}", str(entry))
            continue
        uuid = entry.get("uuid")
        if isinstance(uuid, str):
            if uuid in known:
                continue
            known.add(uuid)
        message_id = id_of(uuid) if isinstance(uuid, str) else f"imported:{number}"
        try:
            messages = entry_messages(entry, message_id, "entry")
        except InvalidInputError as error:
            yield LeftOut(f"line {number}", str(error))
            continue
        for message in messages:
            yield FoundMessage(**message, created_at=time_of(entry.get("timestamp")))
