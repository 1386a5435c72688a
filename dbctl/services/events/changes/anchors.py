"""The newest end of the changes, stored outside of the event store: in a file next to it, and where another user owns it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dbctl.config import AuditConfig
from dbctl.errors import DbctlError
from dbctl.files import atomic
from dbctl.services.events.changes.records import Anchor, parse_anchor

FILE_NAME = "audit.anchor"
#: More than the length of any anchor.
_MAX_BYTES = 256
#: Limits of the configured program.
_SECONDS, _MAX_OUTPUT = 10, 1 << 16


def read_anchor_file(folder: Path) -> Anchor | None:
    """Return the anchor next to the store; None: it is missing, cannot be read, or contains none."""
    try:
        with atomic.open_regular(folder / FILE_NAME, follow=False) as file:
            return parse_anchor(file.read(_MAX_BYTES).decode())
    except (OSError, UnicodeDecodeError):
        return None


def publish_anchor(folder: Path, settings: AuditConfig, text: str) -> Iterator[str]:
    """Store an anchor outside of the store; yield why a part failed.

    A file that has a later end of the same log remains: processes publish in another order than they append.
    """
    known, anchor = read_anchor_file(folder), parse_anchor(text)
    if anchor and (known is None or known.log != anchor.log or known.sequence < anchor.sequence):
        try:
            # Syncing it would take longer than the change; after a power failure, an older anchor is as good as none.
            with atomic.write_atomically(folder / FILE_NAME, replace=True, follow=False, sync=False) as file:
                file.write(f"{text}\n")
        except DbctlError as error:
            yield str(error)
    if settings.syslog:
        import syslog

        syslog.openlog("dbctl", facility=syslog.LOG_AUTHPRIV)
        syslog.syslog(syslog.LOG_NOTICE, f"audit {text}")
        syslog.closelog()
    if settings.anchor_command:
        from dbctl.files import limited_program

        try:
            limited_program.run(
                settings.anchor_command, seconds=_SECONDS, max_bytes=_MAX_OUTPUT, stdin=f"{text}\n".encode()
            )
        except limited_program.ProgramFailedError as error:
            yield f"{settings.anchor_command[0]}: {error}"
