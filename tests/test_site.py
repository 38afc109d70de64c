"""What the build of the site reports, and what it does to a page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import build_site

PAGE = "<html><head></head><body><table><tr><td><code>{}</code></td></tr></table></body></html>"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a site of one page, one script and one style, as the builder leaves it."""
    monkeypatch.setattr(build_site, "SITE", tmp_path)
    (tmp_path / "index.html").write_text(PAGE.format("short"))
    (tmp_path / "theme.js").write_text('load("https://unpkg.com/diagrams.js")')
    (tmp_path / "theme.css").write_text('a { background: url("data:image/svg+xml,…") }')
    return tmp_path


def test_a_finished_site_asks_no_other_host(site: Path) -> None:
    build_site.finish_pages()
    assert build_site.report_assets_from_elsewhere() == 0


def test_a_page_without_the_policy_is_reported(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_site.report_assets_from_elsewhere() == 1
    assert "index.html: no policy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("theme.js", 'fetch("https://api.example.com/count")'),
        ("theme.js", "import(`//cdn.example.com/x.js`)"),
        ("theme.css", "@import 'https://fonts.example.com/a.css';"),
        ("theme.css", "b { src: url(https://fonts.example.com/a.woff) }"),
        ("index.html", '<img src="https://img.example.com/a.png">'),
        ("index.html", '<script src="//cdn.example.com/a.js"></script>'),
    ],
)
def test_another_host_is_reported(
    site: Path, file: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (site / file).open("a") as written:
        written.write(text)
    build_site.finish_pages()
    assert build_site.report_assets_from_elsewhere() == 1
    assert re.search(rf"^{file}: .*\bexample\.com", capsys.readouterr().out, re.MULTILINE)


def test_a_long_name_in_a_table_may_be_broken_after_an_underscore(site: Path) -> None:
    (site / "index.html").write_text(PAGE.format("test_a_name_that_is_as_long_as_this"))
    build_site.finish_pages()
    assert "test_<wbr>a_<wbr>name_<wbr>that" in (site / "index.html").read_text()
    (site / "index.html").write_text(PAGE.format("SESSION_TIMEOUT"))
    build_site.finish_pages()
    assert "SESSION_TIMEOUT" in (site / "index.html").read_text()


@pytest.mark.parametrize("page", ["README.zh-CN", "docs/zh/guide"])
def test_the_labels_of_a_chinese_page_are_chinese(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    theme = re.search(r"^ +custom_dir: (\S+)", build_site.CONFIGURATION.read_text(), re.MULTILINE)
    assert theme is not None
    labels = build_site.CONFIGURATION.parent / theme[1]
    (tmp_path / "mkdocs.yml").write_text(
        "site_name: s\ndocs_dir: pages\nsite_dir: site\nuse_directory_urls: false\n"
        f"theme: {{name: material, language: en, custom_dir: {labels}}}\n"
    )
    for name in ("README", page):
        file = tmp_path / "pages" / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# One\n\n## Two\n\n## Three\n")
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    monkeypatch.setattr(build_site, "SITE", tmp_path / "site")
    build_site.finish_pages()
    english = (tmp_path / "site" / "index.html").read_text("utf-8")
    chinese = (tmp_path / "site" / f"{page}.html").read_text("utf-8")
    assert '<html lang="en"' in english
    assert "On this page" in english
    assert '<html lang="zh-CN"' in chinese
    assert "目录" in chinese
    assert "On this page" not in chinese
