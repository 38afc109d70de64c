"""``SessionVerbs``: the verbs of every topic in one class."""

from __future__ import annotations

from agent_cores.session.verbs.conversations import ConversationVerbs
from agent_cores.session.verbs.deletion import DeletionVerbs
from agent_cores.session.verbs.forking import ForkVerbs
from agent_cores.session.verbs.messages import MessageVerbs
from agent_cores.session.verbs.sharing import SharingVerbs
from agent_cores.session.verbs.tail import TailVerbs
from agent_cores.session.verbs.turns import TurnVerbs
from agent_cores.session.verbs.updating import UpdateVerbs
from agent_cores.session.verbs.upkeep import UpkeepVerbs


class SessionVerbs(
    ConversationVerbs,
    MessageVerbs,
    UpdateVerbs,
    DeletionVerbs,
    TailVerbs,
    SharingVerbs,
    TurnVerbs,
    ForkVerbs,
    UpkeepVerbs,
):
    """Everything that one caller can do in one namespace; made of a runtime and a scope."""
