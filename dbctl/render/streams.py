"""Output streams: results on standard output, all other text on standard error."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from dbctl import progress
from dbctl.errors.connection import OutputFailedError
from dbctl.render.escaping import escape
from dbctl.render.options import supports_color, supports_drawing

if TYPE_CHECKING:
    from dbctl.render.terminal.roles import Role

#: Output for the pager, which starts at the end of the command: while the user reads, no database is open.
_pages: list[str] = []
#: The remarks that follow the pages.
_remarks: list[str] = []


def prepare() -> None:
    """Write characters that the locale cannot encode as escapes, instead of failing.

    Raises:
        OutputFailedError: standard output cannot be written.
        BrokenPipeError: the reader closed the pipe.
    """
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
    if is_paged:
        _write_remark("".join(_remarks))


def remark(text: str, role: Role | None = None) -> None:
    """Write one line to standard error; a failure to write it is ignored. On a terminal it is wrapped, and ``role`` colors its first word."""
    line = escape(text)
    if supports_drawing(sys.stderr) or supports_color(sys.stderr):
        from dbctl.render.terminal.layout import wrap_remark
        from dbctl.render.terminal.screen import Screen

        screen = Screen.of(sys.stderr)
        line = "\n".join(map(screen.render, wrap_remark(line, role, screen)))
    if _pages:
        _remarks.append(line + "\n")
    else:
        _write_remark(line + "\n")


def _write_remark(text: str) -> None:
    with progress.pause(), contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
