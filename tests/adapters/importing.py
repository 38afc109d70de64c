"""What the tests of imports share: an import into a manager's storage, and what a source was."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from agent_cores.session.frameworks.importing import Framework, import_from

if TYPE_CHECKING:
    from pathlib import Path

    from agent_cores.session import SessionManager
    from agent_cores.session.frameworks.writing import ImportTally


async def imported(
    manager: SessionManager,
    framework: Framework,
    source: str | Path,
    **options: Any,  # noqa: ANN401 - see ``import_from``
) -> ImportTally:
    """Import a framework's store."""
    return await import_from(framework, str(source), manager.runtime.storage, **options)


def files(folder: Path) -> dict[str, str]:
    """Return the digest of each file below a folder, to see that nothing was changed."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")  # an index that readers share
    }
