"""The provider part: the seven methods, ``read``, ``apply``, ``find``, ``due``, ``count``."""

from __future__ import annotations

from agent_cores.session.testing.provider.appends import AppendCases
from agent_cores.session.testing.provider.changes import ChangeCases
from agent_cores.session.testing.provider.concurrency import ConcurrencyCases
from agent_cores.session.testing.provider.creates import CreateCases
from agent_cores.session.testing.provider.isolation import IsolationCases
from agent_cores.session.testing.provider.late_saves import LateSaveCases
from agent_cores.session.testing.provider.listing import ListingCases
from agent_cores.session.testing.provider.lost_answers import LostAnswerCases
from agent_cores.session.testing.provider.processes import ProcessCases
from agent_cores.session.testing.provider.random_changes import StateMachineCases
from agent_cores.session.testing.provider.reads import ReadCases
from agent_cores.session.testing.provider.replacing import ReplacingCases
from agent_cores.session.testing.provider.selecting import SelectingCases
from agent_cores.session.testing.provider.settling import SettlingCases
from agent_cores.session.testing.provider.seven import SevenMethodCases
from agent_cores.session.testing.provider.sweeping import SweepingCases
from agent_cores.session.testing.provider.updating import UpdatingCases
from agent_cores.session.testing.provider.waiting import WaitingCases


class ProviderContract(
    SevenMethodCases,
    CreateCases,
    AppendCases,
    ChangeCases,
    ReplacingCases,
    UpdatingCases,
    SelectingCases,
    ReadCases,
    ListingCases,
    SettlingCases,
    SweepingCases,
    LateSaveCases,
    ConcurrencyCases,
    ProcessCases,
    IsolationCases,
    LostAnswerCases,
    StateMachineCases,
    WaitingCases,
):
    """All cases that a storage provider must pass. Subclass it and override ``store``."""
