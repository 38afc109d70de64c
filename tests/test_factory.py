"""``StorageFactory``: from a name, a URL, a class or an instance to a provider."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings, StorageFactory, StorageProvider
from agent_cores.session.errors import (
    ConfigurationError,
    StoreFormatError,
    UnknownStorageError,
    UnsupportedError,
)
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.storage.memory.provider import MemoryProvider

SECRET = "hunter2"
ENTRY_POINT = "[agent_cores.session.storage]\nparcel = parcel_store:ParcelProvider\n"


class OtherProvider(CustomStorageProvider):
    pass


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget at the end what a test registers."""
    monkeypatch.setattr(StorageFactory, "_registered", {})


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution that brings a provider as an entry point; return its module."""
    info = tmp_path / "parcel-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)
    module = tmp_path / "parcel_store.py"
    module.write_text(
        "from agent_cores.session.storage.memory.provider import MemoryProvider\n"
        "class ParcelProvider(MemoryProvider):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return module


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("storage", ["memory", "memory://", "MEMORY://", MemoryProvider])
def test_a_name_a_url_and_a_class_make_a_provider(storage: str | type[MemoryProvider]) -> None:
    assert isinstance(StorageFactory.create(storage), MemoryProvider)


@pytest.mark.parametrize("storage", ["memory", "memory://", MemoryProvider])
def test_a_provider_of_the_package_is_found_without_asking_others(
    storage: str | type[MemoryProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many packages are installed, looking for their entry points takes milliseconds."""
    monkeypatch.delattr(metadata, "entry_points")
    assert isinstance(StorageFactory.create(storage), MemoryProvider)


def test_an_instance_is_taken_as_it_is() -> None:
    provider = MemoryProvider()
    assert StorageFactory.create(provider) is provider


@pytest.mark.parametrize("storage", [42, object, None, b"memory://"])
def test_anything_else_is_refused(storage: object) -> None:
    with pytest.raises(ConfigurationError, match="a name, a URL"):
        StorageFactory.create(storage)  # type: ignore[arg-type]  # what a careless caller may give


@pytest.mark.parametrize("storage", ["mongodb", "mongodb://localhost", ""])
def test_an_unknown_name_lists_the_known_ones(storage: str) -> None:
    StorageFactory.register_provider("custom", CustomStorageProvider)
    with pytest.raises(UnknownStorageError) as caught:
        StorageFactory.create(storage)
    for known in ("custom", "memory", "redis", "sqlite"):
        assert known in str(caught.value)


def test_a_provider_without_urls_says_so() -> None:
    StorageFactory.register_provider("custom", CustomStorageProvider)
    assert isinstance(StorageFactory.create("custom"), CustomStorageProvider)
    with pytest.raises(UnsupportedError, match="CustomStorageProvider takes no URL"):
        StorageFactory.create("custom://somewhere")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_description_holds_no_password(scheme: str) -> None:
    url = f"{scheme}://ann:{SECRET}@redis.example:6379/0"
    assert SECRET not in StorageFactory.create(url).describe()


# ── options ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("storage", ["memory", "memory://", MemoryProvider])
def test_an_unknown_option_is_refused(storage: str | type[MemoryProvider]) -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        StorageFactory.create(storage, colour="blue")


def test_an_unknown_option_in_a_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        StorageFactory.create("memory://?colour=blue")


def test_options_for_a_provider_that_is_made_already_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_sessions"):
        StorageFactory.create(MemoryProvider(), max_sessions=1)


def test_an_option_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_sessions"):
        StorageFactory.create("memory", max_sessions=0)


def test_an_option_comes_before_a_setting(tmp_path: Path) -> None:
    class Timed(MemoryProvider):
        def __init__(self, *, timeout: float) -> None:
            super().__init__()
            self.timeout = timeout

        @classmethod
        def options_from(cls, settings: SessionSettings) -> dict[str, float]:
            return {"timeout": settings.timeout}

    settings = SessionSettings(timeout=3)
    assert StorageFactory.create(Timed, settings=settings).timeout == 3  # type: ignore[attr-defined]  # create() promises a StorageProvider
    given = StorageFactory.create(Timed, settings=settings, timeout=1)
    assert isinstance(given, Timed)
    assert given.timeout == 1


# ── registering ──────────────────────────────────────────────────────────────────────────────────


async def test_a_registered_provider_is_used_by_its_name() -> None:
    StorageFactory.register_provider("Custom", CustomStorageProvider)
    assert "custom" in StorageFactory.names()
    async with SessionManager("CUSTOM") as sessions:
        assert await sessions.create_session("ann")


def test_another_class_under_a_taken_name_is_refused_unless_it_overrides() -> None:
    StorageFactory.register_provider("custom", CustomStorageProvider)
    StorageFactory.register_provider("custom", CustomStorageProvider)
    with pytest.raises(ConfigurationError, match="override=True"):
        StorageFactory.register_provider("custom", OtherProvider)
    assert StorageFactory.provider_class("custom") is CustomStorageProvider
    StorageFactory.register_provider("custom", OtherProvider, override=True)
    assert StorageFactory.provider_class("custom") is OtherProvider


@pytest.mark.parametrize("name", ["memory", "sqlite", "redis", "rediss", "postgresql"])
def test_a_name_or_scheme_of_the_package_is_taken(name: str) -> None:
    with pytest.raises(ConfigurationError, match="override=True"):
        StorageFactory.register_provider(name, CustomStorageProvider)
    StorageFactory.register_provider(name, CustomStorageProvider, override=True)
    assert StorageFactory.provider_class(name) is CustomStorageProvider


@pytest.mark.parametrize("provider", [dict, CustomStorageProvider(), None])
def test_only_a_subclass_of_storage_provider_is_registered(provider: object) -> None:
    with pytest.raises(ConfigurationError, match="StorageProvider"):
        StorageFactory.register_provider("custom", provider)  # type: ignore[arg-type]  # as above


def test_an_entry_point_makes_a_provider_known(parcel: Path) -> None:
    assert "parcel" in StorageFactory.names()
    made = StorageFactory.create("parcel://?max_sessions=3")
    assert (type(made).__module__, type(made).__name__) == ("parcel_store", "ParcelProvider")


def test_an_entry_point_that_is_no_provider_is_refused(parcel: Path) -> None:
    (parcel.parent / "parcel-1.0.dist-info" / "entry_points.txt").write_text(
        "[agent_cores.session.storage]\nparcel = json:JSONDecoder\n"
    )
    with pytest.raises(ConfigurationError, match="JSONDecoder"):
        StorageFactory.create("parcel")


def test_an_abstract_provider_names_what_it_lacks() -> None:
    class Unfinished(StorageProvider):
        pass

    with pytest.raises(ConfigurationError, match="load_session"):
        StorageFactory.create(Unfinished)


async def test_an_sqlite_file_of_others_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear Ann, " * 1000)
    with pytest.raises(StoreFormatError):
        await SessionManager(f"sqlite:///{path}").initialize()
    assert path.read_text().startswith("Dear Ann")


# ── what somebody meant ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/tmp/x.db", "sqlite:////tmp/x.db"),  # noqa: S108 - no file is made
        ("/srv/sessions", "sqlite:////srv/sessions"),
        ("x.db", "sqlite:///x.db"),
        ("./x", "sqlite:///./x"),
        ("../data/x.sqlite3", "sqlite:///../data/x.sqlite3"),
        ("~/x.db", "sqlite:///~/x.db"),
        (r"C:\Data\x.db", "sqlite:///C:/Data/x.db"),
        ("C:/Data/x.db", "sqlite:///C:/Data/x.db"),
        (Path("/srv/x.db"), "sqlite:////srv/x.db"),
        (":memory:", "memory://"),
        ("file::memory:", "memory://"),
        ("postgresq://h/d", "postgresql"),
        ("reddis", "redis"),
        ("sqlite3:///x.db", "sqlite"),
        ("sqlite:/srv/x.db", "begins with sqlite:///"),
        ("oracle://h/d", "known are memory, mysql, postgres, redis, sqlite"),
        ("", "known are memory, mysql, postgres, redis, sqlite"),
    ],
)
@pytest.mark.parametrize("make", [StorageFactory.create, SessionManager])
def test_a_storage_that_there_is_not_is_answered_with_what_was_meant(
    make: Any,  # noqa: ANN401 - each takes what it refuses
    given: object,
    meant: str,
) -> None:
    with pytest.raises(UnknownStorageError) as refused:
        make(given)
    assert meant in str(refused.value)


def test_a_password_without_a_scheme_is_not_repeated() -> None:
    with pytest.raises(UnknownStorageError) as refused:
        StorageFactory.create("ann:hunter2@host/sessions.db")
    assert "hunter2" not in str(refused.value)
