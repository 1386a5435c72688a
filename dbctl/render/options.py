"""Options of an answer: its format, its columns, and where it is written."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

from dbctl.model import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


class Format(StrEnum):
    """Forms of an answer."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"

    @property
    def structured(self) -> bool:
        """Whether failures are answered in this form too."""
        return self in {Format.JSON, Format.JSONL}


class Look(Value, frozen=True, kw_only=True):
    """What a person asked for about the form of an answer."""

    format: Format = Format.TABLE
    columns: Sequence[str] = ()  #: empty: all of them
    excel_safe: bool = False
    color: bool = True
    quiet: bool = False  #: no remarks


def draws(*, stream_is_terminal: bool) -> bool:
    """Return whether tables are drawn with rich: on terminals that understand more than plain text."""
    return stream_is_terminal and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()
