"""Import archives of a LanceDB folder that another program created.

A script archives the folder file by file while the app may write, so the newest version in the archive may lack files. The
import then uses the newest complete version and adds a remark.
"""

from __future__ import annotations

from pathlib import Path

from dbctl.engines.contract import ImportedDump
from dbctl.engines.lancedb.backup import archive, load, snapshot
from dbctl.errors import ArchiveUnsafeError, CorruptError, FileInvalidError
from dbctl.files import create_file


def import_dump(plain: Path, destination: Path, target: str) -> ImportedDump:
    """Write an archive of the newest complete version of each table.

    Raises:
        CorruptError: it is not an archive, or a table has no complete version.
        DiskFullError: the disk is full.
    """
    folder = plain.with_name("extracted")
    try:
        root = load.extract(plain, folder, target)
    except (ArchiveUnsafeError, FileInvalidError) as error:
        raise CorruptError(target=target, reason=load.failure_reason(error)) from error
    return import_folder(root, destination, target)


def import_folder(folder: Path, destination: Path, target: str) -> ImportedDump:
    """Write an archive of a folder of tables, which is not changed; raises as ``import_dump``."""
    with snapshot.open_snapshot(folder, target, allow_older=True) as source:
        if not source.tables:
            raise CorruptError(target=target, reason="it contains no LanceDB table")
        with create_file(destination) as file:
            for block in archive.blocks(source):
                file.write(block)
        versions = {f"version of {table.name}": str(table.version.number) for table in source.tables}
        remarks = [f"{target}: {remark}" for remark in source.remarks]
    return ImportedDump(metadata={"format": "lance", **versions}, remarks=remarks)
