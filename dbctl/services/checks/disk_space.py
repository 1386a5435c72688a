"""Checks of the disk below a database, and of unused space in its files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dbctl.engines.contract.checks import DatabaseFiles
from dbctl.errors.base import Remedy
from dbctl.files.mounts import Volume, read_volume
from dbctl.model import Finding, Severity
from dbctl.services.app import command_line
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.services.checks.files import MOVE_HINT, create_unreachable
from dbctl.units import format_size

#: With less free space, the next write may fail, and even a read.
MIN_FREE_BYTES = 16 << 20
#: Open databases, backups and crashes create files.
MIN_FREE_FILES = 100
#: Bytes. SQLite checkpoints every few megabytes, unless a reader never ends or checkpoints are disabled.
LARGE_WAL, VERY_LARGE_WAL = 16 << 20, 64 << 20
#: Report unused space above this size in bytes, and above this fraction (1/N) of the file.
MIN_UNUSED_BYTES, UNUSED_FRACTION = 16 << 20, 4


@check("disk-full", needs=Needs.FILES)
def check_disk(subject: Subject) -> Iterator[Finding]:
    """Yield problems of the disk below a database, and of its write-ahead log."""
    database_files = require(subject.files)
    volume, file_stat = _read_stats(subject, database_files)
    if subject.is_writable:
        yield from _check_free_space(
            subject, database_files, volume, file_stat.st_size + database_files.pending_bytes
        )
        yield from _check_wal(subject, database_files, file_stat)


def _check_free_space(
    subject: Subject, database_files: DatabaseFiles, volume: Volume, size: int
) -> Iterator[Finding]:
    mount = volume.mount or str(database_files.file.parent)
    largest = f"{command_line.command_for_owner(0, ['du', '-axh', mount])} | sort -h | tail -n 20"
    if volume.read_only:
        message = f"{mount} is mounted read-only, possibly after disk errors (see dmesg)"
        yield subject.finding(
            "error",
            "read-only-disk",
            message,
            command_line.command_for_owner(0, ["mount", "-o", "remount,rw", mount]),
        )
        return
    if volume.free_bytes < MIN_FREE_BYTES:
        message = f"{mount} is full: {format_size(volume.free_bytes)} free; even reads may fail"
        yield subject.finding("error", "disk-full", message, largest)
    elif volume.free_bytes < size:
        message = (
            f"{mount} has {format_size(volume.free_bytes)} free, and the database needs {format_size(size)}:"
            " a backup, a migration or a cleanup may need the same again"
        )
        yield subject.finding("warning", "disk-small", message, largest)
    if volume.free_files is not None and volume.free_files < MIN_FREE_FILES:
        message = f"{mount} has only {volume.free_files} free inodes"
        files = command_line.command_for_owner(0, ["find", mount, "-xdev"])
        count_command = f"{files} | cut -d / -f 1-4 | sort | uniq -c | sort -n | tail -n 20"
        yield subject.finding("error", "disk-full", message, count_command)


def _check_wal(
    subject: Subject, database_files: DatabaseFiles, file_stat: os.stat_result
) -> Iterator[Finding]:
    command = command_line.command_for_owner(file_stat.st_uid, database_files.checkpoint_command)
    size = file_stat.st_size
    wal_size = format_size(database_files.pending_bytes)
    if database_files.pending_bytes > VERY_LARGE_WAL or database_files.pending_bytes > max(size, LARGE_WAL):
        message = (
            f"{wal_size} of changes are in the -wal next to a file of {format_size(size)} without a checkpoint:"
            f" a reader never ends (see {Remedy('`stats locks`').write(subject.app.name)}), or the app disables checkpoints"
        )
        yield subject.finding("warning", "wal-large", message, command)
    elif database_files.has_leftover_changes:
        message = (
            f"{wal_size} of changes are in the -wal, but no process has the file open:"
            " the last one was killed (or runs in a container); a copy of the file alone lacks these changes"
        )
        yield subject.finding("warning", "wal-leftover", message, command)


@check("network-disk", is_gate=True)
def check_storage(subject: Subject) -> Iterator[Finding]:
    """Yield problems of the storage: network disks, journal mode, unused space."""
    database_files = subject.files
    if database_files is None:
        return
    info = subject.db.storage.measure_storage()
    volume, file_stat = _read_stats(subject, database_files)
    if volume.is_network:
        severity: Severity = "error" if subject.is_writable and info.shares_memory else "warning"
        risk = (
            f"in {info.journal_mode} mode all processes share memory, which fails across machines"
            if info.shares_memory
            else "two writers destroy the file if a lock of one machine does not hold on the other"
        )
        message = f"{database_files.file} is on {volume.mount} ({volume.kind}), which other machines may use too: {risk}"
        yield subject.finding(severity, "network-disk", message, MOVE_HINT)
    file = database_files.file
    if info.journal_mode == "wal" and read_volume(file).mount == os.path.realpath(file):
        message = (
            f"{file} is mounted without its folder: a process that opens the file elsewhere, such as outside of a"
            " container, has another -wal; each lacks changes of the other, also in backups, and can damage the file"
        )
        yield subject.finding("error", "file-mounted", message, "Mount the folder of the file in its place.")
    if subject.is_writable and info.journal_mode not in (None, "wal") and not volume.is_network:
        expected = subject.section.create.get("journal_mode") == "wal"
        message = f"it is in {info.journal_mode} mode: readers and writers block each other;" + (
            " its profile creates files with a write-ahead log"
            if expected
            else " a write-ahead log avoids that"
        )
        hint = Remedy("`maintain wal --db {database}`")
        yield subject.finding("warning" if expected else "info", "journal-not-wal", message, hint)
    free_bytes = (info.freelist_pages or 0) * info.page_size
    if subject.is_writable and free_bytes > MIN_UNUSED_BYTES and free_bytes * UNUSED_FRACTION > info.bytes:
        command = command_line.command_for_owner(file_stat.st_uid, database_files.vacuum_command)
        message = f"{format_size(free_bytes)} of {format_size(info.bytes)} are free pages; with the app stopped, the file can be shrunk"
        yield subject.finding("info", "free-pages", message, command)


def _read_stats(subject: Subject, database_files: DatabaseFiles) -> tuple[Volume, os.stat_result]:
    """Return statistics of the disk, or of the file as a read-only mount, and of the file.

    Raises:
        UnreachableError: permissions are missing, or the file was just deleted.
    """
    try:
        volume = read_volume(database_files.file)
        if not volume.read_only:
            volume = read_volume(database_files.file.parent)
        return volume, database_files.file.stat()
    except OSError as error:
        raise create_unreachable(subject, database_files.file, error) from error
