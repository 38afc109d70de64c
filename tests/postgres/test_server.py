"""Servers that stop, start again, or want TLS."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from tests.servers.postgres import PgBouncer, PostgresServer, empty_store, shared_server
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_server_that_restarts_loses_nothing_that_was_answered(at_once: bool) -> None:
    with PostgresServer() as server:
        provider = PostgresProvider.from_url(empty_store(server.url()), timeout=2)
        await provider.initialize()
        header = await create(provider)
        await provider.apply(append(header, "before"))
        server.stop(at_once=at_once)
        with pytest.raises(StorageUnavailableError):
            await provider.apply(append(header, "meanwhile"))
        with pytest.raises(StorageUnavailableError) as caught:
            await provider.read("default", "talk")
        assert not caught.value.outcome_unknown
        server.start()
        await provider.apply(append(header, "after"))
        assert await message_ids(provider) == ["before", "after"]
        await provider.shutdown()


async def test_a_server_that_is_not_there_is_unavailable_and_no_driver_error() -> None:
    provider = PostgresProvider("postgresql://postgres@127.0.0.1:1/none", timeout=1)
    with pytest.raises(StorageUnavailableError):
        await provider.initialize()


async def test_tls_is_used_and_the_certificate_checked(tmp_path: Path) -> None:
    own, other = (new_certificate(tmp_path, name) for name in ("own", "other"))
    key = own.with_suffix(".key").read_bytes()
    with PgBouncer(shared_server(), certificate=own.read_bytes(), key=key) as pooler:
        address = f"{pooler.url()}&sslmode=verify-full&sslrootcert="
        provider = PostgresProvider.from_url(empty_store(f"{address}{own}"))
        await provider.initialize()
        header = await create(provider)
        await provider.apply(append(header, "m"))
        assert await message_ids(provider) == ["m"]
        await provider.shutdown()
        for wrong in (f"{address}{other}", f"{pooler.url()}&sslmode=disable"):
            with pytest.raises(StorageUnavailableError):
                await PostgresProvider.from_url(empty_store(wrong)).initialize()


def new_certificate(folder: Path, name: str) -> Path:
    """Make a certificate for this machine that vouches for itself; its key lies beside it."""
    certificate = folder / f"{name}.crt"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ("openssl", "req", "-new", "-x509", "-days", "1", "-nodes", *subject)
    files = ("-out", str(certificate), "-keyout", str(certificate.with_suffix(".key")))
    subprocess.run([*command, *files], check=True, capture_output=True)
    return certificate
