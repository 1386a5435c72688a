"""Output streams, results on standard output and all other text on standard error; and the options of the output."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from dbctl import progress
from dbctl.errors.connection import OutputFailedError
from dbctl.model import Struct
from dbctl.render.text import escape, escape_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.render.terminal.roles import Role


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


#: Output for the pager, which starts at the end of the command: while the user reads, no database is open.
_pages: list[str] = []
#: The remarks that follow the pages.
_remarks: list[tuple[str, Role | None]] = []


def prepare(color: ColorChoice) -> None:
    """Set the colors of all output, and write characters that the locale cannot encode as escapes, instead of failing.

    Raises:
        OutputFailedError: standard output cannot be written.
        BrokenPipeError: the reader closed the pipe.
    """
    _color_choice[:] = [color]
    _pages.clear()
    _remarks.clear()
    if isinstance(sys.stderr, io.TextIOWrapper):
        with contextlib.suppress(OSError):
            sys.stderr.reconfigure(errors="backslashreplace")
    flush()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def write(text: str, *, utf8: bool = False) -> None:
    """Write a part of the result; ``utf8`` for formats that programs read, independent of the locale.

    Raises:
        OutputFailedError: standard output cannot be written, for example on a full disk.
        BrokenPipeError: the reader closed the pipe.
    """
    if _pages:
        _pages.append(text)
        return
    progress.stop()
    if utf8 and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailedError(reason=error.strerror) from error


def write_file(text: str) -> None:
    """Write text that is a file for another program; a terminal shows its control characters as escapes. Raises the errors of ``write``."""
    write(escape_lines(text) if sys.stdout.isatty() else text, utf8=True)


def write_bytes(data: bytes) -> None:
    """Write bytes of a result that is a file; raises the errors of ``write``."""
    progress.stop()
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailedError(reason=error.strerror) from error


def flush() -> None:
    """Flush standard output, so that exit code 0 means that the result was written.

    Raises:
        OutputFailedError: standard output cannot be written.
        BrokenPipeError: the reader closed the pipe.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailedError(reason=error.strerror) from error


def require_reader() -> None:
    """Refuse to begin a change that creates a password if standard output is closed, or a pipe that its reader has closed.

    Raises:
        BrokenPipeError: nothing reads standard output.
    """
    import select

    pipe = select.poll()
    with contextlib.suppress(OSError, ValueError):  # no descriptor
        pipe.register(sys.stdout, 0)
    is_closed = sys.__stdout__ is None  # since the start of the process; sys.stdout is /dev/null then
    if is_closed or any(events & select.POLLERR for _, events in pipe.poll(0)):
        remark("dbctl: nothing reads the output, in which the password would be; nothing was changed")
        raise BrokenPipeError


def discard() -> None:
    """Discard buffered output, so that Python's final flush does not fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def begin_paging() -> None:
    """Collect what is written from now on, for the pager."""
    _pages.append("")


def finish() -> None:
    """Show the collected output in the pager, and then the remarks about it; flush standard output.

    Raises:
        OutputFailedError: standard output cannot be written.
        BrokenPipeError: the reader closed the pipe.
    """
    text, is_paged = "".join(_pages), bool(_pages)
    _pages.clear()
    if is_paged:
        from dbctl.render.terminal.screen import show_in_pager

        show_in_pager(text)
    flush()
    for remarked in _remarks if is_paged else ():
        remark(*remarked)


def remark(text: str, role: Role | None = None) -> None:
    """Write one line to standard error; a failure to write it is ignored. On a terminal it is wrapped, and ``role`` colors its first word."""
    if _pages:
        _remarks.append((text, role))
        return
    line = escape(text)
    if supports_drawing(sys.stderr) or supports_color(sys.stderr):
        from dbctl.render.terminal.layout import wrap_remark
        from dbctl.render.terminal.screen import Screen

        screen = Screen.of(sys.stderr)
        line = "\n".join(map(screen.render, wrap_remark(line, role, screen)))
    with progress.pause(), contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
