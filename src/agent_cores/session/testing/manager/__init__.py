"""The manager part of the kit: what a caller of the verbs may rely on, on any store."""

from __future__ import annotations

from agent_cores.session.testing.manager.access import AccessCases
from agent_cores.session.testing.manager.answers import AnswerCases
from agent_cores.session.testing.manager.concurrency import ConcurrencyCases
from agent_cores.session.testing.manager.contents import ContentCases
from agent_cores.session.testing.manager.deleting import DeletingCases
from agent_cores.session.testing.manager.erasure import ErasureCases
from agent_cores.session.testing.manager.expiry import ExpiryCases
from agent_cores.session.testing.manager.forks import ForkCases
from agent_cores.session.testing.manager.groups import GroupCases
from agent_cores.session.testing.manager.hooks import HookCases
from agent_cores.session.testing.manager.isolation import IsolationCases
from agent_cores.session.testing.manager.limits import LimitCases
from agent_cores.session.testing.manager.listing import ListingCases
from agent_cores.session.testing.manager.lost_answers import LostAnswerCases
from agent_cores.session.testing.manager.lost_creates import LostCreateCases
from agent_cores.session.testing.manager.lost_edits import LostEditCases
from agent_cores.session.testing.manager.messages import MessageCases
from agent_cores.session.testing.manager.one_write import OneWriteCases
from agent_cores.session.testing.manager.operators import OperatorCases
from agent_cores.session.testing.manager.processes import ProcessCases
from agent_cores.session.testing.manager.restored import RestoredStoreCases
from agent_cores.session.testing.manager.secrecy import SecrecyCases
from agent_cores.session.testing.manager.sessions import SessionCases
from agent_cores.session.testing.manager.sweeping import SweepCases
from agent_cores.session.testing.manager.tails import TailCases
from agent_cores.session.testing.manager.turns import TurnCases
from agent_cores.session.testing.manager.unreadable import UnreadableCases
from agent_cores.session.testing.manager.updates import UpdateCases
from agent_cores.session.testing.manager.versions import VersionCases


class VerbContract(
    SessionCases,
    VersionCases,
    MessageCases,
    ContentCases,
    UpdateCases,
    TailCases,
    DeletingCases,
    OneWriteCases,
    AccessCases,
    GroupCases,
    ExpiryCases,
    ListingCases,
    TurnCases,
    ForkCases,
    ConcurrencyCases,
    IsolationCases,
    LimitCases,
    ErasureCases,
    OperatorCases,
    RestoredStoreCases,
):
    """What the verbs must do, for anything that has them: a manager, or a client of one."""


class ManagerContract(
    VerbContract,
    HookCases,
    SweepCases,
    SecrecyCases,
    LostAnswerCases,
    LostEditCases,
    LostCreateCases,
    AnswerCases,
    ProcessCases,
    UnreadableCases,
):
    """Everything that a manager must do on a store. Subclass it and override ``store``."""
