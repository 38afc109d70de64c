"""The file of keys: what is wrong in it opens nothing, and an edit loses nothing."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import fcntl
import json
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.models.times import utc_now
from agent_cores.session.service.auth import file_edits
from agent_cores.session.service.auth.api_keys import ApiKey, hashed
from agent_cores.session.service.auth.key_file import KeyFile
from agent_cores.session.session_manager import SessionManager
from tests.service.wire import Caller, Wire

S = "/v1/sessions"
RECORD = {
    "id": "k1",
    "name": "file",
    "namespace": "default",
    "secret_hash": hashed("secret"),
    "rights": ["read", "write", "act-as"],
    "created_at": "2026-01-01T00:00:00Z",
}


def key(key_id: str) -> ApiKey:
    return ApiKey(
        id=key_id,
        name=f"key {key_id}",
        namespace="default",
        secret_hash=hashed("secret"),
        rights=("read", "act-as"),
        created_at=utc_now(),
    )


def written(folder: Path, *records: Any) -> Path:
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": list(records)}))
    return path


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def fixed(**fields: Any) -> dict[str, Any]:
    """Return the record of a key of one user."""
    return {**RECORD, "rights": ["read"], **fields}


WRONG: dict[str, tuple[Any, str]] = {
    "a misspelt end": ({**RECORD, "expire_at": "2020-01-01T00:00:00Z"}, "did you mean expires_at"),
    "a misspelt prefix": ({**RECORD, "userprefix": "shop:"}, "did you mean user_prefix"),
    "a field of nobody's": ({**RECORD, "zzz": 1}, "unknown field 'zzz'; known are"),
    "a time without zone": ({**RECORD, "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    "no time": ({**RECORD, "created_at": "yesterday"}, "created_at"),
    "a hash that is not ASCII": ({**RECORD, "secret_hash": "é" * 64}, "secret_hash"),
    "the secret itself": ({**RECORD, "secret_hash": "secret"}, "secret_hash"),
    "a group as its user": (fixed(user_id="group:x"), "user_id"),
    "a user with control characters": (fixed(user_id="a\n"), "user_id"),
    "a right of nobody's": ({**RECORD, "rights": ["all"]}, "rights"),
    "a missing field": ({k: v for k, v in RECORD.items() if k != "namespace"}, "namespace"),
    "an id that no key can name": ({**RECORD, "id": "a_b"}, "id"),
    "no object": (["k1"], "a key is an object"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named_and_opens_nothing(
    wire: Wire, tmp_path: Path, case: str
) -> None:
    record, named = WRONG[case]
    path = written(tmp_path, RECORD)
    service = wire.another(keys_file=str(path))
    ann = Caller(service, "ann", "ask_k1_secret", {})
    assert (await ann("GET", S)).status == 200
    written(tmp_path, {**RECORD, "id": "other"}, record)
    with pytest.raises(ConfigurationError) as refused:
        await KeyFile(str(path)).all()
    assert named in str(refused.value)
    assert "keys/1" in str(refused.value)
    assert str(path) in str(refused.value)
    assert hashed("secret") not in str(refused.value)
    wire.steps.now += 4
    for key_id in ("k1", "other"):
        caller = Caller(service, "ann", f"ask_{key_id}_secret", {})
        assert (await caller("GET", S)).code == "storage_unavailable", "not the keys before either"
    written(tmp_path, RECORD)
    assert (await ann("GET", S)).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"keys": {}}',
        '{"keys": [], "key": []}',
        '{"keys": [], "keys": []}',
        "[" * 100_000,
        '{"keys": ["\xff"]}',
    ],
)
async def test_what_is_no_file_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="SESSION_SERVICE_KEYS_FILE"):
        await KeyFile(str(path)).all()


async def test_a_field_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"keys": [{**RECORD, "expires_at": "2020-01-01T00:00:00Z"}]})
    path = tmp_path / "keys.json"
    path.write_text(text.replace('"expires_at"', '"expires_at": null, "expires_at"'))
    with pytest.raises(ConfigurationError, match="'expires_at' is given twice"):
        await KeyFile(str(path)).all()


async def test_an_id_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, RECORD, {**RECORD, "name": "other"})
    with pytest.raises(ConfigurationError, match="id is given to two keys"):
        await KeyFile(str(path)).all()


async def test_a_service_does_not_start_on_a_wrong_file(tmp_path: Path) -> None:
    path = written(tmp_path, {**RECORD, "expire_at": "2020-01-01T00:00:00Z"})
    service = Wire().another(keys_file=str(path))
    with pytest.raises(ConfigurationError, match="expires_at"):
        async with service.lifespan():
            raise AssertionError


async def test_a_wrong_file_is_read_once_and_not_for_every_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent_cores.session.service.auth import key_file

    path = written(tmp_path, {**RECORD, "expire_at": None})
    kept = KeyFile(str(path))
    read: list[bytes] = []
    keys_of = key_file._keys_of

    def counted(raw: bytes) -> dict[str, ApiKey]:
        read.append(raw)
        return keys_of(raw)

    monkeypatch.setattr(key_file, "_keys_of", counted)
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            await kept.get("k1")
    assert len(read) == 1


async def test_a_stored_key_that_is_not_understood_opens_nothing(wire: Wire) -> None:
    """A later release may narrow a key by a field that this one does not know."""
    good, bad = await wire.key(), await wire.key()
    kept = wire.manager._runtime.storage._records  # type: ignore[attr-defined]
    kept["_keys", bad.split("_")[1]].header.attributes["key"]["only_from"] = "10.0.0.1"
    assert (await Caller(wire.service, "ann", bad, {})("GET", S)).code == "storage_unavailable"
    assert (await Caller(wire.service, "ann", good, {})("GET", S)).status == 200
    assert [known.id for known in await wire.keys.all()] == [good.split("_")[1]]
    assert await wire.keys.revoke(bad.split("_")[1])


def add_some(path: str, name: str) -> None:
    async def add() -> None:
        for number in range(3):
            await KeyFile(path).add(key(f"{name}x{number}"))

    asyncio.run(add())


def test_eight_processes_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=add_some, args=(str(path), f"p{number}")) for number in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert len(asyncio.run(KeyFile(str(path)).all())) == 24
    assert list(tmp_path.iterdir()) == [path]


async def test_an_edit_keeps_mode_and_owner(tmp_path: Path) -> None:
    path = written(tmp_path, RECORD)
    path.chmod(0o640)
    given = (1234, 4321) if os.geteuid() == 0 else (os.getuid(), os.getgroups()[-1])
    os.chown(path, *given)
    await KeyFile(str(path)).add(key("k2"))
    await KeyFile(str(path)).revoke("k1")
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == given
    assert [held.id for held in await KeyFile(str(path)).all()] == ["k2"]


async def test_an_owner_that_cannot_be_kept_refuses_the_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, RECORD)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError("not the owner")

    monkeypatch.setattr(file_edits, "_keep_owner", refuse)
    with pytest.raises(ConfigurationError, match="not the owner"):
        await KeyFile(str(path)).add(key("k2"))
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["keys.json"]


async def test_no_link_beside_the_file_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, RECORD)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "keys.json.new").symlink_to(victim)
    await KeyFile(str(path)).add(key("k2"))
    assert victim.read_text() == "untouched"
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".keys.json.guessed").symlink_to(victim)
    with pytest.raises(ConfigurationError):
        await KeyFile(str(path)).add(key("k3"))
    assert victim.read_text() == "untouched"
    assert len(await KeyFile(str(path)).all()) == 2


async def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = written(tmp_path / "real", RECORD)
    link = tmp_path / "keys.json"
    link.symlink_to(path)
    await KeyFile(str(link)).add(key("k2"))
    assert link.is_symlink()
    assert len(await KeyFile(str(path)).all()) == 2


async def test_who_waits_too_long_for_another_edit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_edits, "LOCK_TIMEOUT", 0.05)
    path = written(tmp_path, RECORD)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ConfigurationError, match="another program is editing the file"):
        await KeyFile(str(path)).add(key("k2"))
    os.close(handle)
    await KeyFile(str(path)).add(key("k2"))


async def test_a_broken_file_is_not_written_over(tmp_path: Path) -> None:
    path = written(tmp_path, {**RECORD, "expire_at": "2020-01-01T00:00:00Z"})
    before = path.read_bytes()
    with pytest.raises(ConfigurationError):
        await KeyFile(str(path)).add(key("k2"))
    assert path.read_bytes() == before


async def test_what_was_written_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    await KeyFile(str(path)).add(key("k1"))
    (read,) = await KeyFile(str(path)).all()
    assert read.id == "k1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SessionManager("memory").namespace == read.namespace
