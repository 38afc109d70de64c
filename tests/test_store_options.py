"""``StoreOptions``: which options a store accepts, as keywords and in its URL."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.options import (
    AtLeastOne,
    SchemaMode,
    Seconds,
    StoreOptions,
    TablePrefix,
)


class ParcelOptions(StoreOptions, frozen=True, kw_only=True):
    store = "Parcel"

    pool_size: AtLeastOne = 10
    timeout: Seconds = 10.0
    connect_timeout: Seconds | None = None
    schema: SchemaMode = "apply"
    table_prefix: TablePrefix | None = None
    label: str = ""


def test_keywords_are_checked_and_defaults_filled_in() -> None:
    options = ParcelOptions.check(timeout=3, connect_timeout=None)
    assert options == ParcelOptions(timeout=3.0)
    assert isinstance(options.timeout, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool_size": 0}, "Parcel: pool_size must be a whole number of at least 1"),
        ({"pool_size": "3"}, "Parcel: pool_size must be a whole number of at least 1"),
        ({"timeout": math.nan}, "Parcel: timeout must be a number of seconds greater than 0"),
        ({"timeout": math.inf}, "Parcel: timeout must be a number of seconds greater than 0"),
        ({"timeout": None}, "Parcel: timeout must be a number of seconds greater than 0"),
        ({"connect_timeout": 0}, "Parcel: connect_timeout must be a number of seconds greater"),
        ({"schema": "drop"}, "Parcel: schema must be apply or check"),
        ({"table_prefix": "a\n"}, "Parcel: table_prefix must be at most 40 letters, digits and"),
        ({"label": 7}, "Parcel: label must be str"),
        ({"pool_sise": 3}, "Parcel has no option 'pool_sise'; did you mean pool_size?"),
        ({"colour": "blue"}, "Parcel has no option 'colour'"),
    ],
)
def test_a_wrong_keyword_is_refused_with_its_bound(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ParcelOptions.check(**given)
    assert str(refused.value).startswith(message)


def test_a_query_string_is_read_into_the_options_types() -> None:
    query = "pool_size=3&timeout=2.5&schema=check&label=a%26b&label="
    assert ParcelOptions.from_query(query) == {
        "pool_size": 3,
        "timeout": 2.5,
        "schema": "check",
        "label": "",
    }
    assert ParcelOptions.from_query("") == {}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("pool_size=", "Parcel: pool_size must be a whole number of at least 1"),
        ("timeout=soon", "Parcel: timeout must be a number of seconds greater than 0"),
        ("timeout=nan", "Parcel: timeout must be a number of seconds greater than 0"),
        ("time_out=3", "Parcel has no option 'time_out'; did you mean timeout?"),
        ("s3cret@host/db?timeout=3", "unknown option; a ? in a password is written %3F"),
        ("s3cret=x@host", "unknown option; a ? in a password is written %3F"),
    ],
)
def test_a_wrong_option_of_a_url_is_refused_without_its_value(query: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ParcelOptions.from_query(query)
    assert message in str(refused.value)
    assert "soon" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_options_of_a_driver_are_left_to_it() -> None:
    query = "size=2&application_name=chat&timeout=1"
    own, others = ParcelOptions.split_query(query, aliases={"size": "pool_size"})
    assert own == {"pool_size": 2, "timeout": 1.0}
    assert others == [("application_name", "chat")]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://?max_session=3", "max_sessions"),
        ("memory://?max_sessions=many", "max_sessions must be a whole number"),
        ("sqlite:///a.db?pool_size=none", "pool_size must be a whole number"),
        ("sqlite:///a.db?synchronus=FULL", "did you mean synchronous"),
        ("sqlite:///a.db?table_prefix=a-b", "table_prefix must be"),
        ("postgresql://h/d?pool_sizee=3", "did you mean pool_size"),
        ("postgresql://h/d?aplication_name=3", "did you mean application_name"),
        ("postgresql://h/d?pool_size=1", "pool_size must be a whole number of at least 2"),
        ("redis://h?pool_size=0", "pool_size must be a whole number of at least 1"),
        ("redis://h?max_queued=all", "max_queued must be a whole number of at least 1"),
    ],
)
def test_every_store_refuses_the_wrong_options_of_its_url(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StorageFactory.create(url)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///a.db", "postgresql://h/d", "redis://h"])
def test_the_factory_suggests_the_option_that_was_meant(url: str) -> None:
    wrong: dict[str, Any] = {"max_session" if url == "memory://" else "max_queue": 3}
    with pytest.raises(ConfigurationError, match=r"has no option .*; did you mean max_"):
        StorageFactory.create(url, **wrong)


def test_options_of_the_url_take_precedence() -> None:
    made = StorageFactory.create("memory://?max_sessions=2", max_sessions=1)
    assert made._max_sessions == 2  # type: ignore[attr-defined]  # noqa: SLF001 - of MemoryProvider
