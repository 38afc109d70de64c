"""``SyncSessionClient``: the client for blocking code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.any_loop import portal_of
from agent_cores.session.client.session_client import SessionClient
from agent_cores.session.sync_manager import SyncSessionManager

if TYPE_CHECKING:
    from agent_cores.session.access.groups import GroupsOf


class SyncSessionClient(SyncSessionManager):
    """``SyncSessionManager`` over HTTP; the arguments are those of ``SessionClient``."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        groups_of: GroupsOf | None = None,
        **options: Any,  # noqa: ANN401 - SessionClient checks them
    ) -> None:
        self._manager = SessionClient(
            base_url, api_key, groups_of=groups_of, **options, any_loop=True
        )
        self._portal = portal_of(self._manager)
