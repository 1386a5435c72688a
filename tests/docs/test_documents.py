"""The page that maps every function of the five documents to a command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import documents

PAGES = documents.DOCS / "how-to"


def test_page_is_current() -> None:
    assert documents.PAGE.read_text(encoding="utf-8") == documents.render_page(), "run make golden"


@pytest.mark.parametrize("app", documents.APPS)
def test_no_cell_is_empty(app: str) -> None:
    rows = documents.read_rows(app)
    assert rows
    assert [row for row in rows if not row.function or not row.commands] == []


@pytest.mark.parametrize("app", documents.APPS)
def test_every_document_table_is_read(app: str) -> None:
    """A row outside of the sections that the test reads would be missing from the page and from the tests."""
    text = (PAGES / documents.APPS[app]).read_text(encoding="utf-8")
    tables = re.findall(
        r"^\| the (?:document|script) \| dbctl \|\n\| --- \| --- \|\n((?:\|.+\n?)+)", text, re.MULTILINE
    )
    assert sum(table.count("\n") for table in tables) == len(documents.read_rows(app))


GUARANTEES = Path(documents.DOCS.parent / "README.md").read_text(encoding="utf-8")
GUARANTEES = GUARANTEES.partition("## Guarantees")[2].partition("\n## ")[0]


def test_every_guarantee_in_readme_links_to_existing_test() -> None:
    """The text of a link to a test is the name of its function."""
    guarantees = re.findall(r"^\* .+(?:\n  .+)*", GUARANTEES, re.MULTILINE)
    assert len(guarantees) > 4
    for guarantee in guarantees:
        links = re.findall(r"\[`(\w+)`\]\((tests/[\w/]+\.py)\)", guarantee)
        assert links, guarantee
        for name, file in links:
            assert f"def {name}(" in (documents.DOCS.parent / file).read_text(encoding="utf-8"), (name, file)
