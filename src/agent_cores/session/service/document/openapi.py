"""The description of the interface, OpenAPI 3.1, generated from the routes and their types."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agent_cores.session.inputs import LARGEST_NUMBER
from agent_cores.session.models import query
from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.service.document.bounds import set_bounds
from agent_cores.session.service.document.examples import EXAMPLES
from agent_cores.session.service.document.items import describe_items
from agent_cores.session.service.document.page import FILES
from agent_cores.session.service.document.problems import (
    errors_of,
    problem_name,
    problem_responses,
)
from agent_cores.session.service.openai.errors import STATUS, is_conversation_path
from agent_cores.session.verbs.listing import INCLUDED
from agent_cores.session.version import distribution_version
from agent_cores.session.wire import health, openai, shapes

if TYPE_CHECKING:
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.service.routing import Route

_SHAPES = (shapes, health, openai, query)
"""The modules of the types whose schemas the document has."""
_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_OPENAI_ERROR = {_JSON: {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
_KINDS: dict[str, dict[str, Any]] = {
    "integer": {"type": "integer", "format": "int64"},
    "flag": {"type": "boolean"},
    "text": {"type": "string"},
    "texts": {
        "type": "array",
        "items": {"type": "string", "minLength": 1, **shapes.NAME_SCHEMA},
    },
    "status": {"type": "string", "enum": ["active", "archived"]},
    "time": {"type": "string", "format": "date-time"},
    "object": {"type": "object", "additionalProperties": True},
}
_OPENAI_KINDS: dict[str, dict[str, Any]] = {
    "few": {"type": "integer", "minimum": 1, "maximum": 100},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "includes": {"type": "array", "items": {"type": "string"}},
}
"""Parameters of OpenAI's interface, whose bounds do not depend on their names."""
_BOUNDS: dict[str, dict[str, Any]] = {
    "limit": {"minimum": 1, "maximum": 1000},
    "message_limit": {"minimum": 0, "maximum": 1000},
    "offset": {"minimum": 0, "maximum": LARGEST_NUMBER},
    "after_seq": {"minimum": 0, "maximum": LARGEST_NUMBER},
    "before_seq": {"minimum": 0, "maximum": LARGEST_NUMBER},
    "expected_last_seq": {"minimum": 0, "maximum": LARGEST_NUMBER},
    "turn": {"minLength": 1, **shapes.NAME_SCHEMA},
    "order": {"enum": ["active", "created"]},
    "include": {"items": {"type": "string", "enum": [*INCLUDED]}},
}
_PATH = {
    "id": {"type": "string", "minLength": 1},
    "seq": {"type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_NUMBER},
    "turn": {"type": "string", "minLength": 1},
    "item_id": {"type": "string", "minLength": 1},
    "file": {"type": "string", "enum": [*FILES]},
}
_ABOUT = {
    "If-Match": "The ETag of the session, or its revision in quotes: write only if it still holds.",
    "Idempotency-Key": "A UUID: the request may then be repeated after a lost response.",
    "X-User-Id": "The user for whom a key with the right `act-as` acts, percent-encoded.",
    "X-User-Groups": "The groups of that user, separated by commas.",
    "X-Operator": "The name of an operator, of a key with the right `operator`.",
    "X-Owner-Id": "Only sessions of this owner.",
}
_ENCODED = "([A-Za-z0-9._~@:|+=!'()*-]|%[2-6][0-9A-Fa-f]|%7[0-9A-Ea-e])"
_USER = {"type": "string", "pattern": f"^{_ENCODED}{{1,255}}$"}
_COMMA = r"[ \t]*,[ \t]*"
_GROUPS = {"type": "string", "pattern": f"^({_ENCODED}{{1,60}}({_COMMA}{_ENCODED}{{1,60}})*)?$"}
_ALWAYS = (400, 401, 403, 406, 413, 415, 422, 429, 431, 500, 503)
_OF_SESSION = (404, 410)
_OF_WRITE = (409, 501)


_SERVICE = ("Service", "Who is calling, erasure, statistics, health, this description.")
_TAGS = {
    "sessions": ("Sessions", "Create, list, read, change and delete sessions."),
    "messages": ("Messages", "Append, read, update and remove messages."),
    "sharing": ("Access", "Who may do what: grants, visibility, owner."),
    "lifecycle": ("Life", "Archive, renew and fork."),
    "turns": ("Turns", "One worker at a time answers."),
    "conversations": ("Conversations", "OpenAI's interface to the same sessions."),
    "operators": ("Operators", "Sessions of every owner, for the program itself."),
    "operations": _SERVICE,
    "description": _SERVICE,
}
"""For each module of routes: its tag and description."""


def shape_of(name: str) -> Any:  # noqa: ANN401 - a type of any kind
    """Return the type whose schema has this name; ``None`` if there is none."""
    return next((vars(module)[name] for module in _SHAPES if name in vars(module)), None)


def document(routes: tuple[Route, ...], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the document as JSON."""
    kinds = [shapes.Problem, openai.OpenAIError, *_kinds(routes)]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    schemas["Content"] = {
        "description": "What a message says: text, a list, an object, or null.",
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {}},
            {"type": "object"},
            {"type": "null"},
        ],
    }
    for name in ("Message", "NewMessage", "UpdateMessage"):
        schemas[name]["properties"]["content"] = {"$ref": "#/components/schemas/Content"}
    for name, schema in schemas.items():
        kind = shape_of(name)
        if isinstance(kind, type) and not issubclass(kind, shapes.Request):
            _describe_response(schema, kind)
        _mend(schema)
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
    describe_items(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "agent-sessions",
            "version": distribution_version(),
            "description": "Sessions of AI agents: create, talk, share, list, expire.",
        },
        # The service's root: one level above this document, behind any path prefix.
        "servers": [{"url": ".."}],
        "tags": [
            {"name": name, "description": about} for name, about in dict.fromkeys(_TAGS.values())
        ],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problem_responses(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (ask_…) or a JWT.",
                }
            },
        },
    }
    set_bounds(description, limits)
    return msgspec.json.encode(description)


def _describe_response(schema: dict[str, Any], kind: Any) -> None:  # noqa: ANN401 - a type
    """Mark what the service always sends as required. Defaults are for reading older services."""
    fields = msgspec.structs.fields(kind)
    schema["required"] = [one.encode_name for one in fields if one.default is not UNSET]
    for part in schema["properties"].values():
        part.pop("default", None)


def _mend(schema: Any) -> None:  # noqa: ANN401 - JSON
    """Make explicit what client generators would guess wrongly.

    Without ``additionalProperties`` some generators take an object without properties to be empty.
    And they take a field with a ``default`` to be always present, even in requests, so the default
    moves into the description.
    """
    if isinstance(schema, list):
        for item in schema:
            _mend(item)
    if not isinstance(schema, dict):
        return
    for item in schema.values():
        _mend(item)
    if schema.get("type") == "object" and "properties" not in schema:
        schema.setdefault("additionalProperties", True)
    if "enum" in schema:
        schema.setdefault("type", "string")
    default = schema.pop("default", None)
    if default not in (None, {}, []):
        words = msgspec.json.encode(default).decode()
        said = schema.get("description", "")
        schema["description"] = f"{said} Left out, it is {words}.".strip()


def _kinds(routes: tuple[Route, ...]) -> list[Any]:
    found: dict[Any, None] = {}
    for route in routes:
        for kind in (route.request, *route.responses.values()):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                found[kind] = None
    return list(found)


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [_TAGS[route.handler.__module__.rpartition(".")[2]][0]],
        "x-right": route.right,
        "x-role": route.role,
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.right == "open":
        operation["security"] = []
    if route.request is not None:
        schema = {"$ref": _REF.format(name=route.request.__name__)}
        operation["requestBody"] = {
            "required": _is_required(route.request),
            "content": {_JSON: {"schema": schema}},
        }
    return operation


def _is_required(kind: Any) -> bool:  # noqa: ANN401 - a type
    if kind is shapes.DeleteMessages:  # it needs one of its fields, each of which may be left out
        return True
    return any(field.required for field in msgspec.structs.fields(kind))


def _operation_id(route: Route) -> str:
    return route.handler.__name__


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    for name, kind in route.query.items():
        schema = _OPENAI_KINDS.get(kind) or {**_KINDS[kind], **_BOUNDS.get(name, {})}
        parameter: dict[str, Any] = {"name": name, "in": "query"}
        if kind == "object":
            parameter["content"] = {_JSON: {"schema": schema}}
        else:
            parameter["schema"] = schema
        parameters.append(parameter)
    if route.if_match:
        schema = {
            "type": "string",
            "pattern": r'^"([0-9]{1,19}\.[1-9][0-9]{0,17}\.[0-9]{1,19}|[1-9][0-9]{0,17})"$',
        }
        parameters.append({"name": "If-Match", "in": "header", "schema": schema})
    if route.idempotent:
        schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
        parameters.append({"name": "Idempotency-Key", "in": "header", "schema": schema})
    if route.right != "open":
        parameters += [
            {"name": "X-User-Id", "in": "header", "schema": _USER},
            {"name": "X-User-Groups", "in": "header", "schema": _GROUPS},
            {"name": "X-Operator", "in": "header", "schema": _USER},
        ]
    if route.right == "operator":
        parameters.append({"name": "X-Owner-Id", "in": "header", "schema": _USER})
    for parameter in parameters:
        if parameter["name"] in _ABOUT:
            parameter["description"] = _ABOUT[parameter["name"]]
    return parameters


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in sorted(route.responses.items()):
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if kind is not None:
            response["content"] = _content(kind)
        responses[str(status)] = response
    if is_conversation_path(route.path):
        return responses | _openai_errors(route)
    for status in _problems(route):
        reference = {"$ref": f"#/components/responses/{problem_name(status)}"}
        responses.setdefault(str(status), reference)
    return responses


def _content(kind: type) -> dict[str, Any]:
    """Return what a response holds, by its media types."""
    if kind is str:
        return {"text/html": {"schema": {"type": "string"}}}
    if kind is bytes:
        return {name: {"schema": {"type": "string"}} for name in ("text/css", "text/javascript")}
    if kind is dict:
        return {_JSON: {"schema": {"type": "object", "additionalProperties": True}}}
    return {_JSON: {"schema": {"$ref": _REF.format(name=kind.__name__)}}}


def _openai_errors(route: Route) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for status in _problems(route):
        for row in errors_of(status):
            codes.setdefault(STATUS.get(row.code, status), []).append(row.code)
    return {
        str(status): {"description": ", ".join(found), "content": _OPENAI_ERROR}
        for status, found in sorted(codes.items())
    }


def _problems(route: Route) -> list[int]:
    if route.right == "open":
        return [404, 413, 431]
    statuses = [*_ALWAYS]
    if "{id}" in route.path:
        statuses += _OF_SESSION
    if route.right == "write":
        statuses += _OF_WRITE
    if route.if_match:
        statuses.append(412)
    return sorted(statuses)
