"""Output streams: results on standard output, all other text on standard error."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from dbctl.errors import OutputFailedError
from dbctl.render.escaping import escape


def prepare() -> None:
    """Write characters that the locale cannot encode as escapes, instead of failing.

    Raises:
        OutputFailedError: standard output cannot be written.
        BrokenPipeError: the reader closed the pipe.
    """
    with contextlib.suppress(OSError):
        _lenient(sys.stderr)
    flush()
    _lenient(sys.stdout)


def _lenient(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def write(text: str, *, utf8: bool = False) -> None:
    """Write a part of the result; ``utf8`` for formats that programs read, independent of the locale.

    Raises:
        OutputFailedError: standard output cannot be written, for example on a full disk.
        BrokenPipeError: the reader closed the pipe.
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
    """Write bytes of a result that is a file; raises the errors of ``write``."""
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


def remark(text: str) -> None:
    """Write one line to standard error; a failure to write it is ignored."""
    with contextlib.suppress(OSError):
        sys.stderr.write(escape(text) + "\n")
        sys.stderr.flush()
