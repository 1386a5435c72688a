"""The page that maps every function of the five documents to a command."""

from __future__ import annotations

import re

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
