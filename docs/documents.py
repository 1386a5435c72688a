"""Collects the tables of the pages about the five apps into one page: which command replaces which function.

``python docs/documents.py`` writes ``docs/reference/documents.md``; a test checks that the page is current. Each row has
one home, the table of the app's own page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "reference/documents.md"
#: The name of each app, and its page below ``how-to``.
APPS = {
    "Flashpoint Web": "run-flashpoint-web.md",
    "PromptVault": "run-promptvault.md",
    "WaQtor": "run-waqtor.md",
    "YAAI": "run-yaai.md",
    "Chat with LanceDB": "run-chat-lancedb.md",
}
SECTION = re.compile(r"^## Functions of the .+?$(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^\|(?P<function>.*) \|(?P<commands>.*)\|$", re.MULTILINE)
HEADER = {"the document", "the script", "---"}


@dataclass(frozen=True)
class Row:
    """A function of an app's document, and the cell with the commands that replace it."""

    function: str
    cell: str

    @property
    def commands(self) -> list[str]:
        """Return the arguments of each command in the cell."""
        return re.findall(r"`dbctl ([^`]+)`", self.cell)


def read_rows(app: str) -> list[Row]:
    """Return every row of the tables of an app's page."""
    text = (DOCS / "how-to" / APPS[app]).read_text(encoding="utf-8")
    rows = [
        Row(line["function"].strip(), line["commands"].strip())
        for section in SECTION.finditer(text)
        for line in LINE.finditer(section["text"])
    ]
    return [row for row in rows if row.function not in HEADER]


def render_page() -> str:
    """Return the page: one line for each function of each app."""
    lines = [
        "# Functions of the five documents",
        "",
        "Each app has a document that lists what an admin does with its databases. This page maps every function of these",
        "documents to the command that replaces it. The tests run each command on a sample of the app. The page of each app",
        "explains the words in capital letters, such as `ADDRESS`. `make golden` writes this page from the pages of the apps.",
        "",
        "What remains with the app or the operating system is not listed: connection objects, statement caches and events",
        "inside the app, and starting or stopping the app or the database server.",
    ]
    for app, page in APPS.items():
        lines += ["", f"## {app}", "", f"[How to run {app}](../how-to/{page})", ""]
        lines += ["| app | function | command |", "| --- | --- | --- |"]
        lines += [f"| {app} | {row.function} | {row.cell} |" for row in read_rows(app)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
