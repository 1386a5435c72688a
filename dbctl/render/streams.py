"""The two streams of dbctl: answers on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from dbctl.errors import OutputFailedError
from dbctl.render.escaping import escape


def prepare() -> None:
    """Let no narrow locale end the work: a character that a stream cannot take is written as its escape.

    Raises:
        OutputFailedError: standard output takes no more.
        BrokenPipeError: the reader went away.
    """
    with contextlib.suppress(OSError):
        _lenient(sys.stderr)
    flush()
    _lenient(sys.stdout)


def _lenient(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def write(text: str, *, utf8: bool = False) -> None:
    """Write a part of the answer; ``utf8`` for forms that programs read, whatever the locale is.

    Raises:
        OutputFailedError: standard output takes no more, as on a full disk.
        BrokenPipeError: the reader went away.
    """
    if utf8 and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailedError(reason=error.strerror) from error


def write_bytes(data: bytes) -> None:
    """Write a part of an answer that is a file; raises as ``write`` does."""
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailedError(reason=error.strerror) from error


def flush() -> None:
    """Make sure that the answer has left; a status of 0 is a lie otherwise.

    Raises:
        OutputFailedError: standard output takes no more.
        BrokenPipeError: the reader went away.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailedError(reason=error.strerror) from error


def discard() -> None:
    """Send what is left of the answer nowhere, so that Python's last flush does not complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def remark(text: str) -> None:
    """Write one line to standard error; a stream that takes nothing must not change what dbctl does."""
    with contextlib.suppress(OSError):
        sys.stderr.write(escape(text) + "\n")
        sys.stderr.flush()
