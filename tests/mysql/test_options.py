"""What a URL may say, and what is refused by name."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage import StorageFactory
from agent_cores.session.storage.mysql.options import MysqlOptions, split_url
from agent_cores.session.storage.mysql.provider import MysqlProvider

if TYPE_CHECKING:
    from pathlib import Path

PLACE = {"host": "db", "port": 3306, "user": "app", "password": "pw", "database": "chat"}
URL = "mysql://app:pw@db/chat"


@pytest.mark.parametrize(
    "scheme", ["mysql", "mariadb", "MariaDB", "mysql+asyncmy", "mariadb+asyncmy"]
)
def test_every_scheme_means_this_provider(scheme: str) -> None:
    provider = StorageFactory.create(f"{scheme}://app:pw@db/chat")
    assert type(provider) is MysqlProvider


@pytest.mark.parametrize(
    ("url", "changed"),
    [
        (URL, {}),
        ("mysql://app:pw@db:3307/chat", {"port": 3307}),
        ("mysql://a%40b:p%2Fw%3F@db/chat%20room", {"user": "a@b", "password": "p/w?"}),
        ("mysql://app:pw@[::1]/chat", {"host": "::1"}),
        ("mysql://app:pw@/chat", {"host": "localhost"}),
    ],
)
def test_the_place_of_the_database_is_read_from_the_url(url: str, changed: dict[str, Any]) -> None:
    place, own = split_url(url)
    database = "chat room" if "room" in url else "chat"
    assert place == {**PLACE, "database": database, **changed}
    assert own == {}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("pool_size=3&timeout=2.5", {"pool_size": 3, "timeout": 2.5}),
        (
            "ssl-mode=VERIFY_IDENTITY&ssl-ca=a.pem",
            {"ssl_mode": "verify_identity", "ssl_ca": "a.pem"},
        ),
        ("unix_socket=/run/mysqld/mysqld.sock", {"unix_socket": "/run/mysqld/mysqld.sock"}),
        ("charset=utf8mb4&table_prefix=", {"table_prefix": ""}),
    ],
)
def test_our_options_are_read_from_the_url(query: str, expected: dict[str, Any]) -> None:
    assert split_url(f"{URL}?{query}")[1] == expected


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("pol_size=3", "did you mean pool_size"),
        ("sslmode=required", "did you mean ssl_mode"),
        ("ssl=true", "say ssl_mode=required"),
        ("useSSL=true", "say ssl_mode=required"),
        ("ssl_mode=preferred", "one of disabled, required, verify_ca and verify_identity"),
        ("pool_size=1", "at least 2"),
        ("timeout=0", "greater than 0"),
        ("charset=latin1", "no option 'charset'"),
    ],
)
def test_what_an_option_cannot_be_is_refused_by_name(query: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        StorageFactory.create(f"{URL}?{query}")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://app:secret@db",
        "mysql://app:secret@db/",
        "mysql://app:secret@db:port/chat",
        "mysql://app:sec?ret@db/chat",
        "mysql://app:x@db/chat?secret=1&pw=@",
    ],
)
def test_no_error_repeats_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StorageFactory.create(url)
    assert "secret" not in str(caught.value)
    assert "ret@" not in str(caught.value)


def test_a_description_names_the_place_without_the_password() -> None:
    assert MysqlProvider.from_url(URL).describe() == "MySQL at db:3306/chat"
    assert "pw" not in repr(MysqlProvider.from_url(URL))


@pytest.mark.parametrize(
    ("mode", "verifies", "checks_host"),
    [
        ("required", ssl.CERT_NONE, False),
        ("verify_ca", ssl.CERT_REQUIRED, False),
        ("verify_identity", ssl.CERT_REQUIRED, True),
    ],
)
def test_each_tls_mode_checks_what_it_says(
    mode: str, verifies: ssl.VerifyMode, checks_host: bool
) -> None:
    context = MysqlOptions.check(ssl_mode=mode).tls()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verifies, checks_host)


def test_without_a_mode_there_is_no_tls_and_a_file_of_authorities_is_not_ignored(
    tmp_path: Path,
) -> None:
    assert MysqlOptions.check().tls() is None
    with pytest.raises(ConfigurationError, match="ssl_ca"):
        MysqlOptions.check(ssl_ca=str(tmp_path / "missing.pem")).tls()
