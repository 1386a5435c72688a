"""Exceptions that no command expects, as errors."""

from __future__ import annotations

import os
import traceback
from errno import ENAMETOOLONG

from dbctl.errors.base import DbctlError
from dbctl.errors.usage import UsageError

LONGEST_NAME = 60  #: characters shown of a file name that is too long


def describe_internal_error(error: Exception) -> DbctlError:
    """Return the error that is reported for an unexpected exception."""
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG and error.filename:
        name = os.fsdecode(error.filename)
        return UsageError(detail=f"{name[:LONGEST_NAME]}…: {error.strerror}")
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return DbctlError(detail=error.strerror)
    return DbctlError(detail=f"{type(error).__name__}{_locate(error)}")


def _locate(error: BaseException) -> str:
    """Return the location in dbctl that raised ``error``, without values, which may be secret."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{os.sep}dbctl{os.sep}" in frame.filename
    ]
    return f" at {frames[-1].filename.rpartition(os.sep)[2]}:{frames[-1].lineno}" if frames else ""
