"""Options of the output: format, columns, and the terminal."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

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
    TEXTILE = "textile"
    PSQL = "psql"
    BOX = "box"
    TEMPLATE = "template"
    GITHUB = "github"
    GITLAB = "gitlab"
    JUNIT = "junit"
    SARIF = "sarif"

    @property
    def structured(self) -> bool:
        """Whether errors are also written in this format."""
        return self in {Format.JSON, Format.JSONL} or self.is_report

    @property
    def is_report(self) -> bool:
        """Whether the format contains findings, for a CI system."""
        return self in {Format.GITHUB, Format.GITLAB, Format.JUNIT, Format.SARIF}


class ProgressMode(StrEnum):
    """How the progress of a command is shown on standard error."""

    AUTO = "auto"  #: a line on a terminal
    JSON = "json"  #: JSON lines for programs
    NONE = "none"


class ColorChoice(StrEnum):
    """When text has colors; ``auto``: on a terminal, unless a variable of the environment decides."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class OutputOptions(Struct, frozen=True, kw_only=True):
    """Output options of the user."""

    format: Format = Format.TABLE
    columns: Sequence[str] = ()  #: empty: all of them
    excel_safe: bool = False
    template: str = ""  #: the text of each row
    wide: bool = False  #: no value is cut
    pager: bool = True
    quiet: bool = False  #: no notes


_color_choice = [ColorChoice.AUTO]


def choose_color(choice: ColorChoice) -> None:
    """Set the choice of the user for all output of this process."""
    _color_choice[:] = [choice]


def supports_color(stream: TextIO) -> bool:
    """Whether text on ``stream`` has colors: the choice of the user, then the environment, then the terminal decide."""
    if _color_choice != [ColorChoice.AUTO]:
        return _color_choice == [ColorChoice.ALWAYS]
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return os.environ.get("CLICOLOR") != "0" and supports_drawing(stream)


def supports_drawing(stream: TextIO) -> bool:
    """Whether tables on ``stream`` are drawn with rich, which requires a terminal that is not dumb."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()
