"""Output of the command line: plain lines, in which stored text cannot control the terminal."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, Protocol

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent_cores.session.cli.status import Status
from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_GAP = "  "


class OutputError(SessionError):
    """The output could not be written."""


def say(line: str) -> None:
    """Print a line and flush; raise ``OutputError`` if that fails, unless the reader is gone."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error


def say_json(value: object) -> None:
    """Print a value as one line of JSON, with everything but ASCII escaped."""
    text = msgspec.json.encode(value).decode()
    say("".join(_json_escaped(character) for character in text))


def note(text: str) -> None:
    """Print a line that is not part of the output, such as a notice."""
    sys.stderr.write(shown(text) + "\n")


def fail(text: str, status: Status = Status.FAILED) -> NoReturn:
    """Print one line that says what went wrong, and exit."""
    note(f"agent-sessions: {text}")
    sys.exit(status)


def leave_quietly() -> None:
    """Exit after the reader is gone, as ``head`` does."""
    _give_up_output()
    sys.exit(1)


def shown(text: str) -> str:
    """Return text with everything escaped that a terminal might interpret."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; columns are as wide as their content, and nothing is cut."""
    lines = [tuple(head), *(tuple(map(shown, row)) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return [
        _GAP.join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


class ShowProgress(Protocol):
    """Tells a bar how many are done, and of how many, once that is known."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show it."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number and what there are so many of; ``many`` if that is more than an s added."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def amount(sessions: int, messages: int) -> str:
    """Return how many sessions there are, with how many messages."""
    return f"{counted(sessions, 'session')} with {counted(messages, 'message')}"


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[ShowProgress | None]:
    """Show a bar on standard error if that is a terminal; yield what tells it how many are done."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)


def _json_escaped(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _give_up_output() -> None:
    """Discard buffered output: it would otherwise be written at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
