"""The log of a run: lines of text or JSON in a file, or entries with fields in the journal of systemd."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import stat
from collections.abc import Mapping
from datetime import UTC, datetime

from dbctl.cli._support.options import JOURNALD, LogFormat
from dbctl.render.text import escape

#: The socket on which journald receives entries: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
SOCKET = "/run/systemd/journal/socket"
#: Bytes of a value in an entry of journald: a datagram has a limit.
MAX_VALUE = 16_384
_LEVELS = logging.getLevelNamesMapping()
#: Priorities of syslog.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class RunLog:
    """The log of one run; a log that cannot be written does not fail the command."""

    def __init__(self, target: str, log_format: LogFormat, level: str, **fields: object) -> None:
        """Open the log ``target``: a file, or ``journald``; all records have ``fields``."""
        self.failure = ""  #: why a record is missing in the log
        self._fields = fields
        self._logger = logging.getLogger("dbctl")
        self._logger.setLevel(level.upper())
        try:
            handler = _JournaldHandler() if target == JOURNALD else logging.StreamHandler(_open_file(target))
        except OSError as error:
            self.failure = f"{target}: {error.strerror or error}"
            self._logger.addHandler(logging.NullHandler())  # without a handler, the module prints warnings
            return
        handler.setFormatter(_JsonFormatter() if log_format == LogFormat.JSON else _TextFormatter())
        handler.handleError = self._record_failure  # type: ignore[method-assign, assignment] # the default prints a traceback
        self._target = target
        self._logger.addHandler(handler)

    def write(self, level: str, event: str, message: str, **fields: object) -> None:
        """Write a record; ``event`` is a word for programs."""
        present = {
            name: value for name, value in {**self._fields, **fields}.items() if value not in (None, "")
        }
        self._logger.log(_LEVELS[level.upper()], "%s", message, extra={"fields": {"event": event, **present}})

    def close(self) -> None:
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            try:
                handler.close()
                if isinstance(handler, logging.StreamHandler):
                    handler.stream.close()
            except OSError as error:
                self.failure = self.failure or f"{self._target}: {error.strerror or error}"

    def _record_failure(self, _record: logging.LogRecord) -> None:
        import sys

        error = sys.exc_info()[1]
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        self.failure = self.failure or f"{self._target}: {reason}"


def _open_file(path: str) -> io.TextIOWrapper:
    """Open a file for appending, so that a program that rotates logs can rename it between runs.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    # Without O_NONBLOCK, a named pipe without a reader would block the command.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file")
    # Unbuffered: a record that was not written must not fail again when the file is closed.
    return io.TextIOWrapper(
        os.fdopen(descriptor, "wb", buffering=0), "utf-8", "backslashreplace", write_through=True
    )


def _format_time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = vars(record)["fields"]
    return fields


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = _fields_of(record)
        subject = " ".join(str(fields[name]) for name in ("command", "app") if name in fields)
        return (
            f"{_format_time(record)} {record.levelname:<7} {escape(subject)}: {escape(record.getMessage())}"
        )


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {"time": _format_time(record), "level": record.levelname.lower()}
        return json.dumps(head | {"message": record.getMessage()} | dict(_fields_of(record)), default=str)


class _JournaldHandler(logging.Handler):
    """Sends each record as one datagram."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(SOCKET)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": record.getMessage(),
            "PRIORITY": _PRIORITIES[record.levelno],
            "SYSLOG_IDENTIFIER": "dbctl",
        }
        fields |= {f"DBCTL_{name.upper()}": value for name, value in _fields_of(record).items()}
        try:
            self._socket.send(b"".join(_encode_field(name, str(value)) for name, value in fields.items()))
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _encode_field(name: str, value: str) -> bytes:
    """Return a field; the length precedes a value that contains line breaks."""
    data = value.encode("utf-8", "backslashreplace")[:MAX_VALUE]
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
