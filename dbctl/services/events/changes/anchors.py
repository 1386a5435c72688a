"""The newest end of the changes, stored outside of the event store: in a file next to it, and where another user owns it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.config.model import AuditConfig
from dbctl.errors.base import DbctlError
from dbctl.files import atomic
from dbctl.services.events.changes.records import Anchor, parse_anchor
from dbctl.services.events.store import give_to_owner

if TYPE_CHECKING:
    import sqlite3

    from dbctl.sqlite_library import Database

FILE_NAME = "audit.anchor"
#: More than the length of two anchors.
_MAX_BYTES = 512
#: Limits of the configured program.
_SECONDS, _MAX_OUTPUT = 10, 1 << 16


def read_anchor_file(folder: Path) -> Sequence[Anchor]:
    """Return the anchors next to the store: of the last record that waited for the disk, and of the last one; empty: there are none."""
    try:
        with atomic.open_regular(folder / FILE_NAME, follow=False) as file:
            anchors = [parse_anchor(line) for line in file.read(_MAX_BYTES).decode().splitlines()]
    except (OSError, UnicodeDecodeError):
        return []
    return [anchor for anchor in anchors if anchor]


def publish_anchor(folder: Path, settings: AuditConfig, text: str, newest: str) -> Iterator[str]:
    """Store an anchor outside of the store; yield why a part failed.

    A file that has a later end of the same log remains: processes publish in another order than they append.

    Args:
        folder: the directory for state.
        settings: where else it is stored.
        text: the anchor of the last record that waited for the disk. A power failure may lose later ones, which is no truncation.
        newest: the anchor of the last record, after which a new store continues.
    """
    known, anchor = [*read_anchor_file(folder)][-1:], parse_anchor(newest)
    if anchor and not (known and known[0].log == anchor.log and known[0].sequence >= anchor.sequence):
        try:
            # Syncing it would take longer than the change; after a power failure, the file may be the old one or empty.
            with atomic.write_atomically(folder / FILE_NAME, replace=True, follow=False, sync=False) as file:
                file.write(f"{text}\n{newest}\n")
                give_to_owner(file.fileno(), folder)
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


def list_run_anchors(db: Database | sqlite3.Connection) -> Iterator[Anchor]:
    """Yield the ends of the log after the recorded runs."""
    text = "cast(record as text)"
    anchor = f"case when json_valid({text}) then json_extract({text}, '$.audit') end"
    for (text,) in db.execute(f"select {anchor} from runs where {anchor} <> ''"):
        if parsed := parse_anchor(str(text)):
            yield parsed
