"""Bodies arrive through proxies and clients that offer another protocol beside the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.servers.programs import program
from tests.service.fronts import free_port, running
from tests.service.served import Live
from tests.service.wire import Wire

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {address};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https off
  storage file_system {folder}/caddy
}}
http://127.0.0.1:{port} {{
  reverse_proxy {address}
}}
"""
OFFERS = {
    "nothing": [],
    "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQC"],
    "a web socket": ["Connection: Upgrade", "Upgrade: websocket"],
}


@asynccontextmanager
async def proxy(name: str, folder: Path, address: str) -> AsyncIterator[str]:
    """Run a proxy as it comes, or with the lines that its handbook has for web sockets."""
    port = free_port()
    text = NGINX if name == "nginx" else CADDY
    async with running(name, folder, text.format(folder=folder, port=port, address=address), port):
        yield f"http://127.0.0.1:{port}"


async def answered(address: str, head: list[str], body: bytes) -> tuple[int, bytes]:
    """Send a request with a body and then another; return how the first went, and both bodies."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [*head, f"Host: {host}:{port}", f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    async with asyncio.timeout(20):
        read = await reader.readuntil(b"\r\n\r\n")
        length = int(read.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        answer = await reader.readexactly(length)
    writer.close()
    return int(read[9:12]), answer


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("through", ["nothing", "nginx", "caddy"])
async def test_a_body_arrives_whatever_is_offered_beside_it(
    wire: Wire, tmp_path: Path, through: str, offer: str
) -> None:
    live = Live(wire.service)
    address = await live.start()
    head = [
        "POST /v1/sessions HTTP/1.1",
        f"Authorization: Bearer {await wire.key()}",
        "X-User-Id: ann",
        "Content-Type: application/json",
        *OFFERS[offer],
    ]
    # What would be read as a request of its own, if it were not the body.
    body = json.dumps({"title": "\r\n\r\nDELETE /v1/sessions/a HTTP/1.1\r\n\r\n"}).encode()
    try:
        if through == "nothing":
            status, answer = await answered(address, head, body)
        else:
            async with proxy(through, tmp_path, address) as front:
                status, answer = await answered(front, head, body)
    finally:
        await live.stop()
    assert (status, json.loads(answer)["title"]) == (201, json.loads(body)["title"])
    assert len(await wire.manager.list_user_sessions("ann")) == 1


async def test_curl_that_offers_http_2_creates_what_it_was_told(wire: Wire) -> None:
    curl = program("curl", package="curl")
    live = Live(wire.service)
    address = await live.start()
    process = await asyncio.create_subprocess_exec(
        *[curl, "--silent", "--http2", "--max-time", "20", f"{address}/v1/sessions"],
        *["-H", f"Authorization: Bearer {await wire.key()}", "-H", "X-User-Id: ann"],
        *["-H", "Content-Type: application/json", "-d", '{"title": "Hello"}'],
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    await live.stop()
    assert json.loads(printed)["title"] == "Hello"


JAVA = """
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Default {
  public static void main(String[] arguments) throws Exception {
    var client = HttpClient.newHttpClient();
    for (int number = 0; number < 2; number++) {
      var request = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/sessions"))
          .header("Authorization", "Bearer " + arguments[1]).header("X-User-Id", "ann")
          .header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString("{\\"title\\": \\"Hello\\"}")).build();
      var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
      System.out.println(answer.statusCode() + " " + answer.body().contains("Hello"));
    }
  }
}
"""


async def test_the_default_client_of_java_creates_what_it_was_told(
    wire: Wire, tmp_path: Path
) -> None:
    java = program("java", package="openjdk-17-jdk-headless")
    source = tmp_path / "Default.java"
    source.write_text(JAVA)
    live = Live(wire.service)
    address = await live.start()
    process = await asyncio.create_subprocess_exec(
        *[java, str(source), address, await wire.key()], stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 120)
    await live.stop()
    assert printed.decode().splitlines() == ["201 true"] * 2
