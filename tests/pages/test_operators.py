"""Every block on the operators' pages is run as it stands there, or read by what reads it.

The commands of a page run from its top to its end in one clean folder, on real servers, and print
what the page shows. A block that no check knows fails the test.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent_cores.session.service.auth.key_file import KeyFile
from agent_cores.session.service.settings import ServiceSettings
from agent_cores.session.settings import SessionSettings
from tests.pages.blocks import ROOT, Block, blocks_of, page_file
from tests.pages.shell import Shell, compare
from tests.pages.stand_ins import ROLE, Place, clean_place
from tests.servers import mariadb, postgres
from tests.test_documents import SHOWN
from tests.test_page_code import PAGES as FRAGMENTS

OPERATORS = (
    "README",
    "operations",
    "backup",
    "moving-data",
    "command-line",
    "observability",
    "security",
    "postgres",
    "mysql",
    "redis",
    "sqlite",
    "settings",
    "http",
    "http-access",
    "http-more",
    "http-sessions",
    "errors",
    "guarantees",
    "versions",
    "expiry",
)
SHELLS = {"sh", "bash", "shell", "console"}
ELSEWHERE = {
    ("README", 0): "installs the package: tests/test_distribution.py does, on four Pythons",
    ("README", 1): "the targets of make, with which these tests were started",
    ("README", 6): "tests/test_documents.py loads it",
    ("moving-data", 2): "needs the frameworks, which are in environments of their own:"
    " tests/adapters imports the stores that they wrote",
}
"""Blocks that are not run here, and why."""
LANGUAGES = SHELLS | {"python", "text", "http", "sql", "toml", "ini", "json", "js", ""}
BEFORE = {
    ("backup", 0): [
        "agent-sessions send trip Hi --user ann --create --storage sqlite:///sessions.db"
    ],
    ("backup", 1): [
        "sqlite3 sessions.db \"UPDATE sessions SET grants = x'00'\"",
        "! agent-sessions show trip --user ann --storage sqlite:///sessions.db",
    ],
    ("moving-data", 0): [
        "agent-sessions send trip Hi --user ann --create --storage sqlite:///sessions.db"
    ],
    ("command-line", 1): [
        "unset SESSION_STORAGE_URL",
        "echo SESSION_STORAGE_URL=redis://db.internal:6379/0 > .env",
        "agent-sessions keys create one; agent-sessions keys create two",
    ],
    ("command-line", 2): ["rm .env"],
    ("sqlite", 1): [
        "agent-sessions send trip Hi --user ann --create --storage sqlite:///sessions.db"
    ],
    ("README", 7): ["agent-sessions serve"],
}
"""What a page takes for granted before a block: other programs have used the store."""
AFTER = {
    ("backup", 1): ["agent-sessions show trip --user ann --storage sqlite:///sessions.db"],
    ("postgres", 0): ["agent-sessions doctor"],
    ("mysql", 0): ["agent-sessions doctor"],
    ("sqlite", 0): ["agent-sessions send trip Hi --user ann --create", "test -f sessions.db"],
    ("security", 0): [
        "agent-sessions keys create first",
        "test -f keys.json",
        "agent-sessions serve",
    ],
    ("observability", 0): ["curl -s http://127.0.0.1:9464/metrics | grep -q ^agent_sessions_"],
}
"""What must work after a block."""


TESTED = {"python", "text", "http"}
"""Languages of blocks that other tests run: see ``test_a_block_is_one_that_other_tests_run``."""
FOLLOWED = [page for page in OPERATORS if {b.language for b in blocks_of(page)} - TESTED]


@pytest.fixture
def place(nothing_set: Path) -> Iterator[Place]:
    with clean_place(nothing_set) as place:
        yield place


def prepare(block: Block, place: Place) -> None:
    """Set the server as the page found it."""
    if block.name == "command-line-1":
        place.valkey.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        place.valkey.command("CONFIG", "SET", "appendonly", "yes")


@pytest.mark.parametrize("page", FOLLOWED)
async def test_a_page_is_followed_from_its_top_to_its_end(page: str, place: Place) -> None:
    with Shell(place) as shell:
        for block in blocks_of(page):
            if (page, block.number) not in ELSEWHERE and block.language not in TESTED:
                await follow(block, place, shell)


async def follow(block: Block, place: Place, shell: Shell) -> None:
    """Run a block, or have it read by what reads it; a language without a check is an error."""
    prepare(block, place)
    for line in BEFORE.get((block.page, block.number), []):
        await asyncio.to_thread(shell.run_block, line)
    if block.language in SHELLS:
        await asyncio.to_thread(shell.run_block, block.text)
    else:
        await CHECKS[block.language](block, place, shell)
    for line in AFTER.get((block.page, block.number), []):
        await asyncio.to_thread(shell.run_block, line)


# ── what is not run by a shell ───────────────────────────────────────────────────────────────────


async def is_run_by_the_server(block: Block, place: Place, shell: Shell) -> None:
    statements = place.stands_for(block.text)
    role = place.stands_for(ROLE)
    if block.page == "postgres":
        database = place.postgres.rpartition("/")[2]
        server = postgres.shared_server()
        server.sql(f"CREATE ROLE {role}", database)
        server.sql(statements, database)
        granted = f"SELECT has_table_privilege('{role}', 'agent_cores_messages', 'DELETE')"
        assert server.sql(granted, database) == "t"
        server.sql(f"DROP OWNED BY {role}; DROP ROLE {role}", database)
    else:
        maria = mariadb.shared_server()
        maria.sql("CREATE USER IF NOT EXISTS service@'127.0.0.%'")
        maria.sql(statements)
        assert place.stands_for("chat.*").removesuffix(".*") in maria.sql(
            "SHOW GRANTS FOR service@'127.0.0.%'"
        )
        maria.sql("DROP USER service@'127.0.0.%'")


async def is_settings(block: Block, place: Place, shell: Shell) -> None:
    """The file is read by our own reader, and a misspelt name in it is refused."""
    (place.folder / "sessions.toml").write_text(block.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSION_CONFIG", "sessions.toml")
        assert SessionSettings.load().default_expiry == 604_800
        settings = ServiceSettings.load()
        assert settings.port == 9000
        assert [issuer.audience for issuer in settings.jwt_issuers] == ["sessions"]
    for name in re.findall(r"^SESSION_\w+", block.text, re.MULTILINE):
        (place.folder / "misspelt.toml").write_text(block.text.replace(name, f"{name}X"))
        said = shell.run("SESSION_CONFIG=misspelt.toml agent-sessions stats 2>&1", status=2)
        assert f"{name}X" in said


async def is_json_of_the_service(block: Block, place: Place, shell: Shell) -> None:
    read = json.loads(block.text)
    if isinstance(read, list):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SESSION_SERVICE_JWT_ISSUERS", block.text)
            [issuer] = ServiceSettings.load().jwt_issuers
            assert issuer.audience == read[0]["audience"]
    elif "keys" in read:
        file = place.folder / "page-keys.json"
        file.write_text(re.sub(r"<SHA-256 [^>]*>", "0" * 64, block.text))
        [key] = await KeyFile(str(file)).all()
        assert key.name == read["keys"][0]["name"]
    else:
        await is_a_line_of_the_audit_log(read, shell)


async def is_a_line_of_the_audit_log(line: dict[str, object], shell: Shell) -> None:
    caller = """-s -H "Authorization: Bearer $AGENT_SESSIONS_KEY" -H 'X-User-Id: ann' """
    caller += "-H 'Content-Type: application/json' http://127.0.0.1:8080/v1/sessions"
    share = '{"subject": "bob", "role": "viewer"}'
    shell.run_block(f"""curl {caller} -d '{{"id": "trip"}}'""")
    shell.run_block(f"curl -X PUT {caller}/trip/grants -d '{share}'")
    recorded = await asyncio.to_thread(shell.logged, "share_session")
    assert recorded.keys() == line.keys()
    same = ("level", "logger", "operator", "user", "namespace", "verb", "session_id", "outcome")
    assert [recorded[name] for name in same] == [line[name] for name in same]
    compare([str(line["message"])], [str(recorded["message"])])


CHECKS: dict[str, Callable[[Block, Place, Shell], Awaitable[None]]] = {
    "sql": is_run_by_the_server,
    "toml": is_settings,
    "json": is_json_of_the_service,
}


@pytest.mark.parametrize("page", OPERATORS)
def test_a_block_is_one_that_other_tests_run(page: str) -> None:
    programs = SHOWN.findall(page_file(page).read_text("utf-8"))
    for block in blocks_of(page):
        if block.language == "http":  # a whole page: tests/service/test_http_examples.py
            assert page in {"http-access", "http-more", "http-sessions"}
        elif block.language == "text":  # tests/test_documents.py and tests/test_pages.py
            assert block.text in [output for _, output in programs]
        elif block.language == "python" and page not in FRAGMENTS:  # tests/test_page_code.py
            assert block.text in [code for code, _ in programs]


# ── the lists above ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", OPERATORS)
def test_every_block_of_an_operators_page_has_a_check(page: str) -> None:
    unknown = [
        block.name
        for block in blocks_of(page)
        if block.language not in SHELLS | CHECKS.keys() | TESTED
        and (page, block.number) not in ELSEWHERE
    ]
    assert unknown == []


def test_every_page_says_what_its_blocks_are() -> None:
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        if file.parent == ROOT and file.stem != "README":
            continue
        languages = {block.language for block in blocks_of(file.stem)}
        assert languages <= LANGUAGES, file


def test_the_lists_name_blocks_that_there_are() -> None:
    there = {(block.page, block.number) for page in OPERATORS for block in blocks_of(page)}
    assert {*ELSEWHERE, *BEFORE, *AFTER} <= there


def test_output_that_differs_from_the_page_is_noticed() -> None:
    shown = ["ID  redis:…", "#1 FnO0bT3qX9kq2h6S1bXh0P", "…", "end"]
    compare(shown, ["ID redis:x", "#2 aB3xaB3xaB3xaB3xaB3x__", "a", "b", "end"])
    for line, printed in (
        ("2 sessions are copied.", "2 sessions are imported."),
        ("problem  eviction", "ok  eviction"),
        ("one", "one\ntwo"),
    ):
        with pytest.raises(AssertionError):
            compare([line], printed.splitlines())
    with pytest.raises(AssertionError):
        compare(["14.1 GB"], ["14.2 GB"], exact=True)
