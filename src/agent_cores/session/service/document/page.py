"""The page that shows the description, on which one can try it: Swagger UI, all of it from here."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_FOLDER = files(__package__) / "swagger_ui"
FILES = {
    "page.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui.js": b"text/javascript; charset=utf-8",
}
"""What the page loads, with its type."""


class PageFile(NamedTuple):
    """A file of the page; ``is_compressed`` by gzip."""

    body: bytes
    content_type: bytes
    is_compressed: bool


def page() -> bytes:
    """Return the page."""
    return (_FOLDER / "page.html").read_bytes()


def page_file(name: str, *, compressed: bool) -> PageFile | None:
    """Return a file that the page loads, compressed if it may be and is; ``None`` if none is."""
    kind = FILES.get(name)
    return None if kind is None else _file(name, kind, compressed=compressed)


@cache  # anybody may ask for it, and decompressing it takes 10 ms
def _file(name: str, kind: bytes, *, compressed: bool) -> PageFile:
    plain = _FOLDER / name
    if plain.is_file():
        return PageFile(plain.read_bytes(), kind, is_compressed=False)
    body = (_FOLDER / f"{name}.gz").read_bytes()
    if compressed:
        return PageFile(body, kind, is_compressed=True)
    return PageFile(gzip.decompress(body), kind, is_compressed=False)
