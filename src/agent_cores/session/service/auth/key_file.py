"""``KeyFile``: keys in a JSON file that the operator owns, ``{"keys": [...]}``.

If anything in the file is not understood, none of its keys is valid: a misspelt ``expires_at``
would otherwise be a key that never expires. The error names the first fault only.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.auth.api_keys import ApiKey, check_fields, key_of
from agent_cores.session.service.auth.file_edits import locked_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_SETTING = "SESSION_SERVICE_KEYS_FILE"
_Stamp = tuple[int, int, int, int]
"""The file attributes that change when it is written or replaced."""
_Held = dict[str, ApiKey]


class KeyFile:
    """Keys in a file, which is read again when it has changed.

    While the file is unreadable or wrong, every lookup raises ``ConfigurationError`` and none of
    its keys is valid: the keys read before may be among those to revoke. A missing file has no
    keys.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: _Stamp | None = None
        self._held: _Held = {}
        self._fault: str | None = None
        self._loading = threading.Lock()

    async def get(self, key_id: str) -> ApiKey | None:
        """Look up a key."""
        return (await self._read()).get(key_id)

    async def all(self) -> list[ApiKey]:
        """Return all keys, the last added first."""
        return list(reversed((await self._read()).values()))

    async def add(self, key: ApiKey) -> None:
        """Write the file with one more key."""

        def with_key(held: _Held) -> _Held:
            return {**held, key.id: key}

        await asyncio.to_thread(self._edit, with_key)

    async def revoke(self, key_id: str) -> bool:
        """Write the file without a key."""

        def without_key(held: _Held) -> _Held | None:
            rest = {name: key for name, key in held.items() if name != key_id}
            return None if len(rest) == len(held) else rest

        return await asyncio.to_thread(self._edit, without_key)

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Do nothing: the file belongs to the operator."""

    async def _read(self) -> _Held:
        if self._stamp is None or self._stamp != self._stamp_now():
            await asyncio.to_thread(self._load)  # a large file would block the loop for too long
        if self._fault is not None:
            raise ConfigurationError(self._named(self._fault))
        return self._held

    def _stamp_now(self) -> _Stamp | None:
        try:
            return _stamp(self._path.stat())
        except OSError:
            return None

    def _load(self) -> None:
        with self._loading:
            stamp, held, fault = None, {}, None
            try:
                with self._path.open("rb") as file:
                    stamp = _stamp(os.fstat(file.fileno()))
                    held = _keys_of(file.read())
            except FileNotFoundError:
                pass
            except (OSError, ConfigurationError) as error:
                fault = str(error)
            self._held, self._fault, self._stamp = held, fault, stamp

    def _named(self, problem: str) -> str:
        return f"{_SETTING} ({self._path}): {problem}"

    def _edit(self, change: Callable[[_Held], _Held | None]) -> bool:
        """Write the keys that ``change`` returns; ``False`` if it returns none."""
        path = self._path.resolve()  # behind a link, edit its target
        try:
            with locked_folder(path.parent):
                changed = change(_keys_of(path.read_bytes()) if path.exists() else {})
                if changed is not None:
                    replace_file(path, _text_of(changed))
        except (OSError, ConfigurationError) as error:
            raise ConfigurationError(self._named(str(error))) from error
        return changed is not None


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _text_of(keys: _Held) -> bytes:
    return msgspec.json.format(msgspec.json.encode({"keys": list(keys.values())})) + b"\n"


def _keys_of(raw: bytes) -> _Held:
    """Parse the text of a file; ``ConfigurationError`` names the first thing that is wrong."""
    try:
        found = json.loads(raw, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"not JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("keys", []), list):
        raise ConfigurationError('the file is an object with a list "keys"')
    check_fields(found, ("keys",))
    keys: _Held = {}
    for place, record in enumerate(found.get("keys", ())):
        try:
            _add(keys, record)
        except ConfigurationError as error:
            raise ConfigurationError(f"{_called(record, place)}: {error}") from error
    return keys


def _add(keys: _Held, record: object) -> None:
    if not isinstance(record, dict):
        raise ConfigurationError("a key is an object")
    key = key_of(record)
    if key.id in keys:
        raise ConfigurationError("id is given to two keys")
    keys[key.id] = key


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return found


def _called(record: object, place: int) -> str:
    """Return how messages name a key: by its position, and its id if it has one."""
    key_id = record.get("id") if isinstance(record, dict) else None
    return f"keys/{place}" + (f" (id {key_id!r})" if isinstance(key_id, str) else "")
