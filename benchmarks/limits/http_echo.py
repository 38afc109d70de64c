"""The limit over HTTP: Starlette and msgspec decode the same body and send it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.over_http import HttpStore


class Message(msgspec.Struct):
    """One message of the body."""

    role: str
    content: Any


class Body(msgspec.Struct):
    """The body of an append."""

    messages: list[Message]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Body).decode


async def echo(request: Request) -> Response:
    """Decode, encode, respond."""
    return Response(encode(decode(await request.body())), media_type="application/json")


app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])


class HttpEcho(HttpStore):
    """Served by uvicorn with the event loop and the parser of our service."""

    packages = ("starlette", "msgspec", "uvicorn", "uvloop", "httptools")

    def command(self, directory: Path, port: int) -> list[str]:
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return ["uvicorn", "benchmarks.limits.http_echo:app", "--port", str(port), *options]

    async def create(self, user_id: str, count: int) -> list[str]:
        return [user_id] * count

    def create_path(self, user_id: str) -> str:
        raise NotImplementedError

    def append_path(self, session: str) -> str:
        return "/echo"
