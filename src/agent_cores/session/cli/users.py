"""``agent-sessions log-id``: what the service's log shows for a user."""

from __future__ import annotations

from agent_cores.session.cli.opening import Json  # noqa: TC001 - cyclopts reads it
from agent_cores.session.cli.output import say, say_json
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.inputs import Inputs
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.service.log.users import hashed_user
from agent_cores.session.service.settings import ServiceSettings
from agent_cores.session.settings import SessionSettings


def log_id(user: str, *, namespace: str = DEFAULT_NAMESPACE, as_json: Json = False) -> None:
    """Print what the service's log shows for a user, to find the lines of their requests.

    Parameters
    ----------
    user
        The user's id.
    namespace
        The namespace of the user.
    as_json
        Print one line of JSON.
    """
    Inputs(SessionSettings.load().limits()).user_id(user, "user")
    key = ServiceSettings.load().log_key
    if key is None:
        raise ConfigurationError(
            "set SESSION_SERVICE_LOG_KEY, here and where the service runs: without it, the service"
            " makes a new key at each start"
        )
    hashed = hashed_user(key, namespace, user)
    if as_json:
        say_json({"user": hashed})
    else:
        say(hashed)
