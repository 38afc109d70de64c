"""``NewSession``: what a session begins with, where an append creates it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from agent_cores.session.errors import InvalidInputError

if TYPE_CHECKING:
    from agent_cores.session.models.session import RenewOn


class NewSession(TypedDict, total=False):
    """Arguments of ``create_session`` for ``add_messages(create=…)``; all may be left out.

    The first context goes into ``context_updates``, and the first messages are those appended.
    """

    title: str | None
    metadata: Mapping[str, Any] | None
    ttl_hours: float | None
    public: bool
    max_lifetime_hours: float | None
    renew_on: RenewOn | str


def read_create(create: object) -> NewSession:
    """Return what the argument ``create`` asks for, with its keys checked, not its values.

    Raises ``InvalidInputError``.
    """
    if create is True:
        return {}
    if not isinstance(create, Mapping):
        kind = type(create).__name__
        raise InvalidInputError("create", f"must be True, False or a mapping, not {kind}")
    unknown = create.keys() - NewSession.__annotations__.keys()
    if unknown:
        names = ", ".join(sorted(map(str, unknown)))
        raise InvalidInputError("create", f"has unknown keys: {names}")
    return cast("NewSession", create)
