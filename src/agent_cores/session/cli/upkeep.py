"""``agent-sessions stats``, ``clean`` and ``erase``: a namespace as a whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from agent_cores.session.cli.opening import Json, Line, Opened, Where, Yes, with_sessions
from agent_cores.session.cli.output import amount, counted, note, say, say_json, shown
from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_cores.session.verbs.upkeep import ErasureReceipt


def stats(*, where: Where | None = None, as_json: Json = False) -> None:
    """Count the sessions of a namespace, and those past their time that wait to be removed.

    Parameters
    ----------
    as_json
        Print one line of JSON.
    """

    async def use(opened: Opened) -> dict[str, Any]:
        return await opened.verbs.get_statistics()

    found = with_sessions(where, use)
    if as_json:
        say_json(found)
        return
    for name, number in found.items():
        say(f"{name}: {number}")


def clean(*, where: Where | None = None, as_json: Json = False) -> None:
    """Remove every expired session of the store now, instead of at the next sweep.

    It counts those of the namespace, and apart from them those of others.

    Parameters
    ----------
    as_json
        Print one line of JSON; removed_elsewhere counts those of other namespaces.
    """

    async def use(opened: Opened) -> tuple[int, int]:
        removed = await opened.verbs.clean_expired_sessions()
        return removed, opened.verbs.lifecycle.removed - removed

    removed, elsewhere = with_sessions(where, use)
    if as_json:
        say_json({"removed": removed, "removed_elsewhere": elsewhere})
        return
    others = f", and {elsewhere} of other namespaces" if elsewhere else ""
    say(f"{counted(removed, 'expired session is', 'expired sessions are')} removed{others}.")


def erase(
    user_id: str, *, where: Where | None = None, yes: Yes = False, as_json: Json = False
) -> None:
    """Remove every session that a user owns, and every grant that names them.

    Messages that they wrote in sessions of others stay, under their id.

    Parameters
    ----------
    user_id
        The user.
    yes
        Do not ask.
    as_json
        Print one line of JSON.
    """
    confirm(f"Remove all sessions and grants of {shown(user_id)}?", yes=yes)

    line = Line("erase_user", is_verb=True, erased_user=user_id)

    async def use(opened: Opened) -> ErasureReceipt:
        receipt = await opened.verbs.erase_user(user_id)
        line.is_complete = receipt.complete
        return receipt

    receipt = with_sessions(where, use, line)
    if as_json:
        say_json(receipt)
    else:
        grants = counted(receipt.grants, "grant")
        say(f"{amount(receipt.sessions, receipt.messages)} and {grants} are removed.")
    if not receipt.complete:
        failed = f": {', '.join(map(shown, receipt.failed))}" if receipt.failed else ""
        note(f"agent-sessions: not everything could be removed; run it again{failed}")
        sys.exit(1)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; anything but yes ends the command."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("this cannot be undone; give --yes to do it without being asked")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        note("Nothing was removed.")
        sys.exit(1)
