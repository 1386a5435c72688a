"""Options of the output: format, columns, and the terminal."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

from dbctl.model import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"
    HTML = "html"
    RST = "rst"
    ASCIIDOC = "asciidoc"
    MEDIAWIKI = "mediawiki"
    JIRA = "jira"
    LATEX = "latex"
    PSQL = "psql"

    @property
    def structured(self) -> bool:
        """Whether errors are also written in this format."""
        return self in {Format.JSON, Format.JSONL}


class OutputOptions(Struct, frozen=True, kw_only=True):
    """Output options of the user."""

    format: Format = Format.TABLE
    columns: Sequence[str] = ()  #: empty: all of them
    excel_safe: bool = False
    color: bool = True
    quiet: bool = False  #: no notes


def supports_drawing(*, stream_is_terminal: bool) -> bool:
    """Whether tables are drawn with rich, which requires a terminal that is not dumb."""
    return stream_is_terminal and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()
