"""The tables of docs/http.md and the OpenAPI document say the same, row by row."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import msgspec
import pytest

from agent_cores.session.service.document.examples import EXAMPLES
from agent_cores.session.service.document.openapi import document, shape_of
from agent_cores.session.service.document.page import FILES, page_file
from agent_cores.session.service.routes import ROUTES
from agent_cores.session.wire.errors import ERRORS
from agent_cores.session.wire.shapes import Problem
from tests.service.wire import Wire

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
DOCUMENT: dict[str, Any] = msgspec.json.decode(document(ROUTES))
SCHEMAS = DOCUMENT["components"]["schemas"]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


TABLE = rows("Routes")


def operation(cell: str) -> tuple[str, str, dict[str, Any]]:
    method, path, *_ = cell.split()
    path = re.sub(r"^S(?=/|$)", "/v1/sessions/{id}", path)
    path = re.sub(r"^C(?=/|$)", "/v1/conversations/{id}", path)
    return method, path, DOCUMENT["paths"][path][method.lower()]


def fields(text: str) -> set[str]:
    inner = re.search(r"\{(.*)\}", text)
    return set() if inner is None else {name.strip() for name in inner[1].split(",")}


def schema_fields(schema: dict[str, Any]) -> set[str]:
    schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    return {name + ("" if name in required else "?") for name in schema["properties"]}


def test_the_table_has_every_operation_and_no_other() -> None:
    described = {(m.upper(), p) for p, ms in DOCUMENT["paths"].items() for m in ms}
    assert {operation(row[0])[:2] for row in TABLE} == described
    assert len(TABLE) == len(described)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_a_row_says_what_the_operation_says(row: list[str]) -> None:
    cell, needs, takes, gives = row
    _, _, found = operation(cell)
    right, _, role = needs.partition("; ")
    assert (found["x-right"], found["x-role"]) == (right, role)

    body = found.get("requestBody", {}).get("content", {}).get("application/json", {})
    named = {p["name"] for p in found["parameters"] if p["in"] == "query"}
    assert set(re.findall(r"([\w\[\]]+)=", takes)) == named
    empty = body.get("schema", {}).get("$ref", "").endswith("/Empty")
    assert fields(takes) == (schema_fields(body["schema"]) if body and not empty else set())

    answers = {int(part[:3]): part[3:] for part in re.split(r", (?=\d{3})", gives)}
    good = {int(s): r for s, r in found["responses"].items() if _is_answer(r)}
    assert set(answers) == set(good)
    for status, text in answers.items():
        schema = good[status].get("content", {}).get("application/json", {}).get("schema", {})
        if "{" in text:
            assert fields(text) == schema_fields(schema)
        elif text.strip():
            assert schema["$ref"].rpartition("/")[2] == text.split()[0]

    headers = {p["name"] for p in found["parameters"] if p["in"] == "header"}
    assert ("¹" in cell) == ("If-Match" in headers)
    assert ("²" in cell) == ("Idempotency-Key" in headers)


def _is_answer(response: dict[str, Any]) -> bool:
    content = response.get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    is_openai_error = schema.get("$ref", "").endswith("/OpenAIError")
    return not is_openai_error and "$ref" not in response


@pytest.mark.parametrize("name", ["Session", "NewMessage", "Message", "Grant", "Problem"])
def test_a_shape_has_the_fields_that_the_page_gives_it(name: str) -> None:
    given = re.search(rf"- `{name}`[^=]*=\s*`({{.*?}})`", TEXT, re.DOTALL)
    assert given is not None
    assert fields(given[1]) == schema_fields({"$ref": name})


def test_content_is_one_component() -> None:
    for name in ("Message", "NewMessage"):
        assert SCHEMAS[name]["properties"]["content"] == {"$ref": "#/components/schemas/Content"}


async def test_the_document_is_open(wire: Wire) -> None:
    reply = await wire.request("GET", "/v1/openapi.json")
    assert (reply.status, reply.json()["openapi"]) == (200, "3.1.0")


async def test_the_page_loads_its_own_files_and_nothing_else(wire: Wire) -> None:
    page = await wire.request("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert not re.search(r"unsafe|https?:|\*| style=|<style| on\w+=", f"{policy}{page.body!r}")
    text = page.body.decode()
    loaded = re.findall(r'<(?:script src|link rel="stylesheet" href)="([^"]*)"', text)
    assert len(loaded) == text.count("<script") + text.count("<link") == len(FILES)
    assert not re.search(r"://|url\(|@import|<(?:iframe|img|object)", text)
    for name in loaded:
        kind = FILES[name.removeprefix("docs/")].decode()
        file = await wire.request("GET", f"/{name}", headers={"Accept-Encoding": "gzip, br"})
        plain = await wire.request("GET", f"/{name}")
        assert (file.status, file.headers["content-type"]) == (200, kind)
        assert "content-encoding" not in plain.headers
        if file.headers.get("content-encoding") == "gzip":
            assert gzip.decompress(file.body) == plain.body
        else:
            assert file.body == plain.body
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", plain.body.decode())
    assert (await wire.request("GET", "/docs/page.html")).status == 404


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("br, GZIP;q=0.1", True), ("gzip;q=0, identity", False), ("gzip; q=0.00", False)],
)
async def test_a_script_is_compressed_only_for_who_accepts_that(
    wire: Wire, accepted: str, is_compressed: bool
) -> None:
    file = await wire.request("GET", "/docs/swagger-ui.js", headers={"Accept-Encoding": accepted})
    assert (file.headers.get("content-encoding") == "gzip") is is_compressed


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_of_the_page_is_read_once(compressed: bool) -> None:
    files = [page_file("swagger-ui.js", compressed=compressed) for _ in range(2)]
    assert files[0] is files[1] is not None


def test_every_error_of_the_document_says_what_happened_and_has_an_example() -> None:
    responses = DOCUMENT["components"]["responses"]
    shown = {}
    for response in responses.values():
        examples = response["content"]["application/problem+json"]["examples"]
        for code, example in examples.items():
            assert re.search(rf"^`{code}`: \S.*\.$", response["description"], re.MULTILINE)
            msgspec.convert(example["value"], Problem)
            shown[code] = example["value"]["status"]
    assert shown == {row.code: row.status for row in ERRORS.values()}
    for operations in DOCUMENT["paths"].values():
        for one in operations.values():
            for response in one["responses"].values():
                name = response.get("$ref", "").rpartition("/")[2]
                assert not name or name in responses


async def test_the_document_can_be_closed(wire: Wire) -> None:
    service = wire.another(docs=False)
    for path in ("/v1/openapi.json", "/docs", "/docs/page.js"):
        assert (await wire.request("GET", path, service=service)).status == 404


async def test_the_largest_number_of_the_document_is_accepted_and_no_larger_one(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"/v1/sessions/{(await ann('POST', '/v1/sessions', {})).json()['id']}"
    body = {"to_seq": SCHEMAS["RewindSession"]["properties"]["to_seq"]["maximum"]}
    assert (await ann("POST", f"{path}/rewind", body)).status == 200
    body["to_seq"] += 1
    assert (await ann("POST", f"{path}/rewind", body)).status == 422
    for where, name in (
        ("/v1/sessions", "offset"),
        (f"{path}/messages", "after_seq"),
        (f"{path}/messages", "before_seq"),
    ):
        taken = DOCUMENT["paths"][where.replace(path, "/v1/sessions/{id}")]["get"]["parameters"]
        most = next(one for one in taken if one["name"] == name)["schema"]["maximum"]
        assert (await ann("GET", f"{where}?{name}={most}")).status == 200
        assert (await ann("GET", f"{where}?{name}={most + 1}")).status == 422


@pytest.mark.parametrize("spaces", [0, 40_000], ids=["short", "long"])
async def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(
    wire: Wire, spaces: int
) -> None:
    ann = await wire.caller("ann")
    content = "x" * spaces
    created = await ann("POST", "/v1/sessions", {})
    path = f"/v1/sessions/{created.json()['id']}"
    for number, expected, status in (
        ("0.0", 0, 201),
        ("10e-1", 1, 201),
        ("2.5", 2, 422),
        ("9007199254740992.0", 2, 409),
        ("1e400", 2, 422),
        ("1e-400", 2, 422),
    ):
        messages = json.dumps([{"role": "user", "content": content}])
        raw = f'{{"messages": {messages}, "expected_last_seq": {number}}}'.encode()
        reply = await ann("POST", f"{path}/messages", raw)
        assert reply.status == status, (number, reply.json())
        read = await ann("GET", path)
        assert read.json()["last_seq"] == (expected + 1 if status == 201 else expected)


@pytest.mark.parametrize("spaces", ["", " " * 40_000], ids=["short", "long"])
async def test_whole_numbers_in_a_list_or_an_object_may_be_written_so_too(
    wire: Wire, spaces: str
) -> None:
    ann = await wire.caller("ann")
    messages = json.dumps([{"role": "user", "content": str(n)} for n in range(4)])
    new = '{"ttl_seconds": 6e1, "metadata": {"score": 5.0, "a\\"b": 1}, "title": "5.0"}'
    raw = f'{{"messages": {messages}, "create": {new}{spaces}}}'
    created = await ann("POST", "/v1/sessions/new/messages", raw.encode())
    assert created.status == 201, created.json()
    session = (await ann("GET", "/v1/sessions/new")).json()
    assert (session["ttl_seconds"], session["title"]) == (60, "5.0")
    assert session["metadata"] == {"score": 5.0, 'a"b': 1}
    raw = f'{{"seqs": [1.0, 2, 30e-1{spaces}]}}'
    removed = await ann("POST", "/v1/sessions/new/messages/delete", raw.encode())
    assert removed.json() == {"deleted": 3}
    for wrong in ("[1.5]", "[1e400]", "[[1.0]]", '["1.0"]', "[true]"):
        raw = f'{{"seqs": {wrong}{spaces}}}'
        refused = await ann("POST", "/v1/sessions/new/messages/delete", raw.encode())
        assert refused.status == 422
    raw = f'{{"messages": {messages}, "create": {{"title": "a", "title": "b"}}{spaces}}}'
    assert (await ann("POST", "/v1/sessions/other/messages", raw.encode())).status == 400


async def test_the_document_allows_the_etag_that_the_service_gives(wire: Wire) -> None:
    ann = await wire.caller("ann")
    taken = DOCUMENT["paths"]["/v1/sessions/{id}"]["patch"]["parameters"]
    pattern = next(one for one in taken if one["name"] == "If-Match")["schema"]["pattern"]
    for _ in range(10):  # the longest incarnations have 19 digits; most have
        given = (await ann("POST", "/v1/sessions", {})).headers["etag"]
        assert re.search(pattern, given), given


def every_schema() -> list[tuple[str, dict[str, Any]]]:
    """Return every schema of the document with where it is."""

    def walk(place: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from walk(f"{place}/{index}", item)
        elif isinstance(value, dict):
            if {"type", "enum", "properties", "anyOf"} & value.keys():
                yield place, value
            for name, item in value.items():
                if name not in {"examples", "example"}:
                    yield from walk(f"{place}/{name}", item)

    return [*walk("components", SCHEMAS), *walk("paths", DOCUMENT["paths"])]


def test_objects_say_what_else_they_hold_and_nothing_has_a_default() -> None:
    """Otherwise generated types allow no key, or require each field that has a default."""
    schemas = every_schema()
    assert len(schemas) > 100
    for place, schema in schemas:
        if schema.get("type") == "object" and not schema.get("properties"):
            assert "additionalProperties" in schema, place
        if "enum" in schema:
            assert schema["type"] == "string", place
        assert "default" not in schema, place
    for name in ("Session", "CreateSession", "Message"):
        assert SCHEMAS[name]["properties"]["metadata"]["additionalProperties"] is True
    lease = SCHEMAS["TakeTurn"]["properties"]["lease_seconds"]
    assert lease["description"] == "Left out, it is 30."


def test_every_shape_has_an_example_that_is_one() -> None:
    assert EXAMPLES.keys() == SCHEMAS.keys() - {"Content", "FieldProblem", "Item"}
    for name, example in EXAMPLES.items():
        msgspec.convert(example, shape_of(name))
        assert SCHEMAS[name]["examples"] == [example]


def test_operations_are_in_groups() -> None:
    known = {tag["name"] for tag in DOCUMENT["tags"]}
    used = {t for ms in DOCUMENT["paths"].values() for one in ms.values() for t in one["tags"]}
    assert used == known


def test_the_service_is_where_its_document_says_also_behind_a_prefix() -> None:
    [server] = DOCUMENT["servers"]
    for root in ("", "/prefix", "/a/b"):
        here = f"https://x.example{root}/v1/openapi.json"
        assert urljoin(here, f"{server['url']}/v1/sessions") == (
            f"https://x.example{root}/v1/sessions"
        )


async def test_the_document_is_built_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await wire.request("GET", "/v1/openapi.json")
    monkeypatch.setattr("agent_cores.session.service.document.openapi.document", None)
    assert (await wire.request("GET", "/v1/openapi.json")).body == first.body


def test_a_request_to_delete_messages_says_which() -> None:
    described = DOCUMENT["paths"]
    assert described["/v1/sessions/{id}/messages/delete"]["post"]["requestBody"]["required"]
    assert not described["/v1/sessions"]["post"]["requestBody"]["required"]
