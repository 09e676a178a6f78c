"""The documents: every link between them leads somewhere, and they name no module that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page: Path) -> None:
    """`docs/log` tells of earlier days; everywhere else a path of the repository is one of today."""
    if "log" in page.parts or page.name == "CHANGELOG.md":
        return
    named = re.findall(r"`((?:edge_asr_deploy|tests|tools|benchmarks|recipes|docs)/[\w./-]+\.\w+)`", page.read_text())
    # Words in capitals stand for names: `recipes/FAMILY-wN.yaml`.
    names = [path for path in named if not re.search(r"/[^/]*[A-Z]{3}", path)]
    assert [path for path in names if not (ROOT / path).exists()] == []
