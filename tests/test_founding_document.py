"""The founding document holds: its code runs as it stands, its lists name what there is.

The document lies beside this file, unchanged, and everything is taken from there.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

import agent_cores.session.session_manager as manager_module
from agent_cores.session import SessionManager, SessionSettings, get_session_manager
from agent_cores.session.storage import StorageFactory, StorageProvider

DOCUMENT = Path(__file__).with_name("founding_document.zh.md").read_text(encoding="utf-8")
PACKAGE = Path(manager_module.__file__).parent
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
QUICK_START, CUSTOM_PROVIDER = (code for language, code in BLOCKS if language == "python")
TREE, SETTINGS = (code for language, code in BLOCKS if not language)

YOUR_MODULE = """
from datetime import UTC, datetime

import msgspec

from agent_cores.session.storage import StorageProvider


class CustomStorageProvider(StorageProvider):
    def __init__(self):
        self.kept = {}

    async def save_session(self, session):
        self.kept[session.id] = session

    async def load_session(self, session_id):
        return self.kept.get(session_id)

    async def delete_session(self, session_id):
        return self.kept.pop(session_id, None) is not None

    async def list_sessions(self, owner_id=None, status=None, tags=None, limit=10, offset=0):
        found = [
            session
            for session in self.kept.values()
            if owner_id in (None, session.owner_id)
            and status in (None, session.status)
            and set(tags or ()) <= set(session.metadata.tags)
        ]
        found.sort(key=lambda session: session.metadata.last_active_at, reverse=True)
        return found[offset : offset + limit]

    async def update_metadata(self, session_id, metadata_updates):
        if session_id not in self.kept:
            return False
        session = self.kept[session_id]
        attributes = {**session.metadata.attributes, **metadata_updates}
        header = msgspec.structs.replace(session.metadata, attributes=attributes)
        self.kept[session_id] = msgspec.structs.replace(session, metadata=header)
        return True

    async def clean_expired_sessions(self):
        ended = [key for key, session in self.kept.items() if session.status == "expired"]
        return sum([await self.delete_session(key) for key in ended])

    async def get_statistics(self):
        now = datetime.now(UTC)
        due = sum(session.metadata.is_expired(now) for session in self.kept.values())
        return {"sessions": len(self.kept), "due": due}
"""

FOUNDING_VERBS = """
import asyncio


async def use():
    sessions = session_manager
    session_id = await sessions.create_session("ann", {"tags": ["demo"]}, 24)
    await sessions.add_message(session_id, "ann", "user", "你好")
    await sessions.update_session(session_id, "ann", {"city": "上海"}, {"topic": "travel"})
    await sessions.share_session(session_id, "ann", "bob")
    shared = await sessions.get_session(session_id, "bob")
    assert shared.metadata["topic"] == "travel"
    assert [message.content for message in shared.messages] == ["你好"]
    assert [session.id for session in await sessions.list_user_sessions("ann", None, 10, 0)]
    assert len(await sessions.get_session_messages(session_id, "bob", 50)) == 1
    assert await sessions.delete_session(session_id, "ann")
    await sessions.shutdown()
    print(type(sessions._runtime.storage).__module__)


asyncio.run(use())
"""


def listed(heading: str) -> list[str]:
    """Return the signatures that are listed below a heading: ``name(arguments)``."""
    section = DOCUMENT.split(f"### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^- `(.+?)` - ", section, re.MULTILINE)


def files() -> list[str]:
    """Return the paths of the folder tree, without its root."""
    found: list[str] = []
    folders: dict[int, str] = {-1: ""}
    for line in TREE.splitlines()[1:]:
        drawn = re.match(r"([│ ]*)[├└]── (\S+)", line)
        if drawn is not None:
            depth = len(drawn[1]) // 4
            path = folders[depth - 1] + drawn[2]
            folders[depth] = path
            found.append(path)
    return found


def run(program: str, folder: Path) -> str:
    """Run a program on a machine that has nothing configured; return what it prints."""
    bare = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "PYTHONPATH": str(folder),
        "PYTHONUTF8": "1",
    }
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(
        command, capture_output=True, check=False, cwd=folder, env=bare, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


# ── the code ─────────────────────────────────────────────────────────────────────────────────────


def test_the_quick_start_runs_as_it_stands_on_the_default_storage(tmp_path: Path) -> None:
    shown = run(QUICK_START, tmp_path)
    assert shown.startswith("会话消息: [")
    assert "你好，这是一条测试消息" in shown
    database = (tmp_path / "data" / "agent-cores-session" / "sessions.db").read_bytes()
    assert database.startswith(b"SQLite format 3")


def test_the_block_with_a_custom_provider_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "your_module.py").write_text(YOUR_MODULE, encoding="utf-8")
    known = "from agent_cores.session import get_session_manager\n"
    shown = run(known + CUSTOM_PROVIDER + FOUNDING_VERBS, tmp_path)
    assert shown.strip() == "your_module"


# ── the settings ─────────────────────────────────────────────────────────────────────────────────


def check(settings: SessionSettings) -> None:
    assert settings.redis_url == "redis://localhost:6379/0"
    assert settings.key_prefix == "session:"
    assert settings.default_expiry == 86_400


def test_the_settings_block_loads_as_a_dotenv_file_with_its_comment(nothing_set: Path) -> None:
    assert "# 过期时间（秒）" in SETTINGS
    (nothing_set / ".env").write_text(SETTINGS, encoding="utf-8")
    check(SessionSettings.load())


def test_the_settings_block_loads_from_the_environment_with_its_comment(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.partition("=") for line in SETTINGS.splitlines()]
    assert [name for name, _, _ in lines] == [
        "REDIS_URL",
        "SESSION_KEY_PREFIX",
        "SESSION_DEFAULT_EXPIRY",
    ]
    for name, _, value in lines:
        monkeypatch.setenv(name, value)
    check(SessionSettings.load())


def test_the_names_of_the_settings_block_are_those_of_the_defaults(nothing_set: Path) -> None:
    settings = SessionSettings.load()
    assert (settings.key_prefix, settings.default_expiry) == ("session:", 86_400)


# ── the signatures ───────────────────────────────────────────────────────────────────────────────


def parts(signature: str) -> tuple[str, list[tuple[str, object]]]:
    """Return the name and the arguments with their defaults, as the document writes them."""
    function = ast.parse(f"def {signature}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.literal_eval(default) for default in function.args.defaults]
    without = [inspect.Parameter.empty] * (len(names) - len(defaults))
    return function.name, list(zip(names, [*without, *defaults], strict=True))


def positional(method: object) -> list[tuple[str, object]]:
    """Return the arguments of a method that may be given by position, with their defaults."""
    assert inspect.iscoroutinefunction(method)
    arguments = list(inspect.signature(method).parameters.values())[1:]
    by_position = [a for a in arguments if a.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    others = [a for a in arguments if a not in by_position]
    assert all(a.kind is inspect.Parameter.KEYWORD_ONLY for a in others)
    assert all(a.default is not inspect.Parameter.empty for a in others)
    return [(a.name, a.default) for a in by_position]


def test_the_document_lists_eight_verbs_and_seven_storage_methods() -> None:
    assert len(listed("SessionManager")) == 8
    assert len(listed("存储接口")) == 7


@pytest.mark.parametrize("signature", listed("SessionManager"))
def test_a_verb_of_the_manager_has_the_listed_signature(signature: str) -> None:
    name, arguments = parts(signature)
    assert positional(getattr(SessionManager, name)) == arguments


@pytest.mark.parametrize("signature", listed("存储接口"))
def test_a_storage_method_has_exactly_the_listed_signature(signature: str) -> None:
    name, arguments = parts(signature)
    method = getattr(StorageProvider, name)
    assert positional(method) == arguments
    assert len(inspect.signature(method).parameters) == 1 + len(arguments)


def test_a_storage_provider_must_write_the_seven_methods_and_nothing_else() -> None:
    seven = {parts(signature)[0] for signature in listed("存储接口")}
    assert StorageProvider.__abstractmethods__ == seven


def test_the_storage_is_chosen_by_an_argument_of_that_name() -> None:
    argument = inspect.signature(get_session_manager).parameters["storage_type"]
    assert argument.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert argument.default is None


# ── the files and the classes ────────────────────────────────────────────────────────────────────


def test_the_document_lists_its_files() -> None:
    listed_files = [path for path in files() if path.endswith(".py")]
    assert len(listed_files) == 13
    assert "storage/redis_provider.py" in listed_files


@pytest.mark.parametrize("path", files())
def test_a_listed_file_is_there_and_can_be_imported(path: str) -> None:
    here = PACKAGE / path
    if path.endswith("/"):
        assert here.is_dir()
        return
    assert here.is_file()
    module = PurePosixPath(path).with_suffix("").as_posix().replace("/", ".")
    importlib.import_module(f"agent_cores.session.{module}".removesuffix(".__init__"))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("session_manager", "SessionManager"),
        ("models", "Session"),
        ("models.session", "Session"),
        ("models.session", "SessionMetadata"),
        ("storage", "StorageFactory"),
        ("storage.base", "StorageProvider"),
        ("storage.factory", "StorageFactory"),
        ("storage.redis_provider", "RedisProvider"),
        ("access", "AccessController"),
        ("access.access_control", "AccessController"),
        ("lifecycle", "LifecycleManager"),
        ("lifecycle.lifecycle_manager", "LifecycleManager"),
    ],
)
def test_a_class_stands_where_the_document_has_it(module: str, name: str) -> None:
    assert isinstance(getattr(importlib.import_module(f"agent_cores.session.{module}"), name), type)


def test_redis_is_the_provider_of_the_listed_file() -> None:
    provider = StorageFactory.provider_class("redis")
    listed = importlib.import_module("agent_cores.session.storage.redis_provider")
    assert provider is listed.RedisProvider
