"""What the documents show is true: their code runs, their tables name what there is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import griffe
import pytest

from agent_cores.session.settings import SessionSettings
from benchmarks.kept.__main__ import drawn
from scripts import api_pages, generate_reference

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CHINESE_README = ROOT / "README.zh-CN.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str | None = None) -> list[str]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for name, code in found if language in {None, name}]


SHOWN = re.compile(
    r"^```python\n((?:(?!```)[^\n]*\n)*)```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(("code", "output"), SHOWN.findall(README.read_text("utf-8")))
def test_a_python_block_of_the_readme_prints_what_the_readme_shows(
    code: str, output: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == output


def test_every_python_block_of_the_readme_shows_its_output() -> None:
    shown = SHOWN.findall(README.read_text("utf-8"))
    assert [code for code, _ in shown] == blocks(README, "python")
    assert shown, "no block shows its output"


@pytest.mark.parametrize("page", [README, CHINESE_README])
def test_a_readme_is_short(page: Path) -> None:
    assert len(page.read_text("utf-8").splitlines()) <= 150


def test_the_pictures_are_rendered_from_their_sources() -> None:
    pictures = ROOT / "docs" / "pictures"
    sources = list(pictures.glob("*.d2"))
    assert sources
    for source in sources:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        for theme in ("light", "dark"):
            rendered = (pictures / f"{source.stem}-{theme}.svg").read_text("utf-8")
            assert rendered.startswith(f"<!-- source sha256: {digest} -->"), source
            assert not re.findall(r"""(?:href|src)=["']https?:|url\(["']?https?:""", rendered)


def test_the_charts_are_drawn_from_the_kept_results() -> None:
    charts = dict(drawn())
    assert charts
    for name, svg in charts.items():
        assert (ROOT / "docs" / "pictures" / name).read_text("utf-8") == svg, name


@pytest.mark.parametrize("page", [README, CHINESE_README])
def test_the_figures_of_a_readme_are_kept(page: Path) -> None:
    figures = re.findall(r"([\d,]+)[ （(]+([\d,]+) (?:to|至) ([\d,]+)", page.read_text("utf-8"))
    shown = {tuple(int(number.replace(",", "")) for number in figure) for figure in figures}
    kept = json.loads((ROOT / "benchmarks" / "kept" / "appends-sqlite.json").read_text("utf-8"))
    bars = [bar for panel in kept["panels"] for bar in panel["bars"]]
    assert shown == {(bar["value"], bar["low"], bar["high"]) for bar in bars}


def test_both_readmes_show_the_same_code() -> None:
    assert blocks(README) == blocks(CHINESE_README)


def test_both_readmes_have_the_same_shape() -> None:
    def shape(page: Path) -> list[str]:
        marks = re.compile(r"^(#+|\||-|```)", re.MULTILINE)
        return marks.findall(page.read_text(encoding="utf-8"))

    assert shape(README) == shape(CHINESE_README)


def test_the_settings_block_of_the_readme_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(blocks(README, "ini")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "SESSION_STORAGE_URL", "SESSION_DEFAULT_EXPIRY"):
        monkeypatch.delenv(name, raising=False)
    settings = SessionSettings.load()
    assert settings.default_expiry == 86_400
    assert settings.storage_url == "sqlite:////var/lib/agents/sessions.db"


def test_the_tables_of_the_reference_are_those_of_the_code() -> None:
    pages = generate_reference.pages()
    assert pages.keys() == generate_reference.TABLES.keys()
    for page in set(pages.values()):
        assert page.read_text("utf-8") == generate_reference.generated(page), "run make reference"


def test_every_setting_and_every_error_is_explained() -> None:
    for cells in re.findall(r"^\| `.*$", generate_reference.every_error(), re.MULTILINE):
        assert all(cell.strip() for cell in re.split(r"(?<!\\)\|", cells)[1:-1]), cells
    tables = generate_reference.library_settings() + generate_reference.settings_of_the_service()
    for cells in re.findall(r"^\| `.*$", tables, re.MULTILINE):
        assert cells.endswith(". |"), cells


def test_the_page_of_guarantees_names_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\w+(?:/\w+)?\.py)?(?:::)?(test_\w+)?`", page)
    kit = ROOT / "src" / "agent_cores" / "session" / "testing"
    cases = "\n".join(path.read_text(encoding="utf-8") for path in kit.rglob("*.py"))
    checked = 0
    for file, name in named:
        text = (ROOT / file).read_text(encoding="utf-8") if file else cases
        assert f"def {name}(" in text or not name, f"{file}::{name}"
        checked += bool(file or name)
    assert checked >= 35


def test_each_promise_names_its_stores_and_a_test() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    promises = [row for row in rows if len(row) == 3 and row[2].strip() not in {"shown by", "--"}]
    assert len(promises) >= 35
    for promise, stores, shown_by in promises:
        assert stores.strip(), promise
        assert "`tests/" in shown_by or "`test_" in shown_by, promise


def test_the_reference_shows_what_is_entered_and_not_awaited() -> None:
    code = "@asynccontextmanager\nasync def turn(self, id: str) -> AsyncIterator[Turn]: ..."
    turn = griffe.visit("manager", Path("manager.py"), code)["turn"]
    assert api_pages.line(turn, "turn") == "turn(id: str) -> AbstractAsyncContextManager[Turn]"
