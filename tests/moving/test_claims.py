"""``claimed``: a file that one process writes; and what an export says if it cannot be written."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from agent_cores.session import files
from agent_cores.session.cli.written import written
from agent_cores.session.errors import (
    AccessDeniedError,
    ConfigurationError,
    StorageUnavailableError,
)
from agent_cores.session.files import claim, claimed, publish
from agent_cores.session.frameworks import langchain_redis
from agent_cores.session.frameworks.found import Given


def test_a_claim_on_a_file_that_was_published_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, unfinished = tmp_path / "all.jsonl", tmp_path / "all.jsonl.unfinished"

    def late(file: BinaryIO) -> bool:
        file.write(b"finished")  # the other process publishes between open and lock
        file.flush()
        publish(unfinished, target)
        unfinished.unlink()
        return claim(file)

    monkeypatch.setattr(files, "claim", late)
    with (
        pytest.raises(ConfigurationError, match="another process is writing"),
        written(str(target)) as file,
    ):
        file.write(b"other")
    assert target.read_bytes() == b"finished"


def test_a_file_of_another_process_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl.unfinished"
    with claimed(tmp_path / "all.jsonl", ".unfinished"):
        path.unlink()  # as a rename does on a file system without hard links
        path.write_bytes(b"of the next")
    assert path.read_bytes() == b"of the next"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_takes_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    target = tmp_path / "all.jsonl"
    with written(str(target)) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]


def test_a_lock_that_fails_otherwise_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(StorageUnavailableError, match="cannot be written"),
        written(str(tmp_path / "all.jsonl")),
    ):
        pass


def test_a_refusal_of_the_service_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(AccessDeniedError), written(str(tmp_path / "talk.md")):
        raise AccessDeniedError("reading requires the viewer role")
    assert list(tmp_path.iterdir()) == []


async def test_a_refusal_of_the_target_is_not_blamed_on_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def some(_: object) -> int:
        return 1

    for name in ("find", "total"):
        monkeypatch.setattr(langchain_redis.LangChainRedisReader, name, some)
    with pytest.raises(AccessDeniedError):
        async with langchain_redis.open_reader(Given("redis://127.0.0.1:9", "ann")):
            raise AccessDeniedError("appending requires the editor role")
