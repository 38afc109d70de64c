"""Settings: where each comes from, what is refused, and what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings, sources
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.settings import ServiceSettings
from agent_cores.session.settings import SERVICE_SETTINGS, environment_name

pytestmark = pytest.mark.usefixtures("nothing_set")

SECRET = "hunter2"
URL = f"redis://ann:{SECRET}@redis.example:6379/0"
SOURCES = ["argument", "environment", "dotenv", "toml"]


def write(source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Set ``SESSION_TIMEOUT`` in one source, to its place in ``SOURCES``; return the arguments."""
    seconds = SOURCES.index(source) + 1
    if source == "argument":
        return {"timeout": seconds}
    if source == "environment":
        monkeypatch.setenv("SESSION_TIMEOUT", str(seconds))
    elif source == "dotenv":
        Path(".env").write_text(f"SESSION_TIMEOUT={seconds}\n", encoding="utf-8")
    else:
        Path("sessions.toml").write_text(f"SESSION_TIMEOUT = {seconds}\n", encoding="utf-8")
        monkeypatch.setenv("SESSION_CONFIG", "sessions.toml")
    return {}


# ── names that are not ours ──────────────────────────────────────────────────────────────────────


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level("WARNING", "agent_cores.session"):
        for _ in range(2):
            SessionSettings.load()
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SESSION_STORAGE_URI", "SESSION_STORAGE_URL"),
        ("SESSION_STORAGE", "SESSION_STORAGE_URL"),
        ("session_timeout", "SESSION_TIMEOUT"),
        ("timeout", "SESSION_TIMEOUT"),
        ("REDIS", "REDIS_URL"),
        ("SESSION_REDIS_URL", "REDIS_URL"),
        ("SESSION_SERVICE_PORTS", "SESSION_SERVICE_PORT"),
        ("SESSION_MAX_APPEND_MESSAGE", "SESSION_MAX_APPEND_MESSAGES"),
    ],
)
def test_a_wrong_key_of_our_own_file_is_refused_with_the_nearest_right_one(
    wrong: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sessions.toml").write_text(f'{wrong} = "x"\n', encoding="utf-8")
    monkeypatch.setenv("SESSION_CONFIG", "sessions.toml")
    for load in (SessionSettings.load, ServiceSettings.load, SessionManager):
        with pytest.raises(ConfigurationError, match=rf"{wrong}.*did you mean {right}\?"):
            load()


def test_a_key_that_resembles_none_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sessions.toml").write_text("[zzz]\na = 1\n", encoding="utf-8")
    monkeypatch.setenv("SESSION_CONFIG", "sessions.toml")
    with pytest.raises(ConfigurationError, match=r"'zzz': no such setting; .*settings\.md"):
        SessionSettings.load()


def test_settings_that_are_nested_without_end_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("sessions.toml").write_text(f"a = {'[' * 9_000}", encoding="utf-8")
    monkeypatch.setenv("SESSION_CONFIG", "sessions.toml")
    with pytest.raises(ConfigurationError, match=r"sessions\.toml.* cannot be read as TOML"):
        SessionSettings.load()
    monkeypatch.delenv("SESSION_CONFIG")
    monkeypatch.setenv("SESSION_SERVICE_JWT_ISSUERS", "[" * 9_000)
    with pytest.raises(ConfigurationError, match="SESSION_SERVICE_JWT_ISSUERS is a JSON list"):
        ServiceSettings.load()


def test_the_settings_of_the_service_may_stand_in_the_same_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "SESSION_TIMEOUT = 3\nSESSION_SERVICE_PORT = 9000\n"
    Path("sessions.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SESSION_CONFIG", "sessions.toml")
    assert SessionSettings.load().timeout == 3
    assert ServiceSettings.load().port == 9_000


def test_every_setting_of_the_service_is_known() -> None:
    assert {name.upper() for name in ServiceSettings.__struct_fields__} == SERVICE_SETTINGS


@pytest.mark.parametrize("place", ["the environment", ".env of the working folder"])
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SESSION_STORAGE_URI", "SESSION_STORAGE_URL"),
        ("SESSION_STORAGE", "SESSION_STORAGE_URL"),
        ("SESSION_TIMOUT", "SESSION_TIMEOUT"),
        ("SESSION_REDIS_URL", "REDIS_URL"),
        ("SESSION_SERVICE_HOSTS", "SESSION_SERVICE_HOST"),
        ("SESSION_CONFG", "SESSION_CONFIG"),
        ("session_timeout", "SESSION_TIMEOUT"),
    ],
)
def test_a_name_that_looks_misspelt_is_logged_once(
    wrong: str,
    right: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sources, "_logged", set())
    if place == "the environment":
        monkeypatch.setenv(wrong, SECRET)
    else:
        Path(".env").write_text(f"{wrong}={SECRET}\n", encoding="utf-8")
    assert warned(caplog) == [f"{wrong} in {place} is not a setting; did you mean {right}?"]


@pytest.mark.parametrize(
    ("wrong", "level", "advice"),
    [
        ("SESSION_COOKIE_NAME", "INFO", ""),
        ("SESSION_STORE", "INFO", "; the most similar setting is SESSION_STORAGE_URL"),
        ("SESSION_SERVICE_COLOUR", "WARNING", "; the most similar setting is SESSION_SERVICE_PORT"),
    ],
)
def test_any_other_unknown_name_is_logged_too(
    wrong: str,
    level: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sources, "_logged", set())
    monkeypatch.setenv(wrong, SECRET)
    with caplog.at_level("INFO", "agent_cores.session"):
        SessionSettings.load()
    expected = f"{wrong} in the environment is not a setting{advice}"
    assert [(r.levelname, r.message) for r in caplog.records] == [(level, expected)]


def test_names_of_other_programs_are_no_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sources, "_logged", set())
    for name in (
        *("MANAGER", "DRIVER", "LIFETIME", "DOMAIN", "PREFIX", "SECRET", "SECRET_KEY", "TYPE"),
        *("COOKIE_NAME", "COOKIE_SECURE", "COOKIE_AGE", "CONNECTION", "PATH", "ID", "EXPIRE"),
    ):
        monkeypatch.setenv(f"SESSION_{name}", "x")
    assert warned(caplog) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("SESSION_SERVICE_PORT", "abc"), ("SESSION_SERVICE_DOCS", "perhaps")],
)
def test_a_value_of_the_service_that_cannot_be_read_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        ServiceSettings.load()


def test_a_part_of_a_value_is_refused_by_the_name_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSION_SERVICE_JWT_ISSUERS", '[{"issuer": 3}]')
    with pytest.raises(ConfigurationError, match=r"SESSION_SERVICE_JWT_ISSUERS\[.*issuer"):
        ServiceSettings.load()


@pytest.mark.parametrize("name", ["REDIS_URL", "SESSION_STORAGE_URL"])
@pytest.mark.parametrize("source", ["environment", "dotenv", "toml", "argument"])
def test_the_log_says_where_the_choice_of_the_store_was_found(
    name: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {}
    if source == "environment":
        monkeypatch.setenv(name, "memory://")
        place = " in the environment"
    elif source == "dotenv":
        Path(".env").write_text(f"{name}=memory://  # ours\n", encoding="utf-8")
        place = " in .env of the working folder"
    elif source == "toml":
        Path("sessions.toml").write_text(f'{name} = "memory://"\n', encoding="utf-8")
        monkeypatch.setenv("SESSION_CONFIG", "sessions.toml")
        place = " in the file that SESSION_CONFIG names"
    else:
        arguments = {name.removeprefix("SESSION_").lower(): "memory://"}
        place = ""
    manager = SessionManager(settings=SessionSettings.load(**arguments))
    assert manager._runtime._reason == f"by {name}{place}"  # noqa: SLF001 - what initialize() logs


# ── where a value comes from ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_the_first_source_that_has_a_value_gives_it(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {}
    for source in SOURCES[first:]:
        arguments |= write(source, monkeypatch)
    assert SessionSettings.load(**arguments).timeout == first + 1


def test_a_default_holds_where_nothing_is_set() -> None:
    assert SessionSettings.load() == SessionSettings()
    assert SessionSettings.load().storage_url is None


def test_the_dotenv_file_may_name_the_toml_file() -> None:
    Path("sessions.toml").write_text('SESSION_KEY_PREFIX = "toml:"\n', encoding="utf-8")
    Path(".env").write_text("SESSION_CONFIG=sessions.toml\n", encoding="utf-8")
    assert SessionSettings.load().key_prefix == "toml:"


@pytest.mark.parametrize("empty", ["", "  ", "   # 过期时间（秒）"])
def test_an_empty_value_is_none_at_all(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_DEFAULT_EXPIRY", empty)
    assert SessionSettings.load().default_expiry == 86_400


def test_a_comment_after_a_value_is_left_out_and_a_fragment_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSION_DEFAULT_EXPIRY", "60  # a minute")
    monkeypatch.setenv("REDIS_URL", "redis://localhost/0#fragment")
    settings = SessionSettings.load()
    assert settings.default_expiry == 60
    assert settings.redis_url == "redis://localhost/0#fragment"


def test_a_name_of_others_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_COOKIE_NAME", "sid")
    monkeypatch.setenv("SESSION_MANAGER", "local/host:@/tmp/.ICE-unix/1")
    assert SessionSettings.load() == SessionSettings()


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("redis_url", "REDIS_URL"),
        ("storage_url", "SESSION_STORAGE_URL"),
        ("schema", "SESSION_SCHEMA"),
    ],
)
def test_a_field_is_set_under_its_name_in_capitals(field: str, name: str) -> None:
    assert environment_name(field) == name


async def test_a_manager_takes_its_defaults_from_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSION_STORAGE_URL", "memory://")
    monkeypatch.setenv("SESSION_DEFAULT_EXPIRY", "60")
    async with SessionManager() as sessions:
        session_id = await sessions.create_session("ann")
        assert (await sessions.get_session(session_id, "ann")).metadata.ttl_seconds == 60


async def test_an_expiry_of_zero_is_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_DEFAULT_EXPIRY", "0")
    async with SessionManager("memory://") as sessions:
        session_id = await sessions.create_session("ann")
        assert (await sessions.get_session(session_id, "ann")).metadata.expires_at is None


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSION_DEFAULT_EXPIRY", "-1"),
        ("SESSION_DEFAULT_EXPIRY", "nan"),
        ("SESSION_DEFAULT_EXPIRY", "a day"),
        ("SESSION_CLEANUP_INTERVAL", "-0.1"),
        ("SESSION_CLEANUP_INTERVAL", "inf"),
        ("SESSION_TIMEOUT", "0"),
        ("SESSION_MAX_CLOCK_SKEW", "0"),
        ("SESSION_POOL_SIZE", "0"),
        ("SESSION_POOL_SIZE", "1.5"),
        ("SESSION_SCHEMA", "drop"),
        ("SESSION_TABLE_PREFIX", "a-b"),
        ("SESSION_TABLE_PREFIX", "x" * 41),
        ("SESSION_MAX_TAGS", "0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        SessionSettings.load()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("default_expiry", 0),
        ("cleanup_interval", 0),
        ("timeout", 0.001),
        ("table_prefix", "x" * 40),
    ],
)
def test_a_value_at_its_bound_is_taken(field: str, value: object) -> None:
    assert getattr(SessionSettings.load(**{field: value}), field) == value


def test_the_longest_clock_skew_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_MAX_CLOCK_SKEW", "inf")
    assert SessionSettings.load().max_clock_skew == float("inf")


def test_an_argument_that_is_no_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        SessionSettings.load(colour="blue")


@pytest.mark.parametrize("text", [None, "not = = toml", "\udcff"])
def test_a_toml_file_that_cannot_be_read_is_named(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        Path("broken.toml").write_text(text, encoding="utf-8", errors="surrogateescape")
    monkeypatch.setenv("SESSION_CONFIG", "broken.toml")
    with pytest.raises(ConfigurationError, match=r"SESSION_CONFIG.*broken\.toml"):
        SessionSettings.load()


def test_a_dotenv_file_that_cannot_be_read_is_named() -> None:
    Path(".env").write_bytes(b"SESSION_TIMEOUT=\xff\n")
    with pytest.raises(ConfigurationError, match=r"\.env"):
        SessionSettings.load()


# ── what is never shown ──────────────────────────────────────────────────────────────────────────


def test_a_password_is_not_in_what_settings_show() -> None:
    settings = SessionSettings.load(redis_url=URL, storage_url=URL)
    assert SECRET not in f"{settings} {settings!r}"
    assert "redis:…" in repr(settings)
    assert settings.redis_url == URL


@pytest.mark.parametrize("name", ["SESSION_STORAGE_URL", "REDIS_URL"])
def test_a_password_is_not_in_an_error_about_other_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, URL)
    monkeypatch.setenv("SESSION_TIMEOUT", "soon")
    with pytest.raises(ConfigurationError) as caught:
        SessionSettings.load()
    assert SECRET not in str(caught.value)


def test_a_password_is_not_in_an_error_about_an_unknown_scheme() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionManager(URL.replace("redis:", "reddish:"))
    assert "reddish" in str(caught.value)
    assert SECRET not in str(caught.value)
