"""The room that a database has and takes, and the disk that it is on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Housing, Measures
from dbctl.errors import UnreachableError
from dbctl.files import Volume, volume_of
from dbctl.model import Finding, Severity
from dbctl.services.doctor.context import MOVE, Subject, amount, line_of

#: With less free space, in bytes, the next write may fail, and reading with it.
NO_ROOM = 16 << 20
#: Every database in use, every backup and every crash makes files.
FEW_FILES = 100
#: Changes beside a file are taken in every few megabytes, unless a reader never ends or nobody asks for it.
MUCH_WAITING, VERY_MUCH_WAITING = 16 << 20, 64 << 20
#: Room that is worth giving back: so many bytes, and so many times less than the file.
SPARE, SPARE_PART = 16 << 20, 4


def room(subject: Subject, housing: Housing) -> Iterator[Finding]:
    """Yield what is wrong with the disk below a database, and with what stands beside it."""
    volume, found = _looked_at(subject, housing)
    if subject.written:
        yield from _disk(subject, housing, volume, found.st_size + housing.waiting_bytes)
        yield from _waiting(subject, housing, found)


def _disk(subject: Subject, housing: Housing, volume: Volume, size: int) -> Iterator[Finding]:
    mount = volume.mount or str(housing.file.parent)
    largest = f"{line_of(0, ['du', '-axh', mount])} | sort -h | tail -n 20"
    if volume.read_only:
        message = (
            f"{mount} takes no writes: it is mounted read-only, as a disk with errors is, too (dmesg tells)"
        )
        yield subject.finding(
            "error", "read-only-disk", message, line_of(0, ["mount", "-o", "remount,rw", mount])
        )
        return
    if volume.free_bytes < NO_ROOM:
        message = f"{mount} is full: {amount(volume.free_bytes)} are free, and even reading may fail then"
        yield subject.finding("error", "disk-full", message, largest)
    elif volume.free_bytes < size:
        message = (
            f"{mount} has {amount(volume.free_bytes)} free, and the database takes {amount(size)}:"
            " a backup, a migration or a cleanup may want as much again"
        )
        yield subject.finding("warning", "disk-small", message, largest)
    if volume.free_files is not None and volume.free_files < FEW_FILES:
        message = f"{mount} takes only {volume.free_files} more files, however small"
        files = line_of(0, ["find", mount, "-xdev"])
        crowded = f"{files} | cut -d / -f 1-4 | sort | uniq -c | sort -n | tail -n 20"
        yield subject.finding("error", "disk-full", message, crowded)


def _waiting(subject: Subject, housing: Housing, found: os.stat_result) -> Iterator[Finding]:
    settle, size = line_of(found.st_uid, housing.settle), found.st_size
    waiting = amount(housing.waiting_bytes)
    if housing.waiting_bytes > VERY_MUCH_WAITING or housing.waiting_bytes > max(size, MUCH_WAITING):
        message = (
            f"{waiting} stand beside the file of {amount(size)} and are not taken in:"
            f" a reader never ends ({subject.dbctl('stats', 'locks')} names it), or the app never asks for it"
        )
        yield subject.finding("warning", "much-waiting", message, settle)
    elif housing.left:
        message = (
            f"{waiting} of changes stand beside the file, and no process is seen that has it open:"
            " the last one was killed (or runs in a container); a copy of the file alone lacks them"
        )
        yield subject.finding("warning", "left-behind", message, settle)


def forsaken(subject: Subject) -> Iterator[Finding]:
    """Yield what a dbctl that was killed has left beside a database: it takes room, and nobody will ask for it."""
    found = registry.forsaken(subject.app.url(subject.database))
    if found:
        names = ", ".join(map(str, found))
        taken = sum(_sizes(found))
        message = f"{names} ({amount(taken)}) {'was' if len(found) == 1 else 'were'} left by a dbctl that was killed"
        hint = line_of(found[0].lstat().st_uid, ["rm", "-r", *map(str, found)])
        yield subject.finding("warning", "left-behind", message, hint)


def _sizes(paths: Sequence[Path]) -> Iterator[int]:
    for path in paths:
        for one in (path, *path.rglob("*")):
            with suppress(OSError):  # it may be removed right now
                yield one.lstat().st_size


def storage(subject: Subject, db: Measures, housing: Housing | None) -> Iterator[Finding]:
    """Yield what is noteworthy of how a database is stored."""
    if housing is None:
        return
    found = db.storage()
    volume, file = _looked_at(subject, housing)
    if volume.shared and found.shares_memory:
        severity: Severity = "error" if subject.written else "warning"
        message = (
            f"{housing.file} is on {volume.mount} ({volume.kind}), which other machines may use, too:"
            f" in {found.journal_mode} mode its users share memory, which those on two machines cannot"
        )
        yield subject.finding(severity, "network-disk", message, MOVE)
    if subject.written and found.journal_mode not in (None, "wal") and not volume.shared:
        expected = subject.told.create.get("journal_mode") == "wal"
        message = (
            f"it is in {found.journal_mode} mode: readers wait for a writer, and a writer for readers;"
            + (" the app creates it with a write-ahead log" if expected else " a write-ahead log ends that")
        )
        hint = subject.dbctl("maintain", "wal", "--db", subject.database)
        yield subject.finding("warning" if expected else "info", "journal-not-wal", message, hint)
    spare = (found.freelist_pages or 0) * found.page_size
    if subject.written and spare > SPARE and spare * SPARE_PART > found.bytes:
        shrink = line_of(file.st_uid, housing.shrink)
        message = f"{amount(spare)} of {amount(found.bytes)} hold nothing; with the app stopped they can be given back"
        yield subject.finding("info", "spare-room", message, shrink)


def _looked_at(subject: Subject, housing: Housing) -> tuple[Volume, os.stat_result]:
    """Return what is known of the disk and of the file on it.

    Raises:
        UnreachableError: it may not be looked at, or has just gone.
    """
    try:
        return volume_of(housing.file.parent), housing.file.stat()
    except OSError as error:
        instead = f"Check owner and mode of {housing.file.parent}."
        raise UnreachableError(
            target=subject.target, reason=error.strerror or str(error), instead=instead
        ) from error
