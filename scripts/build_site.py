"""Build the documentation as a site: ``build/site``, from ``mkdocs.yml``.

The pages keep their places in the repository, so that the same links work here, on a forge and in
the site. They are staged in ``build/site-source`` together with every file that they link, and with
the API reference, which is made from the docstrings.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from scripts import api_pages
from scripts.check_docs import ROOT, links, pages

STAGED = ROOT / "build" / "site-source"
SITE = ROOT / "build" / "site"
CONFIGURATION = ROOT / "mkdocs.yml"
STYLE = ROOT / "scripts" / "site.css"
LEFT_OUT = "docs/decisions/0"
"""Decisions are reached from their own list."""
PICTURE = re.compile(
    r"""<picture>\s*<source[^>]*\bsrcset="(?P<dark>[^"]+)"[^>]*>"""
    r"""\s*(?P<img><img[^>]*\bsrc="(?P<light>[^"]+)"[^>]*>)\s*</picture>""",
)
FROM_ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc(?:set)?=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|url\(["']?(?:https?:)?//[^)]+"""
    r"""|\bclass=["'](?:[^"']* )?(?:mermaid|glightbox)\b""",  # drawn by scripts from elsewhere
    re.IGNORECASE,
)


def main() -> int:
    """Stage the pages, build the site strictly, and look for assets from elsewhere."""
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    for page in pages():
        stage(page)
        for _, target in links(page):
            path = unquote(target.partition("#")[0])
            file = (page.parent / path).resolve() if path else page
            if file.is_file():
                stage(file)
    stage(STYLE)
    if faults := [*api_pages.write(STAGED), *faults_of_the_navigation()]:
        print("\n".join(faults))
        return 1
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    status = subprocess.run(build, cwd=ROOT, check=False).returncode
    if status:
        return status
    segment_chinese()
    finish_pages()
    return report_assets_from_elsewhere()


def stage(file: Path) -> None:
    """Copy a file to its place in the staged tree."""
    copy = STAGED / file.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)


def faults_of_the_navigation() -> list[str]:
    """Return what the navigation names that is not there, and the pages that it leaves out."""
    named = set(
        re.findall(r"^ *- (?:[^#\n]+: )?(\S+\.md)$", CONFIGURATION.read_text("utf-8"), re.MULTILINE)
    )
    there = {page.relative_to(ROOT).as_posix() for page in pages()} | api_pages.names()
    listed = {name for name in there if name not in named and not name.startswith(LEFT_OUT)}
    return [
        *(f"mkdocs.yml: {name} is not there" for name in sorted(named - there)),
        *(f"mkdocs.yml: {name} is not in the navigation" for name in sorted(listed)),
    ]


def segment_chinese() -> None:
    """Let the search find words in Chinese pages, which have no spaces between them.

    The search looks at the languages of its index, in which the builder enters the site's alone.
    """
    index = SITE / "search.json"
    found = json.loads(index.read_text(encoding="utf-8"))
    found["config"]["lang"] = ["en", "zh"]
    index.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def finish_pages() -> None:
    """Do for each page what Markdown, or the builder, has no words for."""
    for page in SITE.rglob("*.html"):
        text = PICTURE.sub(by_theme, page.read_text(encoding="utf-8"))
        if "docs/zh/" in page.as_posix() or page.name == "README.zh-CN.html":
            text = text.replace('<html lang="en"', '<html lang="zh-CN"', 1)  # chooses the font
        page.write_text(text, encoding="utf-8")


def by_theme(picture: re.Match[str]) -> str:
    """Return the images of a picture: the theme that the reader chose shows one of them.

    A forge shows the one that suits the system, and that is all ``<picture>`` can say.
    """
    light = picture["img"].replace(picture["light"], f"{picture['light']}#only-light")
    dark = picture["img"].replace(picture["light"], f"{picture['dark']}#only-dark")
    return light + dark


def report_assets_from_elsewhere() -> int:
    """Print what a browser would fetch from another host; return the exit status."""
    found = 0
    for file in sorted({*SITE.rglob("*.html"), *SITE.rglob("*.css")}):
        for asset in FROM_ELSEWHERE.findall(file.read_text(encoding="utf-8")):
            print(f"{file.relative_to(SITE)}: {asset}")
            found += 1
    built = len(list(SITE.rglob("*.html")))
    print(f"{built} pages of the site, {found} assets from elsewhere")
    return 1 if found or not built else 0


if __name__ == "__main__":
    sys.exit(main())
