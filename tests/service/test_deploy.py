"""What ``deploy/`` holds works: proxies in front of the service, units, containers, manifests."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_cores.session.settings import known_names
from tests.servers.programs import program
from tests.service.certificates import Authority
from tests.service.fronts import free_port, running
from tests.service.served import Live
from tests.service.wire import Wire

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = ["1.25", "1.37"]
"""The oldest and the newest release whose schemas kubernetes-validate carries."""
OURS = re.compile(r"\bSESSION_[A-Z_]+\b")
AROUND_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {included}
}}
"""
AROUND_CADDY = "{{\n admin off\n auto_https off\n storage file_system {folder}/caddy\n}}\n"


def changed(text: str, *pairs: tuple[str, str]) -> str:
    """Replace parts of a configuration, each of which is there once."""
    for before, after in pairs:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@asynccontextmanager
async def front(name: str, folder: Path, upstream: str) -> AsyncIterator[tuple[int, Any]]:
    """Run the proxy of ``deploy/`` with TLS; yield its port and a context that trusts it."""
    authority, port = Authority(), free_port()
    authority.server(folder)
    pem = folder / "server.pem"
    if name == "nginx":
        included = changed(
            (DEPLOY / "nginx/agent-sessions.conf").read_text(),
            ("server 127.0.0.1:8080;", f"server {upstream};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
            ("/etc/ssl/agent-sessions.crt", str(pem)),
            ("/etc/ssl/agent-sessions.key", str(pem)),
        )
        text = AROUND_NGINX.format(folder=folder, included=included)
    else:
        text = AROUND_CADDY.format(folder=folder) + changed(
            (DEPLOY / "caddy/Caddyfile").read_text(),
            ("reverse_proxy 127.0.0.1:8080", f"reverse_proxy {upstream}"),
            ("sessions.example.com {", f"https://127.0.0.1:{port} {{\n\ttls {pem} {pem}"),
        )
    async with running(name, folder, text, port):
        yield port, authority.trusted()


async def exchanged(port: int, trust: ssl.SSLContext, head: list[str], body: bytes) -> bytes:
    """Send one request over TLS; return all of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    lines = [*head, f"Host: 127.0.0.1:{port}", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", answer)
        if length is not None:
            answer += await reader.readexactly(int(length[1]))
    writer.close()
    return answer


@pytest.mark.parametrize("name", ["nginx", "caddy"])
async def test_the_service_works_behind_the_proxy_and_its_restart(
    wire: Wire, tmp_path: Path, name: str
) -> None:
    live = Live(wire.service)
    upstream = (await live.start()).removeprefix("http://")
    head = ["POST /v1/sessions HTTP/1.1", f"Authorization: Bearer {await wire.key()}"]
    head += ["X-User-Id: ann", "Content-Type: application/json", "Content-Length: 2"]
    async with front(name, tmp_path, upstream) as (port, trust):
        for _ in range(2):
            assert b" 201 " in (await exchanged(port, trust, head, b"{}"))[:14]
        readiness = await exchanged(port, trust, ["GET /readyz HTTP/1.1"], b"")
        assert b" 404 " in readiness[:14]
        await live.stop()
        assert b" 502 " in (await exchanged(port, trust, head, b"{}"))[:14]
    assert len(await wire.manager.list_user_sessions("ann")) == 2


class Upstream:
    """Keeps what a proxy sends, and responds to each request."""

    def __init__(self) -> None:
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while read := await reader.read(65_536):
            self.received += read
            if b"{}" in self.received and read.endswith((b"{}", b"\r\n\r\n")):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
        writer.close()


@pytest.mark.parametrize("name", ["nginx", "caddy"])
async def test_what_a_caller_must_not_choose_does_not_pass_the_proxy(
    tmp_path: Path, name: str
) -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    head = [
        "POST /v1/sessions HTTP/1.1",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQC",
        "X-Forwarded-For: 6.6.6.6",
        "X-Request-ID: chosen",
        "Transfer-Encoding: chunked",
        "Trailer: X-User-Id",
    ]
    async with server, front(name, tmp_path, address) as (port, trust):
        await exchanged(port, trust, head, b"2\r\n{}\r\n0\r\nX-User-Id: mallory\r\n\r\n")
    received = upstream.received.lower()
    assert b"x-forwarded-for: 127.0.0.1" in received
    for never in (b"upgrade", b"6.6.6.6", b"x-request-id: chosen", b"mallory"):
        assert never not in received, received


# ── the files ────────────────────────────────────────────────────────────────────────────────────


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


FILES = [
    path.relative_to(DEPLOY).as_posix()
    for path in sorted(DEPLOY.rglob("*"))
    if path.is_file() and path.suffix != ".json"
]


@pytest.mark.parametrize("name", FILES)
def test_every_setting_in_a_file_is_one(name: str) -> None:
    told = set(OURS.findall((DEPLOY / name).read_text()))
    assert told <= known_names()


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", package="systemd")
    here = shutil.which("true") or "/bin/true"
    unit = tmp_path / "agent-sessions.service"
    text = (DEPLOY / "systemd/agent-sessions.service").read_text()
    unit.write_text(changed(text, ("/opt/agent-sessions/bin/agent-sessions", here)))
    verified = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    exposed = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert exposed.returncode == 0, exposed.stdout[-300:]


def test_the_pods_are_restricted_and_stop_no_sooner_than_the_service() -> None:
    [deployment, service, budget] = documents("kubernetes/agent-sessions.yaml")
    [job] = documents("kubernetes/migrate.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert service["metadata"]["name"] != "session"
    for owner in (deployment, job):
        pod = owner["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    drain = float(environment["SESSION_SERVICE_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= drain + 2 * 20
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_the_containers_are_restricted_and_wait_for_their_store(name: str) -> None:
    [composed] = documents(f"docker/{name}.compose.yaml")
    service = composed["services"]["service"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["build"]["dockerfile"] == "deploy/docker/Dockerfile"
    for depended in service["depends_on"]:
        assert depended in composed["services"]
    assert "healthcheck" in composed["services"][name]


def test_all_processes_hash_the_users_of_the_log_with_one_secret() -> None:
    [deployment, _, _] = documents("kubernetes/agent-sessions.yaml")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [key] = [one for one in container["env"] if one["name"] == "SESSION_SERVICE_LOG_KEY"]
    assert key["valueFrom"] == {"secretKeyRef": {"name": "agent-sessions", "key": "log-key"}}
    for name in ("valkey", "postgres"):
        [composed] = documents(f"docker/{name}.compose.yaml")
        environment = composed["services"]["service"]["environment"]
        assert environment["SESSION_SERVICE_LOG_KEY"] == "${SESSION_SERVICE_LOG_KEY:?set it}"
    assert "SESSION_SERVICE_LOG_KEY=" in (DEPLOY / "systemd/agent-sessions.service").read_text()


@pytest.mark.parametrize("release", KUBERNETES)
def test_the_manifests_follow_the_schemas_of_kubernetes(tmp_path: Path, release: str) -> None:
    files = [DEPLOY / "kubernetes" / name for name in ("agent-sessions.yaml", "migrate.yaml")]
    status, printed = validated(release, *files)
    assert (status, printed.count(" passed ")) == (0, 4), printed  # an unknown kind is a warning
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(changed(files[0].read_text(), ("replicas: 2", "replica: 2")))
    status, printed = validated(release, wrong)
    assert status == 1
    assert "'replica' was unexpected" in printed


def validated(release: str, *files: Path) -> tuple[int, str]:
    """Return the status and the output of a strict validation."""
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", release]
    return ran([*command, *map(str, files)])


def ran(command: list[str], given: str = "") -> tuple[int, str]:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_hadolint_finds_nothing_wrong_with_the_image() -> None:
    command = [str(Path(sysconfig.get_path("scripts")) / "hadolint"), "-"]
    text = (DEPLOY / "docker/Dockerfile").read_text()
    assert ran(command, text) == (0, "")
    status, printed = ran(command, changed(text, ("python:3.13-slim AS build", "python AS build")))
    assert status == 1
    assert "DL3006" in printed


def test_the_image_runs_without_root_and_is_made_of_what_it_is_given() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    stages = text.split("\nFROM ")
    assert "\nUSER 10001:10001\n" in stages[-1]
    assert "HEALTHCHECK" in stages[-1]
    command = re.search(r"CMD (\[\"python.*\])", text)
    assert command is not None
    compile(json.loads(command[1])[2], "healthcheck", "exec")
    kept = [line[1:] for line in _ignored() if line.startswith("!")]
    for path in kept:
        assert (DEPLOY.parent / path).exists(), path


def test_the_distribution_can_be_built_from_what_the_image_is_given(tmp_path: Path) -> None:
    for name in (line[1:] for line in _ignored() if line.startswith("!")):
        source, target = DEPLOY.parent / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, target)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1


def _ignored() -> list[str]:
    return (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()


# ── the page ─────────────────────────────────────────────────────────────────────────────────────

PAGE = (DEPLOY.parent / "docs/operations.md").read_text()


def test_the_page_names_every_file() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".dockerignore":
            assert f"(../{path.relative_to(DEPLOY.parent).as_posix()})" in PAGE


def test_the_lines_in_the_runbook_are_written_somewhere() -> None:
    source = "\n".join(path.read_text() for path in (DEPLOY.parent / "src").rglob("*.py"))
    (table,) = re.findall(r"\| line in the log .*", PAGE, re.DOTALL)
    lines = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(lines) > 3
    for line in lines:
        assert line.removesuffix("…").replace("[..]", "[%s]") in source, line
