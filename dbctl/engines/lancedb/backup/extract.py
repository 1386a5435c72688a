"""Extract an archive: to verify it, to restore it, or to import the archive of another program.

A script archives the folder file by file while the app may write, so the newest version in its archive may lack files. An
import then uses the newest complete version and adds a remark.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Dump, DumpVerification, ImportedDump
from dbctl.engines.lancedb.backup import archive, snapshot
from dbctl.engines.lancedb.backup.archive import TOP_FOLDER
from dbctl.engines.lancedb.backup.verify import verify_folder
from dbctl.engines.lancedb.storage import ManifestError
from dbctl.engines.sql import find_differences
from dbctl.errors import ArchiveUnsafeError, CorruptError, DbctlError, FileInvalidError, RestoreFailedError
from dbctl.files import create_file, tar

UNCHANGED = "The database was not changed."


def extract(path: Path, destination: Path, name: str) -> Path:
    """Extract an archive into the new folder ``destination``; return the folder of the tables, which may be nested.

    Raises:
        CorruptError: it contains no tables.
        As ``tar.extract``.
    """
    tar.extract(path, destination, name=name, max_bytes=path.stat().st_size)
    if (destination / TOP_FOLDER).is_dir():
        return destination / TOP_FOLDER
    for folder, names, _ in os.walk(destination):
        signals.raise_if_interrupted()
        if any(snapshot.is_table(Path(folder, folder_name)) for folder_name in names):
            return Path(folder)
    raise CorruptError(target=name, reason="it contains no LanceDB table")


def import_dump(plain: Path, destination: Path, target: str) -> ImportedDump:
    """Write an archive of the newest complete version of each table.

    Raises:
        CorruptError: it is not an archive, or a table has no complete version.
        DiskFullError: the disk is full.
    """
    folder = plain.with_name("extracted")
    try:
        root = extract(plain, folder, target)
    except (ArchiveUnsafeError, FileInvalidError) as error:
        raise CorruptError(target=target, reason=str(error.context.get("reason", error))) from error
    return import_folder(root, destination, target)


def import_folder(folder: Path, destination: Path, target: str) -> ImportedDump:
    """Write an archive of a folder of tables, which is not changed; raises as ``import_dump``."""
    with snapshot.open_snapshot(folder, target, allow_older=True) as source:
        if not source.tables:
            raise CorruptError(target=target, reason="it contains no LanceDB table")
        with create_file(destination) as file:
            for block in archive.blocks(source):
                file.write(block)
        remarks = [f"{target}: {remark}" for remark in source.remarks]
        return ImportedDump(metadata={"format": "lance", **source.versions}, remarks=remarks)


def verify_extracted(folder: Path, dump: Dump, target: str) -> DumpVerification:
    """Read an extracted folder and compare it with the row counts and digests of its dump.

    Raises:
        RestoreFailedError: the content differs.
    """
    try:
        with snapshot.open_snapshot(folder, target) as source:
            rows = source.rows
        verification = verify_folder(folder, rows)
    except (DbctlError, ManifestError) as error:
        raise RestoreFailedError(target=target, reason=f"extracted, {error}", hint=UNCHANGED) from error
    problems = list(verification.problems)
    if verification.tables != dict(dump.tables) and dump.tables:
        names = sorted(
            name
            for name in {*verification.tables, *dump.tables}
            if verification.tables.get(name) != dump.tables.get(name)
        )
        problems.append(f"the row count differs in {', '.join(names)}")
    if changed_tables := find_differences(verification.digests, dump.digests):
        problems.append(f"the content differs in {', '.join(changed_tables)}")
    if problems:
        raise RestoreFailedError(target=target, reason=f"extracted, {problems[0]}", hint=UNCHANGED)
    return verification


def copy_ownership(folder: Path, reference: Path) -> None:
    """Give all files of a folder the owner and mode of ``reference``."""
    reference_stat = reference.stat()
    folder_mode = stat.S_IMODE(reference_stat.st_mode) & 0o777
    for parent, _, files in os.walk(folder):
        for path, mode in (
            (parent, folder_mode),
            *((os.path.join(parent, name), folder_mode & 0o666) for name in files),  # noqa: PTH118
        ):
            if os.geteuid() == 0:
                os.chown(path, reference_stat.st_uid, reference_stat.st_gid, follow_symlinks=False)
            os.chmod(path, mode)  # noqa: PTH101 - the paths are texts
