"""What the guides link is there."""

import re
from pathlib import Path

import pytest

GUIDES = ("admin-guide.md", "radiologist-guide.md", "troubleshooting.md", "conformance-statement.md")


def headings(page: Path) -> set[str]:
    """The anchors of a page, as they are made of its headings."""
    lines = [line.lstrip("# ").lower() for line in page.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", line).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("name", GUIDES)
def test_every_link_leads_somewhere(name: str, deploy: Path):
    """Files of the repository, and headings of them."""
    page = deploy.parent / "docs" / name
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link
