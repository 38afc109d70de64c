"""What the service is made of: arguments of its own, and those that ``adk`` passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.adk.cli.utils.service_factory import create_session_service_from_options

from agent_cores.session.adapters.google_adk import ADKSessionService, register
from agent_cores.session.errors import ConfigurationError


@pytest.mark.parametrize("name", ["opertor", "ttl", "db_url"])
def test_an_unknown_argument_is_refused_by_name(name: str) -> None:
    options: dict[str, Any] = {name: "x"}
    with pytest.raises(TypeError, match=name):
        ADKSessionService("memory://", **options)


def test_a_store_and_a_uri_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="store or uri="):
        ADKSessionService("memory://", uri="agentsessions://memory://")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("agentsessions", "must begin with agentsessions://"),
        ("agentsessions://?storage=postgresql://h/db?a=b&ssl=on", "not ssl; percent-encode"),
        ("agentsessions://?secret", "name=value"),
        ("agentsessions://?ttl_hours=soon", "ttl_hours must be a number"),
        ("agentsessions://?ttl_hours=1&ttl_hours=2", "takes ttl_hours once"),
    ],
)
def test_a_uri_that_is_wrong_is_refused_by_name(uri: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        ADKSessionService(uri=uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["sessions.db", "a&b=c%d e+f.db"])
async def test_adk_makes_the_service_of_a_uri(tmp_path: Path, name: str) -> None:
    register()
    storage = quote(f"sqlite:///{quote(str(tmp_path / name))}", safe="")
    service: Any = create_session_service_from_options(
        base_dir=tmp_path,
        session_service_uri=f"agentsessions://?storage={storage}&ttl_hours=720",
        session_db_kwargs={"operator": "console", "ttl_hours": 1},
    )
    assert isinstance(service, ADKSessionService)
    assert service._operating.operator == "console"  # noqa: SLF001
    async with service._manager as manager:  # noqa: SLF001
        session = await service.create_session(app_name="app", user_id="ann")
        stored = await manager.get_session(f"adk:app:ann:{session.id}", "ann")
    assert stored.metadata.ttl_seconds == 720 * 3600
    assert (tmp_path / name).exists()


def test_a_misspelt_argument_of_adks_server_is_refused(tmp_path: Path) -> None:
    register()
    with pytest.raises(TypeError, match="opertor"):
        create_session_service_from_options(
            base_dir=tmp_path,
            session_service_uri="agentsessions://memory://",
            session_db_kwargs={"opertor": "console"},
        )
