"""``agent-sessions export`` and ``import``: whole sessions, exactly as they are."""

from __future__ import annotations

import sys
from dataclasses import replace as replaced
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import msgspec
from cyclopts import Parameter

from agent_cores.session.cli.markdown import write_markdown
from agent_cores.session.cli.opening import Json, Line, Where, Yes, with_sessions, with_store
from agent_cores.session.cli.output import (
    amount,
    counted,
    note,
    progress_bar,
    say,
    say_json,
    shown,
)
from agent_cores.session.cli.upkeep import confirm
from agent_cores.session.cli.written import failures_named, written
from agent_cores.session.errors import (
    ConfigurationError,
    CorruptRecordError,
    SessionMovedError,
    SessionNotFoundError,
)
from agent_cores.session.files import local_path
from agent_cores.session.frameworks.importing import Framework, import_from
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.models.times import utc_now
from agent_cores.session.moving.export import export_sessions
from agent_cores.session.moving.importing import (
    DamagedExportError,
    check_export,
    import_sessions,
)

if TYPE_CHECKING:
    from agent_cores.session.cli.opening import Opened
    from agent_cores.session.frameworks.writing import ImportTally
    from agent_cores.session.moving.tally import Names, Tally
    from agent_cores.session.storage.base import StorageProvider

Flag = Annotated[bool, Parameter(negative=())]
_OF_ONE_SESSION = (SessionNotFoundError, CorruptRecordError, SessionMovedError)
"""Errors that say nothing of the other sessions."""


def export(
    *session_ids: str,
    where: Where | None = None,
    output: str | None = None,
    format: Literal["jsonl", "markdown"] = "jsonl",  # noqa: A002 - the option's name
) -> None:
    """Write sessions to a file, with all that belongs to them, for import; or as Markdown to read.

    Of a user it writes the sessions that they own, as operator those of everybody.

    Parameters
    ----------
    session_ids
        The sessions; left out, all of them.
    output
        The file, which must not exist. Default: standard output.
    format
        jsonl, which import reads, from a storage; or markdown, of the sessions that are named.
    """
    where = where or Where()
    if format == "markdown":
        _export_markdown(session_ids, where, output)
        return
    where.require_user()
    user, namespace = where.user, where.namespace or (DEFAULT_NAMESPACE if session_ids else None)

    line, found = Line("export_sessions", session_ids), set[str]()

    async def use(store: StorageProvider, file: BinaryIO) -> Tally:
        total = len(session_ids) or (await store.count(namespace, utc_now())).sessions
        with progress_bar("export", total) as progress, failures_named(output):
            tally = await export_sessions(
                store,
                file,
                namespace=namespace,
                owner_id=user,
                session_ids=session_ids,
                progress=progress,
                found=found.add,
            )
        line.is_complete = tally.is_complete
        line.outcomes = dict.fromkeys(found)
        lacking = set(session_ids) - found
        if lacking:
            missing = counted(len(lacking), "of these sessions is", "of these sessions are")
            error = SessionNotFoundError(f"{missing} not stored, or not theirs")
            line.outcomes |= dict.fromkeys(lacking, error)
        return tally

    here = replaced(where, namespace=namespace)
    with written(output) as file:
        tally = with_store(
            here,
            line,
            lambda store: use(store, file),
            only_reads=True,
        )
        _leave_no_file_of_nothing(line)
    note(_done(tally, "exported"))
    _raise_first(line)
    finish(tally)


def _export_markdown(session_ids: tuple[str, ...], where: Where, output: str | None) -> None:
    if not session_ids:
        raise ConfigurationError("name the sessions to write as Markdown")
    line = Line("export_sessions", session_ids)
    with written(output) as file:
        with_sessions(where, lambda opened: _write_markdown(opened, line, file, output), line)
        _leave_no_file_of_nothing(line)
    _raise_first(line)


async def _write_markdown(opened: Opened, line: Line, file: BinaryIO, output: str | None) -> None:
    """Write all sessions that can be read, and name the others."""
    for session_id in line.session_ids:
        try:
            with failures_named(output):
                await write_markdown(opened, session_id, file)
        except _OF_ONE_SESSION as error:
            line.outcomes[session_id] = error
            if len(line.session_ids) > 1:  # else it is the error of the command
                note(f"agent-sessions: {shown(session_id)}: {error}")
        else:
            line.outcomes[session_id] = None


def _leave_no_file_of_nothing(line: Line) -> None:
    if None not in line.outcomes.values():
        _raise_first(line)


def _raise_first(line: Line) -> None:
    """Raise the error of a session that was named and could not be exported, if there is one."""
    for error in line.outcomes.values():
        if error is not None:
            raise error


def import_sessions_of(
    path: str | None = None,
    *,
    where: Where | None = None,
    framework: Annotated[Framework | None, Parameter(name="--from")] = None,
    replace: Flag = False,
    partial: Flag = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring the sessions of an export, or of a framework's store, into a store of ours.

    Running it again adds nothing. Of a framework's store that names no user, --user will own the
    sessions.

    Parameters
    ----------
    path
        The file. Left out, standard input, which is not checked before sessions are written.
        With --from the path or URL of the store to read.
    framework
        The agent framework that wrote the store.
    replace
        Replace sessions that are stored in another state. Asks first.
    partial
        Import what is good of a file that is damaged.
    yes
        Do not ask.
    as_json
        Print one line of JSON.
    """
    where = where or Where()
    if where.as_operator is None:
        raise ConfigurationError("only an operator can import: give --as-operator NAME")
    if replace:
        confirm("Replace the sessions that are stored in another state?", yes=yes)
    if framework is not None:
        if path is None or partial:
            raise ConfigurationError("--from needs the path or URL of a store, and no --partial")
        tally: Tally = _import_from(framework, path, where, replace=replace)
    else:
        tally = _import_file(path, where, replace=replace, partial=partial)
    report(tally, "imported", as_json=as_json)
    finish(tally)


def _import_from(framework: Framework, source: str, where: Where, *, replace: bool) -> ImportTally:
    namespace, line = where.namespace or DEFAULT_NAMESPACE, Line("import_sessions")

    async def use(store: StorageProvider) -> ImportTally:
        with progress_bar("import", None) as progress:
            tally = await import_from(
                framework,
                source,
                store,
                user=where.user,
                namespace=namespace,
                replace=replace,
                progress=progress,
            )
        line.is_complete = tally.is_complete
        return tally

    tally = with_store(replaced(where, namespace=namespace), line, use)
    if tally.left_out.count:
        listed = "; ".join(map(shown, tally.left_out.names))
        more = tally.left_out.count - len(tally.left_out.names)
        others = f"; and {more} more" if more else ""
        note(f"agent-sessions: {tally.left_out.count} left out: {listed}{others}")
    return tally


def _import_file(path: str | None, where: Where, *, replace: bool, partial: bool) -> Tally:
    line = Line("import_sessions")

    async def use(store: StorageProvider, file: BinaryIO, total: int | None) -> Tally:
        with progress_bar("import", total) as progress:
            tally = await import_sessions(
                store, file, namespace=where.namespace, replace=replace, progress=progress
            )
        line.is_complete = tally.is_complete
        return tally

    with sys.stdin.buffer if path is None else _opened(path) as file:
        total = None if path is None else _checked(file, partial=partial)
        return with_store(where, line, lambda store: use(store, file, total))


def _opened(path: str) -> BinaryIO:
    try:
        return local_path(path, "the export").open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error


def _checked(file: BinaryIO, *, partial: bool) -> int | None:
    """Return how many sessions a file holds; refuse a damaged one before anything is written."""
    try:
        total = check_export(file).sessions
    except DamagedExportError as error:
        if not partial:
            detail = f"{error}. Nothing was imported; --partial imports what is good"
            raise ConfigurationError(detail) from error
        total = None
    file.seek(0)
    return total


def report(tally: Tally, done: str, *, as_json: bool) -> None:
    """Say what has moved."""
    if as_json:
        say_json(msgspec.structs.asdict(tally))
        return
    say(_done(tally, done))


def _done(tally: Tally, done: str) -> str:
    is_or_are = "is" if tally.sessions == 1 else "are"
    there = f"; {counted(tally.present, 'was', 'were')} there already" if tally.present else ""
    return f"{amount(tally.sessions, tally.messages)} {is_or_are} {done}{there}."


def finish(tally: Tally, *, failed: bool = False) -> None:
    """Say what did not move, and exit with 1 if that is not as it should be."""
    if tally.ended:
        note(f"{counted(tally.ended, 'session')}, expired or not finished: not moved.")
    name_them("stored in another state, left unchanged", tally.different)
    name_them("cannot be read", tally.unreadable)
    name_them("hold what this store cannot keep, such as too long an id", tally.refused)
    name_them("changed again and again during the read", tally.changing)
    if failed or not tally.is_complete:
        sys.exit(1)


def name_them(why: str, names: Names) -> None:
    """Name sessions that did not move, and say why."""
    if names.count:
        more = names.count - len(names.names)
        listed = ", ".join(map(shown, names.names)) + (f" and {more} more" if more else "")
        note(f"agent-sessions: {counted(names.count, 'session')}: {why}: {listed}")
