"""The rights that the pages name are enough for every command and for the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.pages.blocks import blocks_of, page_file
from tests.pages.shell import Shell
from tests.pages.stand_ins import ROLE, Place, clean_place
from tests.servers import mariadb, postgres

COMMANDS = """
agent-sessions migrate --check
agent-sessions send trip Hi --user ann --create --message-id m1
agent-sessions share trip bob --user ann
agent-sessions list --as-operator ops --json
agent-sessions show trip --user bob
agent-sessions export --as-operator ops --output out.jsonl
agent-sessions migrate --storage sqlite:///copy.db
agent-sessions copy --from "$SESSION_STORAGE_URL" --to sqlite:///copy.db
agent-sessions erase ann --yes
agent-sessions import out.jsonl --as-operator ops
agent-sessions erase ann --yes
agent-sessions copy --from sqlite:///copy.db --to "$SESSION_STORAGE_URL"
agent-sessions stats
agent-sessions bench --seconds 0.05 --callers 3
agent-sessions keys create first --json
agent-sessions keys list
agent-sessions clean
agent-sessions doctor
SESSION_SERVICE_WORKERS=1 agent-sessions serve
"""


@pytest.fixture
def place(nothing_set: Path) -> Iterator[Place]:
    with clean_place(nothing_set) as place:
        yield place


def statements(page: str, place: Place) -> str:
    [block] = [block for block in blocks_of(page) if block.language == "sql"]
    return place.stands_for(block.text)


@pytest.fixture
def url_of_postgres(place: Place) -> Iterator[str]:
    role, database = place.stands_for(ROLE), place.postgres.rpartition("/")[2]
    with Shell(place) as shell:
        shell.run(f"SESSION_STORAGE_URL={place.postgres} agent-sessions migrate")
    server = postgres.shared_server()
    server.sql(f"CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC", database)
    server.sql(statements("postgres", place), database)
    yield place.postgres.replace("postgres@", f"{role}@")
    server.sql(f"DROP OWNED BY {role}; DROP ROLE {role}", database)


@pytest.fixture
def url_of_mysql(place: Place) -> Iterator[str]:
    with Shell(place) as shell:
        shell.run(f"SESSION_STORAGE_URL={place.mariadb} agent-sessions migrate")
    server = mariadb.shared_server()
    server.sql("CREATE USER service@'127.0.0.%'")
    server.sql(statements("mysql", place))
    yield place.mariadb.replace("root@", "service@")
    server.sql("DROP USER service@'127.0.0.%'")


@pytest.fixture
def url_of_redis(place: Place) -> str:
    """The commands that the page names, on the keys with the prefix, and nothing else."""
    text = page_file("redis").read_text("utf-8")
    [rights] = re.findall(r"needs `~<prefix>\*` and\s+`([^`]+)`", text)
    login = "service", "on", ">secret", "~session:*"
    place.valkey.command("ACL", "SETUSER", *login, *rights.split())
    parts = urlsplit(place.valkey.url)
    return f"redis://service:secret@{parts.netloc}/0"


@pytest.mark.parametrize("store", ["postgres", "mysql", "redis"])
def test_the_rights_on_the_page_are_enough_for_every_command(
    store: str, place: Place, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"url_of_{store}")
    with Shell(place) as shell:
        shell.run(f"export SESSION_STORAGE_URL='{url}' SESSION_SCHEMA=check")
        for line in COMMANDS.strip().splitlines():
            shell.run_block(line)
