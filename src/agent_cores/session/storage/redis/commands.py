"""``Command``: a packed command, and ``Script``: a Lua script that is called by its SHA-1."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.models.representation import hides
from agent_cores.session.storage.redis.driver import pack_command

Argument = bytes | str | int

_ASKING = pack_command((b"ASKING",))
_HEADER_FIELDS = "local header_fields = {'" + "', '".join(HEADER_FIELDS) + "'}\n"


def _pack(arguments: tuple[Argument, ...]) -> bytes:
    packed: bytes = pack_command(arguments)  # type: ignore[arg-type]  # its stub means any tuple
    return packed


@hides("packed", "in_full")
class Command(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One packed command. ``key`` decides which node of a cluster gets it; ``None``: any.

    ``repeatable``: it may be sent again if its response was lost. ``in_full``: the same command
    with the text of its script, for a node that does not know it. ``replies``: their number.
    """

    packed: bytes
    key: bytes | None = None
    repeatable: bool = False
    reads: bool = False
    in_full: tuple[Argument, ...] = ()
    replies: int = 1

    @classmethod
    def read(cls, *arguments: Argument, key: bytes | None = None) -> Command:
        """Return a command that only reads."""
        return cls(packed=_pack(arguments), key=key, repeatable=True, reads=True)

    @classmethod
    def write(cls, *arguments: Argument, key: bytes) -> Command:
        """Return an idempotent command that writes."""
        return cls(packed=_pack(arguments), key=key, repeatable=True)

    def with_script(self) -> Command:
        """Return the command with the text of its script, which the node then remembers."""
        return msgspec.structs.replace(self, packed=_pack(self.in_full), in_full=())

    def asking(self) -> Command:
        """Return the command for a node that is still importing the slot."""
        return msgspec.structs.replace(self, packed=_ASKING + self.packed, replies=2)


class Script:
    """A Lua script of this package."""

    def __init__(self, name: str, *, reads: bool = False, repeatable: bool = True) -> None:
        text = files(__package__).joinpath("scripts", f"{name}.lua").read_text("utf-8")
        self._text = _HEADER_FIELDS + text if "header_fields" in text else text
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        self._reads = reads
        self._repeatable = repeatable

    def on(self, keys: tuple[bytes, ...], *arguments: Argument) -> Command:
        """Return the command that runs the script on keys of one slot."""
        rest = (len(keys), *keys, *arguments)
        return Command(
            packed=_pack((b"EVALSHA", self._sha, *rest)),
            key=keys[0],
            repeatable=self._repeatable,
            reads=self._reads,
            in_full=(b"EVAL", self._text, *rest),
        )


APPLY = Script("apply", repeatable=False)
READ = Script("read", reads=True)
INDEX = Script("index")
REMOVE = Script("remove")
PAGE = Script("page", reads=True)
CLAIM = Script("claim", repeatable=False)
LEASE = Script("lease")
REPAIR = Script("repair")
