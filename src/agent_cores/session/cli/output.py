"""What the command line prints: plain lines; nothing that was stored acts on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec
from rich.cells import cell_len

from agent_cores.session.errors import StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP = "  "


class OutputError(StorageUnavailableError):
    """What was to be printed could not be."""


def say(line: str) -> None:
    """Print a line, at once; ``OutputError`` where that fails, but for a reader who has gone."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error


def say_json(value: object) -> None:
    """Print a value as one line of JSON; what is not ASCII is escaped in it."""
    text = msgspec.json.encode(value).decode()
    say("".join(_json_escaped(character) for character in text))


def note(text: str) -> None:
    """Print a line that is not the output itself."""
    sys.stderr.write(shown(text) + "\n")


def fail(text: str, status: int = 1) -> None:
    """Print one line that says what went wrong, and end the program."""
    note(f"agent-sessions: {text}")
    sys.exit(status)


def leave_quietly() -> None:
    """End the program whose reader has gone, as ``head`` does."""
    _give_up_output()
    sys.exit(1)


def shown(text: str) -> str:
    """Return text with everything escaped that a terminal might act on."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, each as wide as what is in it: nothing is cut."""
    lines = [tuple(head), *(tuple(map(shown, row)) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return [
        _GAP.join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


def _json_escaped(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _give_up_output() -> None:
    """Let what is still kept for the output go nowhere: the end of the program would write it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
