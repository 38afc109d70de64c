"""``SessionStore``: LangGraph's long-term memory, on a ``SessionManager``.

A namespace is a session of its user, an item is a message in it: see ``namespace``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    PutOp,
    SearchItem,
    SearchOp,
)

from agent_cores.session.adapters.langgraph_store.items import NewItem, is_ttl
from agent_cores.session.adapters.langgraph_store.matching import (
    fixed_prefix,
    matches_condition,
    matches_filter,
)
from agent_cores.session.adapters.langgraph_store.namespace import (
    TTL_TAG,
    Namespace,
    labels_of,
    order_of,
    tag_of,
)
from agent_cores.session.adapters.langgraph_store.sweeper import Sweeper
from agent_cores.session.adapters.langgraph_store.together import Limit, Together, all_of
from agent_cores.session.adapters.owner import Owner, Store, UserId
from agent_cores.session.adapters.reading import sessions_tagged
from agent_cores.session.any_loop import portal_of, run_near
from agent_cores.session.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from langgraph.store.base import Op, Result, TTLConfig

    from agent_cores.session.adapters.langgraph_store.items import StoredItem
    from agent_cores.session.adapters.langgraph_store.namespace import Labels
    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.session import SessionMetadata

T = TypeVar("T")
_PAGE = 1_000
_FIRST_FILTERED = 100
"""Items that a search with a filter reads first of a namespace; then ten times as many."""
_READ_TOGETHER = 8
_AT_A_TIME = 100
"""The most namespaces that are read or written at a time, and the most items updated."""
_MOST_OPENED = 10_000
"""Namespaces that a store remembers to have opened."""
_SWEEP_MINUTES = 5.0


def _utc_now() -> datetime:
    """Return the time to the microsecond, so that an update is later than what it replaces."""
    return datetime.now(UTC)


class _Batch(NamedTuple):
    """Operations: gets by namespace and place, the last put of each key, and queries by place."""

    gets: dict[Labels, dict[int, GetOp]]
    puts: dict[tuple[Labels, str], PutOp]
    queries: dict[int, SearchOp | ListNamespacesOp]


class SessionStore(BaseStore):
    """Keep items of LangGraph for one user, or for the user of each run.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. ``user_id`` owns the items: text, or a function of the config of the run that
    calls, which is ``None`` outside of a run. With ``operator`` instead they belong to the user of
    that name, and each call is audited. Equal namespaces of two users are two namespaces.

    ``ttl`` is LangGraph's ``TTLConfig``, in minutes. An expired item is never returned, whatever
    ``omit_expired`` says; the sweeper, or ``sweep_ttl``, removes it. ``clock`` decides and returns
    aware UTC times. The sessions themselves do not expire. There is no index: ``query`` and
    ``index`` are ignored.

    The blocking methods need a manager made with ``any_loop=True``, or a URL.
    """

    supports_ttl = True

    def __init__(
        self,
        store: Store = None,
        *,
        user_id: UserId | None = None,
        operator: str | None = None,
        ttl: TTLConfig | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._owner = Owner(store, user_id, operator=operator)
        self.ttl_config = ttl
        self._clock = clock
        self._opened: dict[str, bool] = {}
        self._last_order = 0
        self._together: Together[Op, Result] = Together()
        self._namespaces, self._updates = Limit(_AT_A_TIME), Limit(_AT_A_TIME)
        self._sweeper = Sweeper(self.sweep_ttl)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do what ``abatch`` does, blocking."""
        return self._call(self._perform, list(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Return the result of each operation, in their order.

        All read what was stored before the batch. Of several puts of one key, the last counts. Puts
        of new keys of a namespace are one write; each of a stored key is one more. Gets of one
        namespace that several tasks make at the same moment are done as one batch, and so are puts
        of different keys.
        """
        return await self._perform(self._acting(), list(ops))

    async def asweep_ttl(self) -> int:
        """Remove the user's expired items, and return how many.

        This reads all items of the namespaces in which an item was ever stored with a TTL.
        """
        return await self._sweep(self._acting())

    def sweep_ttl(self) -> int:
        """Do what ``asweep_ttl`` does, blocking."""
        return self._call(self._sweep)

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep in a thread until ``stop_ttl_sweeper``, every five minutes if nothing else is said.

        The future ends with the sweeper; cancelling it stops the sweeper. Without a TTL config it
        is done at once, and nothing is swept.
        """
        portal_of(self._owner.verbs)
        config = self.ttl_config
        if config is None:
            return self._sweeper.idle()
        configured = config.get("sweep_interval_minutes")
        return self._sweeper.start(60 * (sweep_interval_minutes or configured or _SWEEP_MINUTES))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper; return whether it ended within ``timeout`` seconds."""
        return self._sweeper.stop(timeout)

    def _acting(self) -> Acting:
        return self._owner.acting(var_child_runnable_config.get())

    def _call(self, verb: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:  # noqa: ANN401
        return portal_of(self._owner.verbs).call(verb, self._acting(), *args)

    def _namespace(self, acting: Acting, labels: Sequence[str]) -> Namespace:
        if len(self._opened) > _MOST_OPENED:
            self._opened.clear()
        return Namespace(acting, tuple(labels), self._opened, self._updates)

    def _next_order(self) -> int:
        """Return what places a new namespace after those that this store has created."""
        now = int(self._clock().timestamp() * 1_000_000)
        self._last_order = max(now, self._last_order + 1)
        return self._last_order

    async def _perform(self, acting: Acting, ops: list[Op]) -> list[Result]:
        """Execute operations; one alone together with those of other tasks."""
        for op in ops:
            _check(op)
        run = partial(self._execute_near, acting)
        if len(ops) != 1 or not isinstance(ops[0], GetOp | PutOp):
            return await run(ops)
        [op] = ops
        key = acting.user_id, tuple(op.namespace), isinstance(op, GetOp)
        name = (op.key, op.refresh_ttl) if isinstance(op, GetOp) else op.key
        return [await self._together.call(key, name, op, run)]

    async def _execute_near(self, acting: Acting, ops: list[Op]) -> list[Result]:
        return await run_near(acting.verbs, partial(self._execute, acting, ops))

    async def _execute(self, acting: Acting, ops: list[Op]) -> list[Result]:
        now = self._clock()
        batch = _divided(ops)
        results: list[Result] = [None] * len(ops)
        call = self._namespaces.call
        gets = await all_of(
            call(self._get, acting, labels, each, now) for labels, each in batch.gets.items()
        )
        for found in gets:
            for place, item in found.items():
                results[place] = item
        answers = await all_of(self._answer(acting, op, now) for op in batch.queries.values())
        for place, answer in zip(batch.queries, answers, strict=True):
            results[place] = answer
        await all_of(
            call(self._put, acting, labels, each, self._next_order())
            for labels, each in _by_namespace(batch.puts).items()
        )
        return results

    async def _get(
        self, acting: Acting, labels: Labels, ops: dict[int, GetOp], now: datetime
    ) -> dict[int, Item | None]:
        namespace = self._namespace(acting, labels)
        items = await namespace.items(dict.fromkeys(op.key for op in ops.values()), now)
        refreshed = {op.key for op in ops.values() if op.refresh_ttl}
        await self._refresh(namespace, [items[key] for key in refreshed if key in items], now)
        return {
            place: _item(labels, items[op.key]) if op.key in items else None
            for place, op in ops.items()
        }

    async def _put(self, acting: Acting, labels: Labels, ops: Sequence[PutOp], order: int) -> None:
        namespace, at = self._namespace(acting, labels), self._clock()
        items = [NewItem(op.key, op.value, op.ttl, at) for op in ops if op.value is not None]
        gone = [op.key for op in ops if op.value is None]
        await namespace.put(items, order)
        await namespace.delete(gone)

    async def _answer(
        self, acting: Acting, op: SearchOp | ListNamespacesOp, now: datetime
    ) -> list[SearchItem] | list[Labels]:
        if isinstance(op, SearchOp):
            return await self._search(acting, op, now)
        return await self._list_namespaces(acting, op, now)

    async def _search(self, acting: Acting, op: SearchOp, now: datetime) -> list[SearchItem]:
        """Return items below a prefix, namespaces and items in the order in which they came."""
        prefix, end = tuple(op.namespace_prefix), op.offset + op.limit
        headers = [
            (order_of(header), labels)
            async for header, labels in self._headers(acting, prefix)
            if labels[: len(prefix)] == prefix
        ]
        found: list[tuple[Namespace, StoredItem]] = []
        namespaces = [self._namespace(acting, labels) for _, labels in sorted(headers)]
        for first in range(0, len(namespaces), _READ_TOGETHER):
            missing = end - len(found)
            if missing <= 0:
                break
            together = namespaces[first : first + _READ_TOGETHER]
            matching = await all_of(_matching(each, op, now, missing) for each in together)
            for namespace, items in zip(together, matching, strict=True):
                found += ((namespace, item) for item in items)
        chosen = found[op.offset : end]
        if op.refresh_ttl:
            for namespace in dict.fromkeys(namespace for namespace, _ in chosen):
                items = [item for owner, item in chosen if owner is namespace]
                await self._refresh(namespace, items, now)
        return [_search_item(namespace.labels, item) for namespace, item in chosen]

    async def _list_namespaces(
        self, acting: Acting, op: ListNamespacesOp, now: datetime
    ) -> list[Labels]:
        conditions = op.match_conditions or ()
        certain: set[Labels] = set()
        perhaps: list[Labels] = []
        async for header, labels in self._headers(acting, fixed_prefix(conditions)):
            if all(matches_condition(labels, condition) for condition in conditions):
                if TTL_TAG in header.tags:
                    perhaps.append(labels)
                else:
                    certain.add(labels)
        for first in range(0, len(perhaps), _READ_TOGETHER):
            together = perhaps[first : first + _READ_TOGETHER]
            live = await all_of(self._namespace(acting, each).has_items(now) for each in together)
            certain.update(
                each for each, has_items in zip(together, live, strict=True) if has_items
            )
        listed = sorted({labels[: op.max_depth] for labels in certain})
        return listed[op.offset : op.offset + op.limit]

    async def _headers(
        self, acting: Acting, prefix: Labels, *, tag: str | None = None
    ) -> AsyncIterator[tuple[SessionMetadata, Labels]]:
        """Yield the namespaces with items that an index finds for a prefix."""
        async for session in sessions_tagged(acting, tag or tag_of(prefix), page_size=_PAGE):
            labels = labels_of(session.metadata)
            if labels is not None and session.metadata.message_count:
                yield session.metadata, labels

    async def _sweep(self, acting: Acting) -> int:
        now, removed = self._clock(), 0
        async for _, labels in self._headers(acting, (), tag=TTL_TAG):
            removed += await self._namespace(acting, labels).sweep(now)
        return removed

    async def _refresh(
        self, namespace: Namespace, items: Iterable[StoredItem], now: datetime
    ) -> None:
        await namespace.renew([item for item in items if item.is_renewed_by_reading(now)], now)


def _divided(ops: Sequence[Op]) -> _Batch:
    """Divide operations by what they do."""
    batch = _Batch({}, {}, {})
    for place, op in enumerate(ops):
        if isinstance(op, GetOp):
            batch.gets.setdefault(tuple(op.namespace), {})[place] = op
        elif isinstance(op, PutOp):
            batch.puts[tuple(op.namespace), op.key] = op
        else:
            batch.queries[place] = op
    return batch


def _by_namespace(puts: Mapping[tuple[Labels, str], PutOp]) -> dict[Labels, list[PutOp]]:
    """Return the puts of each namespace, in the order of their first items; removals come last."""
    found: dict[Labels, list[PutOp]] = {}
    for (labels, _), op in sorted(puts.items(), key=lambda each: each[1].value is None):
        found.setdefault(labels, []).append(op)
    return found


async def _matching(
    namespace: Namespace, op: SearchOp, now: datetime, most: int
) -> list[StoredItem]:
    """Return the first items of a namespace that match a search."""
    found: list[StoredItem] = []
    async for page in namespace.pages(now, _FIRST_FILTERED if op.filter else most):
        found += (item for item in page if matches_filter(item.value, op.filter))
        if len(found) >= most:
            break
    return found[:most]


def _check(op: Op) -> None:
    """Refuse an operation that is invalid; with it, all of its batch are refused."""
    if not isinstance(op, GetOp | PutOp | SearchOp | ListNamespacesOp):
        problem = f"Unknown operation type: {type(op)}"
        raise ValueError(problem)  # noqa: TRY004 - as LangGraph's own stores
    _check_labels(op)
    if isinstance(op, GetOp | PutOp) and not isinstance(op.key, str):
        raise InvalidInputError("key", f"must be text, not {type(op.key).__name__}")
    if isinstance(op, PutOp):
        _check_ttl(op.ttl)


def _check_labels(op: Op) -> None:
    """Refuse what the methods that take one namespace refuse; a batch gets here without them."""
    if isinstance(op, ListNamespacesOp):
        labels = [label for each in op.match_conditions or () for label in each.path]
    else:
        labels = list(op.namespace_prefix if isinstance(op, SearchOp) else op.namespace)
    for label in labels:
        if not isinstance(label, str) or not label or "." in label or "\x00" in label:
            problem = f"a label is text that is not empty, without '.' and NUL, not {label!r}"
            raise InvalidNamespaceError(problem)


def _check_ttl(ttl: Any) -> None:  # noqa: ANN401 - whatever was given
    """Refuse what is no time: it would be stored, and every read of the namespace would fail."""
    if not is_ttl(ttl):
        raise InvalidInputError("ttl", "must be a finite number of minutes, or None")


def _item(labels: Labels, item: StoredItem) -> Item:
    return Item(
        value=item.value,
        key=item.key,
        namespace=labels,
        created_at=item.created_at,
        updated_at=item.updated_at,
    )


def _search_item(labels: Labels, item: StoredItem) -> SearchItem:
    return SearchItem(labels, item.key, item.value, item.created_at, item.updated_at)
