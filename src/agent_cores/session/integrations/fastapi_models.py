"""Types of this package in Pydantic models and in the routes of FastAPI.

``MessageResponse`` is ``Message`` to a type checker, and so on. Pydantic writes and reads such a
value in the shape of the HTTP interface, and describes it in its JSON Schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from pydantic_core import core_schema

from agent_cores.session.models.message import Message
from agent_cores.session.models.session import DEFAULT_NAMESPACE, Page, Session
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import (
    message_of,
    message_shape,
    session_of,
    session_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

Shape = msgspec.Struct


class ShapedAs:
    """How Pydantic treats a value that has a shape in the HTTP interface.

    ``shape_of`` returns the shape of a value of type ``kind``, ``of_shape`` the value of a shape.
    """

    def __init__(
        self,
        kind: type[Any],
        shape: type[Shape],
        shape_of: Callable[[Any], Shape],
        of_shape: Callable[[Any], Any],
    ) -> None:
        self._kind = kind
        self._shape = shape
        self._shape_of = shape_of
        self._of_shape = of_shape

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Return how values are read and written."""
        return core_schema.no_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(self._written),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON Schema of the shape, complete in itself."""
        (_,), components = msgspec.json.schema_components([self._shape], ref_template="{name}")
        complete: dict[str, Any] = _resolved({"$ref": self._shape.__name__}, components)
        return complete

    def _read(self, value: object) -> object:
        if isinstance(value, self._kind):
            return value
        # Pydantic reports a ValueError, which msgspec's ValidationError is too, as its own.
        return self._of_shape(msgspec.convert(value, self._shape))

    def _written(self, value: object) -> object:
        return msgspec.to_builtins(self._shape_of(value))


def _resolved(schema: Any, components: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return a schema in which each reference is replaced with what it refers to."""
    if isinstance(schema, list):
        return [_resolved(part, components) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(components[schema["$ref"]], components)
    return {key: _resolved(value, components) for key, value in schema.items()}


def _message_page(page: Page[Message]) -> shapes.MessagePage:
    data = [message_shape(message) for message in page]
    return shapes.MessagePage(data, page.has_more, page.last_seq or 0)


def _page_of_messages(page: shapes.MessagePage) -> Page[Message]:
    messages = [message_of(shape) for shape in page.data]
    return Page(messages, has_more=page.has_more, last_seq=page.last_seq)


def _session_page(page: Page[Session]) -> shapes.SessionPage:
    return shapes.SessionPage(
        [session_shape(session) for session in page], page.has_more, page.next_cursor
    )


def _session_of(shape: shapes.Session) -> Session:
    return session_of(shape, DEFAULT_NAMESPACE)


def _page_of_sessions(page: shapes.SessionPage) -> Page[Session]:
    sessions = [_session_of(shape) for shape in page.data]
    return Page(sessions, has_more=page.has_more, next_cursor=page.next_cursor)


def _same(problem: shapes.Problem) -> shapes.Problem:
    return problem


MessageResponse = Annotated[Message, ShapedAs(Message, shapes.Message, message_shape, message_of)]
"""A stored message."""
SessionResponse = Annotated[Session, ShapedAs(Session, shapes.Session, session_shape, _session_of)]
"""A session as far as the caller may see it."""
MessagePageResponse = Annotated[
    Page[Message], ShapedAs(Page, shapes.MessagePage, _message_page, _page_of_messages)
]
"""A page of messages: ``data``, ``has_more``, ``last_seq``."""
SessionPageResponse = Annotated[
    Page[Session], ShapedAs(Page, shapes.SessionPage, _session_page, _page_of_sessions)
]
"""A page of sessions: ``data``, ``has_more``, ``next_cursor``."""
ProblemResponse = Annotated[shapes.Problem, ShapedAs(shapes.Problem, shapes.Problem, _same, _same)]
"""An error (RFC 9457), for ``responses={404: {"model": ProblemResponse}}``."""
