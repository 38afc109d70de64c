"""``Calls``: what all verbs share: the caller, the service, and the fields of refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from agent_cores.session.access.access_control import Caller
from agent_cores.session.client.arguments import INPUTS, plain, segment
from agent_cores.session.decision import Scope
from agent_cores.session.errors import (
    AccessDeniedError,
    CorruptRecordError,
    InvalidInputError,
    SessionExpiredError,
    SessionNotFoundError,
    UnsupportedError,
)
from agent_cores.session.models.representation import hides
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.client.pool import Reply
    from agent_cores.session.client.retries import RetryState
    from agent_cores.session.client.runtime import ClientRuntime
    from agent_cores.session.client.transport import Transport
    from agent_cores.session.errors import SessionError
    from agent_cores.session.wire.shapes import Me

ACT_AS = "act-as"
FORK = "/fork"
OTHER_NAMESPACE = "the key decides about the namespace; make another client with another key"
_ABOUT_USER = "X-User-Id or X-User-Groups: "
PLAIN = "._~@:|+=-"
NO_NAMES: Mapping[str, str] = {}


@hides("body")
class Request(msgspec.Struct):
    """What a verb sends."""

    body: shapes.Request | None = None
    query: dict[str, Any] = {}
    headers: dict[str, str] = {}
    tail: str = ""


class Calls:
    """A service, the credential for it, and how its responses are read."""

    _shared: ClientRuntime
    _groups_of: GroupsOf | None
    _expected_namespace: str | None = None

    @property
    def _transport(self) -> Transport:
        return self._shared.transport

    async def _known(self) -> Me:
        """Return who the credential identifies."""
        me = await self._shared.known()
        if self._expected_namespace not in {None, me.namespace}:
            raise UnsupportedError(OTHER_NAMESPACE)
        return me

    async def _acting(self, user_id: str, field: str) -> dict[str, str]:
        """Return the headers that name the acting user."""
        me = await self._known()
        INPUTS.user_id(user_id, field)
        if ACT_AS not in me.rights:
            if user_id != me.user_id:
                raise AccessDeniedError("this key may act only for another user")
            return {}
        return {"X-User-Id": quote(user_id, safe=PLAIN)}

    async def _groups(self, user_id: str) -> dict[str, str]:
        """Return the header that lists the user's groups; none if there are none.

        Invalid group names are left out: no grant can name them.
        """
        me = await self._known()
        if self._groups_of is None or ACT_AS not in me.rights:
            return {}
        caller = await Scope("", self._groups_of).with_groups(Caller(user_id))
        names = (group for group in caller.groups or () if _is_name(group))
        groups = ",".join(quote(group, safe=PLAIN) for group in names)
        return {"X-User-Groups": groups} if groups else {}

    async def _with_groups(
        self,
        user_id: str,
        send: Callable[[dict[str, str]], Awaitable[Reply]],
        *,
        at_once: bool,
    ) -> Reply:
        """Send without groups; if that is refused, look them up and send again.

        ``at_once``: look them up first, and send once.
        """
        if at_once:
            return await send(await self._groups(user_id))
        try:
            return await send({})
        except SessionExpiredError:
            raise
        except (SessionNotFoundError, AccessDeniedError):
            groups = await self._groups(user_id)
            if not groups:
                raise
        return await send(groups)

    async def _ask(
        self,
        method: str,
        session_id: str,
        user_id: str,
        tail: str,
        request: Callable[[], Request],
        *,
        names: Mapping[str, str] = NO_NAMES,
        repeatable: bool = False,
        done_if: type[SessionError] | None = None,
        user_field: str = "user_id",
        groups_tell: bool = False,
        retry_state: RetryState | None = None,
    ) -> Reply:
        """Send a request about a session.

        ``groups_tell``: the result also depends on the caller's groups, even where access is
        allowed.

        Callers without access must get that error before any error about arguments. So if a request
        cannot be built, one is sent that the service refuses for its shape.
        """
        headers = await self._acting(user_id, user_field)
        path = f"/v1/sessions/{segment(INPUTS.session_id(session_id))}"
        try:
            given = request()
        except InvalidInputError as wrong:
            wrong_shape = f"{path}{tail}?_="
            try:
                await self._with_groups(
                    user_id,
                    lambda groups: self._transport.send(
                        method, wrong_shape, headers={**headers, **groups}, repeatable=True
                    ),
                    at_once=groups_tell,
                )
            except InvalidInputError:
                raise wrong from None
            raise
        given.headers |= headers
        path += given.tail or tail

        async def send(groups: dict[str, str]) -> Reply:
            asked = msgspec.structs.replace(given, headers={**given.headers, **groups})
            return await self._send(
                method,
                path,
                asked,
                names=names,
                repeatable=repeatable,
                done_if=done_if,
                user_field=user_field,
                retry_state=retry_state,
            )

        try:
            reply = await self._with_groups(user_id, send, at_once=groups_tell)
        except CorruptRecordError as error:
            namespace = (await self._known()).namespace
            raise CorruptRecordError(namespace, session_id, "it cannot be read") from error
        if tail != FORK:  # whose response is another session
            self._shared.versions.note(session_id, reply.headers.get("etag"))
        return reply

    async def _send(
        self,
        method: str,
        path: str,
        request: Request,
        *,
        names: Mapping[str, str] = NO_NAMES,
        repeatable: bool = False,
        done_if: type[SessionError] | None = None,
        user_field: str = "user_id",
        retry_state: RetryState | None = None,
    ) -> Reply:
        """Send a request; an error about an argument uses the manager's name for it."""
        query = {name: value for name, value in request.query.items() if value is not None}
        if query:
            path = f"{path}?{urlencode(query, doseq=True)}"
        body = None if request.body is None else msgspec.json.encode(request.body, enc_hook=plain)
        try:
            return await self._transport.send(
                method,
                path,
                body,
                headers=request.headers,
                repeatable=repeatable or method == "GET",
                done_if=done_if,
                retry_state=retry_state,
            )
        except InvalidInputError as wrong:
            if wrong.field == "request" and wrong.problem.startswith(_ABOUT_USER):
                problem = wrong.problem.removeprefix(_ABOUT_USER)
                raise InvalidInputError(user_field, problem) from wrong
            field = _renamed(wrong.field, names)
            if field == wrong.field:
                raise
            raise InvalidInputError(field, wrong.problem) from wrong


def _is_name(group: str) -> bool:
    try:
        INPUTS.name(group, "groups")
    except InvalidInputError:
        return False
    return True


def _renamed(field: str, names: Mapping[str, str]) -> str:
    """Return the manager's name of a field; the longest known path decides."""
    for wire, ours in names.items():
        if field == wire:
            return ours
        if field.startswith(f"{wire}/"):
            rest = field[len(wire) + 1 :]
            return f"{ours}/{rest}" if ours else rest
    return field
