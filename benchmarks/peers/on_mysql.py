"""What the peers on MariaDB share: each store has its own database."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import asyncmy  # type: ignore[import-untyped, import-not-found, unused-ignore]

from benchmarks.store import server_address


async def new_database(directory: Path) -> str:
    """Create an empty database; returns its URL for SQLAlchemy with asyncmy."""
    name = f"store_{directory.name}"
    port = urlsplit(server_address()).port
    connection = await asyncmy.connect(host="127.0.0.1", port=port, user="root")
    async with connection.cursor() as cursor:
        await cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    await connection.ensure_closed()
    return f"mysql+asyncmy://root@127.0.0.1:{port}/{name}"
