"""What the README and the notes point to is there: files, pictures, sections, sources and modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)\s]+)\)")
SOURCE = re.compile(r"`((?:PromptSeg|PromptSegLib|Testing|Resources)/[\w./-]+)")
MODULE = re.compile(r"python -m\s+(Testing[\w.]+)")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert links or page.parent == ROOT / "docs"
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sources_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    for name in SOURCE.findall(text):
        assert (ROOT / name).exists(), name
    for module in MODULE.findall(text):
        path = ROOT / module.replace(".", "/")
        assert (path / "__main__.py").exists() or path.with_suffix(".py").exists(), module
