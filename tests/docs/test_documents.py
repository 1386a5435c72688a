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
    """A row outside the sections that are read would be on no page and in no test."""
    text = (PAGES / documents.APPS[app]).read_text(encoding="utf-8")
    tables = re.findall(
        r"^\| the (?:document|script) \| dbctl \|\n\| --- \| --- \|\n((?:\|.+\n?)+)", text, re.MULTILINE
    )
    assert sum(table.count("\n") for table in tables) == len(documents.read_rows(app))


PROMISES = Path(documents.DOCS.parent / "README.md").read_text(encoding="utf-8")
PROMISES = PROMISES.partition("## Guarantees")[2].partition("\n## ")[0]


def test_every_promise_of_readme_names_existing_test() -> None:
    """A link to a test has the name of a function as its text."""
    promises = re.findall(r"^\* .+(?:\n  .+)*", PROMISES, re.MULTILINE)
    assert len(promises) > 4
    for promise in promises:
        links = re.findall(r"\[`(\w+)`\]\((tests/[\w/]+\.py)\)", promise)
        assert links, promise
        for name, file in links:
            assert f"def {name}(" in (documents.DOCS.parent / file).read_text(encoding="utf-8"), (name, file)
