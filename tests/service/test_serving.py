"""``agent-sessions`` as a process: what it prints and refuses."""

# ruff: noqa: S104 - addresses of servers that the tests start

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.settings import ServiceSettings
from tests.service.processes import SECONDS, get, key_in, logged, run, serving
from tests.test_documents import README, blocks


def test_a_first_run_prints_a_curl_that_works(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address, printed):
        export = re.search(r"^export AGENT_SESSIONS_KEY=(ask_\S+)$", printed, re.MULTILINE)
        curl = re.search(r"^curl .*?\}'$", printed, re.MULTILINE | re.DOTALL)
        assert export is not None
        assert curl is not None
        session = json.loads(curled(curl[0], key_in(printed)))
        assert session["title"] == "Hello"
        headers = {"Authorization": f"Bearer {export[1]}", "X-User-Id": "ann"}
        assert get(f"{address}/v1/sessions", headers)[1]["data"][0]["id"] == session["id"]
        rebound = get(f"{address}/v1/sessions", {**headers, "Host": "evil.example"})
        assert rebound[0] == 400
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    log = (tmp_path / "log").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    asked = [line for line in lines if line.get("route") == "POST /v1/sessions"]
    assert (asked[0]["status"], asked[0]["level"]) == (201, "info")
    assert asked[0]["request_id"]
    assert "Hello" not in "".join(log)
    assert session["id"] not in "".join(log)


def test_the_curl_lines_of_the_readme_work_as_they_stand(tmp_path: Path) -> None:
    (lines,) = [block for block in blocks(README, "sh") if "curl" in block]
    with serving(tmp_path) as (_, address, printed):
        # The lines name the port that is the default; here curl goes to the one that is served.
        connect_to = f"connect-to = 127.0.0.1:8080:{address.removeprefix('http://')}\n"
        (tmp_path / ".curlrc").write_text(connect_to)
        done = subprocess.run(
            ["bash", "-euc", lines],
            env={
                **os.environ,
                "CURL_HOME": str(tmp_path),
                "AGENT_SESSIONS_KEY": key_in(printed),
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    made, appended, read = [
        json.loads(line) for line in done.stdout.replace("}{", "}\n{").split("\n")
    ]
    assert (made["id"], made["title"]) == ("trip", "Trip to Rome")
    assert read["data"] == appended["data"]
    assert [message["content"] for message in read["data"]] == ["Hotels?"]


def test_without_configuration_it_takes_port_8080_of_loopback_and_embedded_sqlite(
    tmp_path: Path,
) -> None:
    bare = {"SESSION_STORAGE_URL": "", "XDG_DATA_HOME": str(tmp_path)}
    with socket.socket() as taken:
        with suppress(OSError):  # somebody has it already
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        refused = run(tmp_path, "serve", **bare)
    assert refused.returncode != 0
    assert "('127.0.0.1', 8080)" in refused.stderr
    assert "sessions are kept in SQLite" in refused.stderr
    assert list(tmp_path.rglob("*.db"))


def test_keys_are_made_listed_used_and_revoked(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "backend", "--expires-in-days", "1")
    key = made.stdout.strip()
    assert re.fullmatch(r"ask_[0-9a-f]{16}_\S{43}", key), made
    reader = run(tmp_path, "keys", "create", "reader", "--user", "ann", "--right", "read")
    assert reader.returncode == 0
    with serving(tmp_path, first_run=False) as (_, address, printed):
        assert "AGENT_SESSIONS_KEY" not in printed
        headers = {"Authorization": f"Bearer {key}", "X-User-Id": "ann"}
        assert get(f"{address}/v1/sessions", headers)[0] == 200
        only = {"Authorization": f"Bearer {reader.stdout.strip()}"}
        assert get(f"{address}/v1/me", only)[1]["rights"] == ["read"]
        listed = run(tmp_path, "keys", "list").stdout
        assert "backend" in listed
        assert key.split("_", 2)[2] not in listed
        assert run(tmp_path, "keys", "revoke", key).returncode == 0
        deadline = time.monotonic() + 5
        while get(f"{address}/v1/me", headers)[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "backend" not in run(tmp_path, "keys", "list").stdout
    again = run(tmp_path, "keys", "revoke", key)
    assert (again.returncode, "Traceback" in again.stderr) == (3, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--host", "0.0.0.0"), "keys create"),
        (("serve", "--workers", "2"), "keys create"),
        (("serve", "--workers", "2", "--storage", "memory://"), "workers"),
        (("serve", "--storage", "nowhere://x"), "nowhere"),
        (("keys", "create", "x", "--expires-in-days", "nan"), "expires_in_days"),
        (("keys", "create", "x", "--expires-in-days", "1e9"), "expires_in_days"),
        (("keys", "create", "x", "--expires-in-days=-1"), "expires_in_days"),
        (("keys", "create", "x", "--user", "group:x"), "user"),
        (("keys", "create", "x", "--group", "a\nb"), "group"),
        (("keys", "create", "x", "--storage", "memory://"), "KEYS_FILE"),
        (("keys", "create", "x", "--right", "all"), "rights"),
        (("keys", "create", "x", "--namespace", "_keys"), "namespace"),
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_in_a_line(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_has_run_out_is_no_key(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "x", "--expires-in-days", "1e-7")
    assert made.returncode == 0, made.stderr
    with serving(tmp_path) as (_, address, printed):
        headers = {"Authorization": f"Bearer {key_in(printed)}"}
        assert get(f"{address}/v1/me", headers)[0] == 200


def test_several_workers_share_one_store_and_say_how_to_call(tmp_path: Path) -> None:
    key = run(tmp_path, "keys", "create", "x").stdout.strip()
    with serving(tmp_path, "--workers", "2", first_run=False) as (process, address, printed):
        assert printed.startswith(f"Listening on {address}; {address}/docs ")
        assert (process.stdout.readline(), process.stdout.readline()) == (
            "With a key in AGENT_SESSIONS_KEY:\n",
            "\n",
        )
        assert json.loads(curled(process.stdout.readline(), key))["namespace"] == "default"
        headers = {"Authorization": f"Bearer {key}", "X-User-Id": "ann"}
        assert [get(f"{address}/v1/sessions", headers)[0] for _ in range(10)] == [200] * 10
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    lines = [line["message"] for line in logged(tmp_path)]
    assert lines.count("GET /v1/sessions 200") == 10
    assert sum(line.startswith("Finished server process") for line in lines) == 2
    # Two that close at once may both leave the journal to the other: the next one takes it.
    assert run(tmp_path, "keys", "list").returncode == 0
    assert {file.name for file in tmp_path.glob("sessions.db*")} == {"sessions.db"}


def curled(lines: str, key: str) -> str:
    done = subprocess.run(
        ["bash", "-c", lines],
        env={**os.environ, "AGENT_SESSIONS_KEY": key},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(("trusted", "second"), [("", 429), ("127.0.0.1", 401)])
def test_an_address_that_a_caller_names_counts_if_its_proxy_is_trusted(
    tmp_path: Path, trusted: str, second: int
) -> None:
    with serving(
        tmp_path,
        SESSION_SERVICE_FAILED_LOGINS_PER_MINUTE="1",
        SESSION_SERVICE_TRUSTED_PROXIES=trusted,
        FORWARDED_ALLOW_IPS="*",
    ) as (_, address, _):
        wrong = {"Authorization": "Bearer ask_0123456789abcdef_x"}
        first = get(f"{address}/v1/me", {**wrong, "X-Forwarded-For": "10.0.0.1"})
        other = get(f"{address}/v1/me", {**wrong, "X-Forwarded-For": "10.0.0.2"})
    assert (first[0], other[0]) == (401, second)


@pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.1,,10.0.0.2"])
def test_trusted_proxies_are_addresses_and_networks(
    proxies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_SERVICE_TRUSTED_PROXIES", "10.0.0.1, fd00::/8")
    assert ServiceSettings.load().trusted_proxies == ("10.0.0.1", "fd00::/8")
    monkeypatch.setenv("SESSION_SERVICE_TRUSTED_PROXIES", proxies)
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES"):
        ServiceSettings.load()


# ── names that are not settings ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("serve", "--port", "0"), "the environment"),
        (("serve", "--port", "0"), ".env of the working folder"),
        (("keys", "list"), "the environment"),
        (("migrate",), "the environment"),
        (("stats",), "the environment"),
    ],
)
def test_a_command_refuses_a_misspelt_setting_by_name(
    tmp_path: Path, arguments: tuple[str, ...], place: str
) -> None:
    more = {}
    if place == "the environment":
        more = {"SESSION_STORAGE_ULR": "sqlite:///other.db"}
    else:
        (tmp_path / ".env").write_text("SESSION_STORAGE_ULR=sqlite:///other.db\n")
    done = run(tmp_path, *arguments, **more)
    assert done.returncode == 2
    assert done.stderr == (
        f"agent-sessions: SESSION_STORAGE_ULR in {place} is not a setting;"
        " did you mean SESSION_STORAGE_URL?\n"
    )
    assert list(tmp_path.glob("*.db")) == []


def test_serving_warns_of_names_that_resemble_no_setting(tmp_path: Path) -> None:
    with serving(tmp_path, SESSION_ENGINE="x", SESSION_SERVICE_COLOUR="x", SESSION_MANAGER="x"):
        pass
    warned = [line["message"] for line in logged(tmp_path) if line["level"] == "warning"]
    assert [one.partition(" ")[0] for one in warned if "is not a setting" in one] == [
        "SESSION_ENGINE",
        "SESSION_SERVICE_COLOUR",
    ]


def test_the_variables_of_a_kubernetes_service_are_explained(tmp_path: Path) -> None:
    more = {"SESSION_PORT": "tcp://10.0.0.7:80", "SESSION_SERVICE_PORT_HTTP": "80"}
    done = run(tmp_path, "serve", **more)
    assert "enableServiceLinks" in done.stderr
