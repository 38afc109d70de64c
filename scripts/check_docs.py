"""Check that the links between the Markdown files of this repository resolve.

Each relative link must lead to a file or folder inside the repository, and each anchor to a heading
(by GitHub's rule) or an explicit id. Addresses on the network are not fetched.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("*.md", "docs/**/*.md", "benchmarks/**/*.md")

FENCE = re.compile(r"^\s*(?:>\s*)*(`{3,}|~{3,})")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)(?:\s+#+)?\s*$")
HTML_ID = re.compile(r"""<[^>]*\b(?:id|name)=["']([^"']+)["']""")
TARGETS = (
    # [text](target "title")
    re.compile(r"\]\(\s*(<[^>]*>|(?:[^()\s]|\([^()\s]*\))+)(?:\s+[\"'(][^)]*)?\s*\)"),
    # [name]: target
    re.compile(r"^ {0,3}\[[^\]^][^\]]*\]:\s*(<[^>]*>|\S+)"),
    re.compile(r"""<[^>]*\b(?:href|src|srcset)=["']([^"']+)["']"""),
)
SCHEME = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
LINE_ANCHOR = re.compile(r"^L\d+(?:-L\d+)?$")


def blank(match: re.Match[str]) -> str:
    """Remove text but keep its line breaks, so that line numbers stay right."""
    return "\n" * match[0].count("\n")


@cache
def prose(page: Path) -> tuple[str, ...]:
    """Return the lines of a page; those of code blocks and comments are empty."""
    lines = []
    fence = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip("`~ "):
                fence = ""
            lines.append("")
        elif mark:
            fence = mark[1]
            lines.append("")
        else:
            lines.append(line)
    return tuple(COMMENT.sub(blank, "\n".join(lines)).split("\n"))


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading, before it numbers equal ones."""
    text = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return every anchor of a page; the second heading of a name ends in ``-1``."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for line in prose(page):
        if heading := HEADING.match(line):
            name = slug(heading[1])
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
        found.update(HTML_ID.findall(line))
    return frozenset(found)


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number and target of each link that stays in the repository."""
    for number, line in enumerate(prose(page), start=1):
        text = CODE.sub("", line)
        for pattern in TARGETS:
            for target in pattern.findall(text):
                if not SCHEME.match(target.strip("<>")):
                    yield number, target.strip("<>")


def fault(page: Path, target: str) -> str | None:
    """Return the problem of a link, ``None`` if it resolves."""
    path, _, anchor = (unquote(part) for part in target.partition("#"))
    base = ROOT if path.startswith("/") else page.parent
    file = (base / path.lstrip("/")).resolve() if path else page
    if not file.is_relative_to(ROOT):
        return "leaves the repository"
    if not file.exists():
        return "no such file"
    if not anchor:
        return None
    if file.suffix != ".md":
        return None if LINE_ANCHOR.match(anchor) else "an anchor into a file without headings"
    return None if anchor in anchors(file) else "no such heading"


def pages() -> list[Path]:
    """Return the documents of the repository, in order."""
    return sorted(
        page
        for pattern in PAGES
        for page in ROOT.glob(pattern)
        if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
    )


def main() -> int:
    """Report every broken link; return the exit status."""
    checked = pages()
    found = [(page, number, target) for page in checked for number, target in links(page)]
    broken = 0
    for page, number, target in found:
        if reason := fault(page, target):
            print(f"{page.relative_to(ROOT)}:{number}: {target}: {reason}")
            broken += 1
    print(f"{len(found)} links in {len(checked)} pages, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
