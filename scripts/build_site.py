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
CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
LONG_CODE = re.compile(r"(?<=<code>)[^<]{25,}(?=</code>)")
POLICY = (
    """<meta http-equiv="Content-Security-Policy" content="default-src 'self' 'unsafe-inline' """
    """data: blob:">"""
)
"""With it no browser asks another host, whatever the theme's scripts try."""
OTHER_HOST = re.compile(r"""["'(`](?:https?:)?//((?:[\w-]+\.)+[a-z]{2,})""")
KNOWN_HOSTS = {
    "api.github.com",  # for a link to a repository, which the site has not
    "cdn.jsdelivr.net",  # for code that runs in the page
    "unpkg.com",  # for that, diagrams, zoomed pictures and browsers before 2020
    "www.w3.org",  # the names of XML, no address
}
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
        text = CELL.sub(with_breaks, text.replace("<head>", f"<head>{POLICY}", 1))
        text = text.replace('<html lang="zh"', '<html lang="zh-CN"', 1)  # chooses the font
        page.write_text(text, encoding="utf-8")


def with_breaks(cell: re.Match[str]) -> str:
    """Return a cell of a table whose long names may be broken after ``_``, ``/`` and ``::``."""
    return LONG_CODE.sub(lambda name: re.sub(r"(_|/|::)", r"\1<wbr>", name[0]), cell[0])


def by_theme(picture: re.Match[str]) -> str:
    """Return the images of a picture: the theme that the reader chose shows one of them.

    A forge shows the one that suits the system, and that is all ``<picture>`` can say.
    """
    light = picture["img"].replace(picture["light"], f"{picture['light']}#only-light")
    dark = picture["img"].replace(picture["light"], f"{picture['dark']}#only-dark")
    return light + dark


def report_assets_from_elsewhere() -> int:
    """Print what a browser could fetch from another host; return the exit status."""
    pages = sorted(SITE.rglob("*.html"))
    styles = sorted(SITE.rglob("*.css"))
    faults = [
        *(
            f"{file.relative_to(SITE)}: {asset}"
            for file in [*pages, *styles]
            for asset in assets(file)
        ),
        *(f"{page.relative_to(SITE)}: no policy" for page in pages if POLICY not in read(page)),
        *(
            f"{file.relative_to(SITE)}: {host} is new; can a page of ours make it load that?"
            for file in [*SITE.rglob("*.js"), *styles]
            for host in sorted({*OTHER_HOST.findall(read(file))} - KNOWN_HOSTS)
        ),
    ]
    print(
        "\n".join([*faults, f"{len(pages)} pages of the site, {len(faults)} assets from elsewhere"])
    )
    return 1 if faults or not pages else 0


def assets(file: Path) -> list[str]:
    """Return what a page or a style loads from another host."""
    found: list[str] = FROM_ELSEWHERE.findall(read(file))
    return found


def read(file: Path) -> str:
    """Return the text of a built file."""
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
