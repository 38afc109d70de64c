"""What of a URL reaches the server, and what of it is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from agent_cores.session.models import AccessEffect, Query
from agent_cores.session.models.times import utc_now
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage import StorageFactory
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of
from tests.redis.talks import append, messages, opened, start
from tests.servers.redis import (
    RedisServer,
    SentinelServer,
    empty_store,
    free_port,
    redis_program,
    shared_cluster,
)

ROOT = Path(__file__).parents[2]
SCHEMES = (
    "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
    "valkey", "valkeys", "valkey+sentinel", "valkeys+sentinel", "valkey+cluster", "valkeys+cluster",
)  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_known_to_the_factory(scheme: str) -> None:
    hosts = "127.0.0.1:1,127.0.0.2:2" if "+" in scheme else "there"
    path = "/talks/3" if "sentinel" in scheme else ""
    assert isinstance(StorageFactory.create(f"{scheme}://{hosts}{path}"), RedisProvider)


def test_a_socket_of_the_machine_is_a_url_too() -> None:
    assert isinstance(StorageFactory.create("unix:///run/redis.sock?db=2"), RedisProvider)


def test_the_settings_reach_the_provider() -> None:
    settings = SessionSettings(key_prefix="mine:", pool_size=3, timeout=2, max_queued_writes=7)
    assert RedisProvider.options_from(settings) == {
        "prefix": "mine:",
        "pool_size": 3,
        "timeout": 2,
        "max_queued": 7,
    }


def test_without_a_url_it_is_the_redis_of_this_machine() -> None:
    assert RedisProvider().describe() == "Redis, redis://localhost:6379/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis://there?colour=blue",
        "redis+cluster://there,here?colour=blue",
        "redis+sentinel://there,here/talks?colour=blue",
        "redis+sentinel://there,here",
        "redis+cluster://",
        "redis://there?pool_size=none",
        "redis://there?pool_size=0",
        "redis://there:port",
        "rediss://there?ssl_cert_reqs=maybe",
        "rediss+sentinel://there/talks?ssl_cert_reqs=maybe",
        "redis://there?prefix={a}",
        "redis+cluster://there/7",
        "redis+cluster://there/name",
        "redis+sentinel://there/talks/name",
        "redis://there/name",
        "rediss://there/0/name",
    ],
)
def test_what_nobody_understands_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisProvider.from_url(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://there,here", "the name of the service is missing"),
        ("redis+cluster://", "a host of the Redis URL has no name"),
        ("redis+cluster://there/3", "a cluster only has database 0"),
        ("rediss+cluster://there?ssl_cert_reqs=maybe", "ssl_cert_reqs in the Redis URL must be"),
        ("rediss://there?ssl_cert_reqs=maybe", "ssl_cert_reqs in the Redis URL must be"),
        ("redis+sentinel://,/talks", "a host of the Redis URL has no name"),
        ("redis://there/name", "the path of a Redis URL is the number of a database"),
        ("rediss+cluster://there/name", "the path of a Redis URL is the number of a database"),
    ],
)
def test_the_error_says_which_part_of_a_url_is_wrong(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        RedisProvider.from_url(url)


def test_a_password_is_not_described() -> None:
    for url in ("redis://ann:s3cret@there/1?password=s3cret", "redis+cluster://:s3cret@there,here"):
        assert "s3cret" not in RedisProvider.from_url(url).describe()


@pytest.mark.parametrize("where", ["there:6379/0", "there,here/talks", "there?db=1"])
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel", "unix"])
@pytest.mark.parametrize("between", ["/", "?", "#", "@/", "@?", "[", "]/", "?timeout=", "/12/"])
def test_a_password_that_was_not_encoded_is_never_told(
    scheme: str, between: str, where: str
) -> None:
    try:
        shown = RedisProvider.from_url(f"{scheme}://ann:FIRST{between}LAST@{where}").describe()
    except ConfigurationError as error:
        shown = "".join(traceback.format_exception(error, limit=0))
    assert "FIRST" not in shown
    assert "LAST" not in shown


async def test_user_password_database_and_name_reach_the_server() -> None:
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "worker", "on", ">s3cret/", "allkeys", "+@all")
        server.command("ACL", "SETUSER", "default", "resetpass", ">other")
        url = f"redis://worker:s3cret%2F@127.0.0.1:{server.port}/3?client_name=talks&protocol=2"
        async with opened(url) as provider:
            await start(provider)
            with server.client(password="other") as client:
                (ours,) = [one for one in client.client_list() if one["name"] == "talks"]
                assert (ours["user"], ours["db"], ours["resp"]) == ("worker", "3", "2")
                assert client.execute_command("ACL", "WHOAMI") == b"default"


async def test_a_user_who_may_not_ask_about_memory_can_work() -> None:
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "worker", "on", ">s3cret", "allkeys", "+@all", "-info")
        async with opened(f"redis://worker:s3cret@127.0.0.1:{server.port}") as provider:
            assert (await start(provider)).session_id == "talk"


async def test_a_user_who_lacks_a_right_is_told_so() -> None:
    denied = "denies this user a command"
    with RedisServer() as server:
        async with opened(server.url) as provider:
            header = await start(provider)
            server.command("ACL", "SETUSER", "default", "-hset")  # called by a script
            with pytest.raises(StorageUnavailableError, match=denied):
                await provider.apply(append(header, "m1"))
            server.command("ACL", "SETUSER", "default", "-hmget")
            with pytest.raises(StorageUnavailableError, match=denied):
                await provider.read("default", "talk")


async def test_the_rights_that_the_documentation_names_are_enough() -> None:
    rights, _ = _documented_rights()
    with RedisServer() as server:
        await _work_as_user_with(rights, [server], "redis")


async def test_the_rights_that_the_documentation_names_are_enough_in_a_cluster() -> None:
    rights, more = _documented_rights()
    servers = shared_cluster().primaries
    await _work_as_user_with(f"{rights} {more}", servers, "redis+cluster")
    for server in servers:
        server.command("ACL", "DELUSER", "worker")


def _documented_rights() -> list[str]:
    """Return the rights that are needed, and what a cluster needs besides."""
    text = (ROOT / "docs/redis.md").read_text("utf-8")
    return re.findall(r"`(\+@hash[^`]*|\+cluster[^`]*)`", text)


async def _work_as_user_with(rights: str, servers: list[RedisServer], scheme: str) -> None:
    """Use all of the provider as a user who may do no more than this."""
    url = empty_store(f"{scheme}://worker:s3cret@127.0.0.1:{servers[0].port}")
    keys = f"~{url.rpartition('prefix=')[2]}*"
    for server in servers:
        server.command("ACL", "SETUSER", "worker", "on", ">s3cret", keys, *rights.split())
        server.command("ACL", "LOG", "RESET")
    async with opened(url) as provider:
        header = await start(provider, tags=("x",))
        header = (await provider.apply(append(header, "m1"))).header
        at = utc_now()
        assert await provider.store_time() is not None
        assert (await provider.find(Query(namespace="default", at=at, owner_id="ann"))).headers
        assert (await provider.find(Query(namespace=None, at=at))).headers
        await provider.apply(change_of(header, at, access=AccessEffect(archived=True)))
        assert header.expires_at is not None
        (ended,) = await provider.due(header.expires_at, 10, 30)
        await provider.apply(ended.removal(header.expires_at))
        assert (await provider.count(None, at)).sessions == 0
    logs = [server.command("ACL", "LOG") for server in servers]
    assert {entry[b"object"] for log in logs for entry in log} == {b"info"}  # which only warns


async def test_a_socket_is_spoken_to(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        async with opened(f"unix://{path}?db=1&pool_size=2") as provider:
            header = await start(provider)
            await provider.apply(append(header, "m1"))
            assert len(await messages(provider)) == 1


async def test_tls_is_spoken_and_certificates_are_checked(tmp_path: Path) -> None:
    key, certificate = _self_signed(tmp_path)
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with RedisServer(*tls, *files, program=redis_program()):
        url = f"rediss://127.0.0.1:{port}"
        async with opened(f"{url}?ssl_ca_certs={certificate}") as provider:
            assert (await start(provider)).session_id == "talk"
        distrustful = RedisProvider.from_url(f"{url}?timeout=2")
        with pytest.raises(StorageUnavailableError, match=r"(?i)certificate"):
            await distrustful.initialize()


async def test_a_sentinel_has_a_login_of_its_own_and_all_else_reaches_the_server(
    tmp_path: Path,
) -> None:
    key, certificate = _self_signed(tmp_path)
    files = {"cert": certificate, "key": key, "ca-cert": certificate}
    tls = {f"tls-{kind}-file": str(path) for kind, path in files.items()}
    tls |= {"tls-auth-clients": "no", "tls-replication": "yes"}
    ports = free_port(), free_port()
    options = [text for name, value in tls.items() for text in (f"--{name}", value)]
    lines = [f"{name} {value}" for name, value in tls.items()]
    logins = "sentinel auth-user talks worker", "sentinel auth-pass talks s3cret"
    with (
        RedisServer("--tls-port", str(ports[0]), *options, program=redis_program()) as server,
        SentinelServer(
            "talks",
            ports[0],
            *(*lines, *logins, f"tls-port {ports[1]}", "requirepass watch"),
            quorum=1,
            program=redis_program(),
        ),
    ):
        server.command(
            "ACL", "SETUSER", "worker", "on", ">s3cret", "allkeys", "allchannels", "+@all"
        )
        where = f"rediss+sentinel://worker:s3cret@127.0.0.1:{ports[1]}/talks/3"
        query = f"sentinel_password=watch&ssl_ca_certs={certificate}&client_name=talks"
        async with opened(f"{where}?{query}") as provider:
            await start(provider)
            (ours,) = [one for one in server.client().client_list() if one["name"] == "talks"]
            assert (ours["user"], ours["db"]) == ("worker", "3")
            assert ours["laddr"] == f"127.0.0.1:{ports[0]}"
        stranger = RedisProvider.from_url(f"{where}?ssl_ca_certs={certificate}&timeout=1")
        with pytest.raises(StorageUnavailableError):
            await stranger.initialize()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate for this machine."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    openssl = shutil.which("openssl")
    assert openssl is not None
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


async def test_a_cluster_is_found_by_any_of_its_servers() -> None:
    gone = free_port()
    here = shared_cluster().primaries[1].port
    url = f"valkey+cluster://127.0.0.1:{gone},127.0.0.1:{here}?prefix=any:&client_name=talks"
    async with opened(url) as provider:
        for number in range(10):
            assert (await start(provider, f"talk-{number}")).session_id == f"talk-{number}"


def test_nothing_of_redis_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, agent_cores.session\n"
        "sys.exit('redis' in sys.modules or 'hiredis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_driver_is_named_with_its_cure() -> None:
    code = (
        "import sys; sys.modules['hiredis'] = None\n"
        "from agent_cores.session.errors import MissingDependencyError\n"
        "from agent_cores.session.storage import StorageFactory\n"
        "try:\n    StorageFactory.create('redis://there')\n"
        "except MissingDependencyError as error:\n"
        '    sys.exit("agent-cores-session[redis]" not in str(error))\n'
        "sys.exit(2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
