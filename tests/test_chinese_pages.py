"""The Chinese pages mirror the English ones: the same code, tables and headings.

Each paragraph, item and row also has the same code spans, numbers and routes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.test_documents import CHINESE_README, README, ROOT, blocks

DOCS = ROOT / "docs"
CHINESE = DOCS / "zh"
PAGES = sorted(CHINESE.rglob("*.md"))
LINE = re.compile(r"^(#+ |```|\| (?=.)|- |\d\. )", re.MULTILINE)
BROKEN = re.compile(r"[\u3000-\u9fff\uff00-\uffef]\n *[\u4e00-\u9fffA-Za-z`（“\[]")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
UNREAD = re.compile(
    r"<!--.*?-->\n?|^\[(?:English|中文)\]\([^\n]*|<picture>.*?</picture>", re.MULTILINE | re.DOTALL
)
PART = re.compile(r"\n\s*\n|\n(?=#+ |\| |- |\d+\. )")
SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
TARGET = re.compile(r"\]\([^)]*\)")
LINK = re.compile(r"\]\(([\w./-]+\.md)")
FIGURE = re.compile(r"(?:GET|POST|PUT|PATCH|DELETE) [/\w{}]+|\d(?:[\d,.]*\d)?", re.ASCII)


def english(page: Path) -> Path:
    if page == CHINESE_README:
        return README
    here = DOCS / page.relative_to(CHINESE)
    return here if here.exists() else ROOT / page.relative_to(CHINESE)


def shape(page: Path) -> list[str]:
    """Return what begins each line outside of code."""
    marks: list[str] = LINE.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    return marks


def parts(page: Path) -> list[str]:
    """Return the paragraphs, list items, headings and table rows of a page."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return [part.strip() for part in PART.split(UNREAD.sub("", text)) if part.strip()]


def facts(part: str) -> tuple[Counter[str], Counter[str]]:
    """Count the code spans of a part, and the numbers and routes outside of them."""
    spans = Counter(" ".join(code.split()) for _, code in SPAN.findall(part))
    return spans, Counter(FIGURE.findall(TARGET.sub("]", SPAN.sub("", part))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_chinese_page_shows_the_code_of_the_english_one(page: Path) -> None:
    assert blocks(page) == blocks(english(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_chinese_page_has_the_shape_of_the_english_one(page: Path) -> None:
    assert shape(page) == shape(english(page))


@pytest.mark.parametrize("page", [CHINESE_README, *PAGES], ids=lambda page: page.stem)
def test_each_part_has_the_code_spans_and_figures_of_the_english_one(page: Path) -> None:
    for here, there in zip_longest(parts(page), parts(english(page)), fillvalue=""):
        assert facts(here) == facts(there), f"{here}\n{there}"


@pytest.mark.parametrize("page", [CHINESE_README, *PAGES], ids=lambda page: page.stem)
def test_a_link_leads_to_the_chinese_page_if_there_is_one(page: Path) -> None:
    text = UNREAD.sub("", page.read_text(encoding="utf-8"))
    targets = {(page.parent / target).resolve() for target in LINK.findall(text)}
    assert not targets & {english(one) for one in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_both_pages_link_each_other(page: Path) -> None:
    there = os.path.relpath(english(page), page.parent)
    back = os.path.relpath(page, english(page).parent)
    assert f"[English]({there})" in page.read_text("utf-8").splitlines()[2]
    assert f"[中文]({back})" in english(page).read_text("utf-8").splitlines()[2]


@pytest.mark.parametrize("page", [CHINESE_README, *PAGES], ids=lambda page: page.stem)
def test_a_chinese_paragraph_is_one_line(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    assert not BROKEN.findall(prose)  # a browser would show a space there


def test_the_chinese_readme_links_chinese_pages_and_says_which_are_english() -> None:
    text = CHINESE_README.read_text(encoding="utf-8")
    pages = re.findall(r"\]\(([\w/.-]+\.md)\)(（英文）)?", text)
    assert len(pages) >= 30
    for page, marked in pages:
        is_chinese = page.startswith("docs/zh/") or page == "README.md"
        assert is_chinese != bool(marked), page
