"""A consistent copy of a SQLite file of another machine, which that machine creates without dbctl, in a private folder of this one."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from dbctl import progress
from dbctl.engines.contract.route import ReadablePath
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, CorruptError, DiskFullError, NotADatabaseError
from dbctl.extensions.reach.errors import (
    RemoteFileMissingError,
    SnapshotDeniedError,
    SnapshotFailedError,
    SnapshotProgramMissingError,
)
from dbctl.extensions.reach.machines import Machine
from dbctl.files import atomic, mounts
from dbctl.files.ssh import choose_reason
from dbctl.files.subprocesses import ProgramWatch, run_program
from dbctl.model import now

_HEADER, _MAX_HEADER = re.compile(rb"dbctl-snapshot (gzip|plain) (\d+) ([0-7]+)\n"), 1 << 16
#: Exit statuses of ``_SCRIPT``.
_NO_PROGRAM, _NO_FILE = 93, 94
#: Prints a line with the form, the size in bytes and the mode of a snapshot of ``$1``, and then the snapshot. ``$2`` is the time in ms to wait
#: for a lock, and ``$3`` is ``_PYTHON``. Its folder is deleted at its end, and at that of its input, which is the end of dbctl.
#:
#: A file in WAL mode without a -wal is copied as it is, because opening it would create side files, which would belong to the login; the
#: comparison finds a writer that began since then.
_SCRIPT = """LC_ALL=C; export LC_ALL; umask 077
exec 3<&0 < /dev/null
child=; folder=; input=/dev/null
finish() {
  status=$?; trap '' HUP INT TERM PIPE
  [ -z "$child" ] || { kill "$child"; wait "$child"; } 2> /dev/null
  kill "$watcher" 2> /dev/null
  [ -z "$folder" ] || rm -rf -- "$folder"
  exit "$status"
}
run() { "$@" < "$input" & child=$!; wait "$child"; status=$?; child=; return "$status"; }
trap 'exit 143' HUP INT TERM PIPE
{ read -r _ <&3; kill $$; } > /dev/null 2>&1 &
watcher=$!
trap finish EXIT
if [ ! -e "$1" ]; then ls -d -- "$1" >&2; exit 94; fi
if [ ! -f "$1" ]; then echo "$1: not a file" >&2; exit 94; fi
if [ ! -r "$1" ]; then echo "$1: Permission denied" >&2; exit 94; fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/dbctl-snapshot-XXXXXXXX") || exit 95
copy=$folder/copy
has_one_file() { [ ! -e "$1-wal" ] && [ ! -e "$1-journal" ]; }
copy_bytes() {
  [ "$(od -An -tu1 -j18 -N1 -- "$1" | tr -d ' ')" = 2 ] && has_one_file "$1" || return 1
  run cp -- "$1" "$copy" || exit 96
  has_one_file "$1" && sum=$(cksum < "$1") && [ "$sum" = "$(cksum < "$copy")" ]
}
if copy_bytes "$1"; then :
elif rm -f -- "$copy"; command -v sqlite3 > /dev/null; then
  input=$folder/input
  printf '.timeout %s\\nbegin;\\nselect count(*) from sqlite_master;\\n.backup "%s"\\n' "$2" "$copy" > "$input" || exit 96
  run sqlite3 -batch -bail -readonly -init /dev/null "$1" > /dev/null && [ -s "$copy" ] || exit 96
elif command -v python3 > /dev/null; then
  run python3 -c "$3" "$1" "$copy" "$2" || exit 96
else exit 93
fi
mode=$(stat -c %a -- "$1" 2> /dev/null || stat -f %Lp -- "$1" 2> /dev/null) || mode=600
size=$(($(wc -c < "$copy")))
input=$copy
if command -v gzip > /dev/null; then echo "dbctl-snapshot gzip $size $mode"; run gzip -1 -c
else echo "dbctl-snapshot plain $size $mode"; run cat
fi
"""
#: The same as the commands for the program sqlite3: the transaction pins the snapshot, so that the copy does not begin again at each commit.
_PYTHON = """
import pathlib, sqlite3, sys
path, copy, timeout = sys.argv[1:]
address = pathlib.Path(path).absolute().as_uri() + "?mode=ro"
try:
    source = sqlite3.connect(address, uri=True, timeout=int(timeout) / 1000, isolation_level=None)
    source.execute("begin")
    source.execute("select count(*) from sqlite_master").fetchall()
    source.backup(sqlite3.connect(copy))
except sqlite3.Error as error:
    sys.exit(f"Error: {error}")
"""
PREFIX = "dbctl-snapshot-"


def copy_file(
    machine: Machine, path: str, folder: Path, facts: dict[str, str], *, timeout: float
) -> ReadablePath:
    """Copy a file into ``folder`` of this machine.

    Args:
        machine: the one with the file.
        path: of the file there; a relative one begins in the home of the login.
        folder: an empty private one.
        facts: ``target`` and ``part`` of errors.
        timeout: seconds to wait for a lock.

    Raises:
        DbctlError: the file cannot be read, or a disk is full.
    """
    remote = path.removeprefix("~/")
    remote = remote if remote.startswith("/") else f"./{remote}"
    words = ["sh", "-c", _SCRIPT, "dbctl", remote, str(round(timeout * 1000)), _PYTHON]
    copy = folder / Path(path).name
    taken_at = now()
    watch = ProgramWatch(target=facts["target"], hint="Run it again.")
    progress.start_stage(f"copying from {machine.place}")
    try:
        with run_program(
            machine.wrap(words), dict(os.environ), watch=watch, reads=True, writes=True
        ) as program:
            # A remote copy of a large file takes long, without output; ssh itself ends a dead connection.
            is_complete = _receive(program.blocks(watched=False), copy)
            status = program.finish()
            lines = program.error_output().splitlines()
    finally:
        progress.start_stage("")
    if status or not is_complete:
        raise _create_error(machine, path, status, lines, facts, timeout)
    return ReadablePath(copy, machine.place, taken_at)


def _receive(blocks: Iterator[bytes], copy: Path) -> bool:
    """Write a snapshot to a new file; return whether it is complete.

    Raises:
        InsufficientSpaceError, DiskFullError: it does not fit.
    """
    received = b""
    # A start script of the login may have written before it.
    while (header := _HEADER.search(received)) is None:
        block = next(blocks, b"")
        if not block or len(received) > _MAX_HEADER:
            return False
        received += block
    form, size, mode = header.group(1, 2, 3)
    received = received[header.end() :]
    mounts.require_space(copy.parent, int(size))
    byte_count = 0
    decompressor = zlib.decompressobj(wbits=31) if form == b"gzip" else None
    with atomic.translate_errors(copy, copy.parent), atomic.open_new(copy, synced=False) as file:
        while received or (received := next(blocks, b"")):
            try:
                content = decompressor.decompress(received) if decompressor else received
            except zlib.error:
                return False
            file.write(content)
            received, byte_count = b"", byte_count + len(content)
        # for the metadata of backups; the folder is private
        copy.chmod(int(mode, 8))
    return byte_count == int(size)


def _create_error(
    machine: Machine, path: str, status: int, lines: Sequence[str], facts: dict[str, str], timeout: float
) -> DbctlError:
    target = facts["target"]
    if loss := machine.find_loss(target):
        return loss
    lines = [*lines, *machine.read_report()] or [f"the program ended with status {status}"]
    if failure := machine.explain(target, lines):
        return failure
    reason = choose_reason(lines).removeprefix("Error: ")
    text, place = reason.lower(), f"{path} of {machine.place}"
    error: DbctlError = SnapshotFailedError(**facts, reason=f"{place}: {reason}", place=machine.place)
    if status == _NO_PROGRAM:
        reason = f"{machine.place} has neither sqlite3 nor python3"
        error = SnapshotProgramMissingError(**facts, reason=reason, place=machine.place)
    elif "permission denied" in text:
        error = SnapshotDeniedError(**facts, reason=reason, place=machine.place)
    elif status == _NO_FILE:
        error = RemoteFileMissingError(**facts, reason=reason, place=machine.place)
    elif "no space left" in text or "disk is full" in text:
        error = DiskFullError(target=f"the folder for temporary files of {machine.place}")
    elif "locked" in text:
        error = BusyError(target=target, holder=f" on {machine.place}", waited=f"{timeout:g}")
    elif "not a database" in text:
        error = NotADatabaseError(target=target, path=place, engine="SQLite")
    elif "malformed" in text:
        error = CorruptError(target=target, reason=f"{place}: {reason}")
    return error
