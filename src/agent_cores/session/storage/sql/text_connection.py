"""Connections whose statements are texts, values and all: several travel in one round trip.

Statements that return no rows wait for the next one that does, or for the COMMIT, and travel with
it. For a driver that sends several statements at once, see ``literal_rows.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.storage.sql.dialect import Statement, Step, carry_out_now
from agent_cores.session.storage.sql.forms import RETURN_NOTHING
from agent_cores.session.storage.sql.literal_rows import LiteralQueries, Verbatim
from agent_cores.session.storage.sql.pool import PooledConnection, PooledDatabase
from agent_cores.session.storage.sql.reading import message_bounds, read_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent_cores.session.models import Snapshot, Window
    from agent_cores.session.storage.sql.dialect import Plan, Row
    from agent_cores.session.storage.sql.reading import ReadSession
    from agent_cores.session.storage.sql.rows import SessionName

_PIECE = 4 * 1024 * 1024
"""Characters of statements that are sent together, unless a single one is longer."""


class TextConnection(PooledConnection):
    """A connection inside a transaction; its writes travel with its next read."""

    def __init__(self, database: TextDatabase[Any], driver: Any, deadline: float) -> None:  # noqa: ANN401 - a driver's own class
        super().__init__(database, driver, deadline)
        self._waiting: list[str] = []
        self._size = 0

    @abstractmethod
    async def execute(self, text: str) -> list[list[Row]]:
        """Send statements in one round trip; return the rows of each that reads."""

    async def run(self, step: Step) -> list[Row]:
        """Execute one step: now if it returns rows, else with the next one that does."""
        rows: list[Row] = []
        reads = step.statement not in RETURN_NOTHING
        for text in self._database.statements(step):
            await self.add(text)
            if reads:
                rows += (await self.send())[-1]
        return rows

    async def script(self, text: str) -> None:
        """Run a schema file."""
        await self.add(self._database.filled(text).rstrip("; \n"))
        await self.send()

    async def begin(self, statements: str) -> None:
        """Begin with the first statements that are sent."""
        await self.add(statements)

    async def commit(self) -> None:
        """Commit together with what still waits to be sent."""
        await self.add("COMMIT")
        self.may_be_done = True

    async def flush(self) -> None:
        """Send the queued statements."""
        await self.send()

    async def add(self, text: str) -> None:
        """Queue a statement to be sent with later ones; send now if they would be too long."""
        if self._waiting and self._size + len(text) > _PIECE:
            await self.send()
        self._waiting.append(text)
        self._size += len(text)

    async def send(self) -> list[list[Row]]:
        """Send the queued statements in one round trip; return the rows of each that reads."""
        text = ";".join(self._waiting)
        self._waiting, self._size = [], 0
        return await self.execute(text) if text else []


Connection = TypeVar("Connection", bound=TextConnection)


class TextDatabase(PooledDatabase[Connection]):
    """A database whose statements are texts."""

    queries: LiteralQueries

    def statements(self, step: Step) -> Iterator[str]:
        """Yield the statements that execute a step."""
        return self.queries.statements(self.text_of(step), step.rows)

    async def _read_at_once(
        self,
        names: Sequence[SessionName],
        *,
        context: bool,
        window: Window | None,
        deadline: float,
    ) -> list[ReadSession]:
        """Send the steps of ``read_plan`` for all sessions together."""
        several = [self._reading(name, context=context, window=window) for name in names]
        texts = [text for texts in several for text in texts]
        if len(texts) > 1:
            texts = [self._begin(None, one_instant=True), *texts, "COMMIT"]
        async with self.connected(deadline) as connection:
            rows = iter(await connection.execute(";".join(texts)))
        found: list[ReadSession] = []
        for name, of_session in zip(names, several, strict=True):
            plan = read_plan(*name, context=context, window=window)
            found.append(_read(plan, [next(rows) for _ in of_session]))
        return found

    def _reading(self, name: SessionName, *, context: bool, window: Window | None) -> list[str]:
        """Return what ``read_plan`` sends; a subquery stands for the session's key."""
        steps = [Step(Statement.HEADER, [name])]
        [key] = self.queries.statements(self.filled(self.queries.session_key), [name])
        if window is not None:
            statement, bounds = message_bounds(window)
            steps.append(Step(statement, [(Verbatim(key), *bounds)]))
        if context:
            steps.append(Step(Statement.CONTEXT_ALL, [(Verbatim(key),)]))
        return [text for step in steps for text in self.statements(step)]


def _read(plan: Plan[Snapshot | None], results: Iterable[list[Row]]) -> ReadSession:
    """Carry out the plan of one session with what its statements returned."""
    remaining = iter(results)
    try:
        return carry_out_now(plan, lambda _: next(remaining))
    except CorruptRecordError as error:
        return error
