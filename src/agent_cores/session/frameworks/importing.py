"""``import_from``: the sessions of a framework's store into a store of ours."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.frameworks.found import Given
from agent_cores.session.frameworks.writing import ImportTally, SessionWriter
from agent_cores.session.models.session import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from agent_cores.session.frameworks.found import Reader
    from agent_cores.session.storage.base import StorageProvider

Framework = Literal[
    "openai-agents",
    "google-adk",
    "langgraph",
    "claude",
    "langchain-redis",
    "strands",
    "llama-index",
]
_MODULES: dict[Framework, str] = {
    "openai-agents": "openai_agents",
    "google-adk": "google_adk",
    "langgraph": "langgraph",
    "claude": "claude",
    "langchain-redis": "langchain_redis",
    "strands": "strands",
    "llama-index": "llama_index",
}


async def import_from(
    framework: Framework,
    source: str,
    store: StorageProvider,
    *,
    user: str | None = None,
    namespace: str = DEFAULT_NAMESPACE,
    replace: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> ImportTally:
    """Write the sessions of a framework's store into ours; return what was written and what not.

    ``source`` is a path or URL, and is only read. ``user`` owns the sessions of a store that names
    no user. A session that is stored in another state stays as it is, unless ``replace`` is set;
    one that an import wrote before stays in any case. ``progress`` is called with how many sessions
    are done, and of how many.
    """
    writer = SessionWriter(store, namespace, replace=replace)
    async with _opened(framework, Given(source, user)) as reader:
        total = None if progress is None else await reader.total()
        try:
            async for found in reader.sessions():
                await writer.write(found)
                if progress is not None:
                    progress(writer.tally.done, total)
        finally:
            await writer.flush()
        if progress is not None:
            progress(writer.tally.done, total)
    return writer.tally


def _opened(framework: Framework, given: Given) -> AbstractAsyncContextManager[Reader]:
    if framework not in _MODULES:
        known = ", ".join(_MODULES)
        raise ConfigurationError(f"{framework!r} is not one of {known}")
    module: Any = import_module(f"agent_cores.session.frameworks.{_MODULES[framework]}")
    opened: AbstractAsyncContextManager[Reader] = module.open_reader(given)
    return opened
