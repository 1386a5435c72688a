"""Archives of a LanceDB folder that somebody else packed, made into such as dbctl makes.

A script packs the folder as it finds it, file after file, while the app may write: so a version may be in it of which files
are missing. The newest one that is whole is taken then, and that is said.
"""

from __future__ import annotations

from pathlib import Path

from dbctl.engines.file_type import TakenIn
from dbctl.engines.lancedb.backup import archive, load, snapshot
from dbctl.errors import ArchiveUnsafeError, CorruptError, FileUnsoundError
from dbctl.files import new_file


def take_in(plain: Path, destination: Path, target: str) -> TakenIn:
    """Make an archive of the newest version of each table that is whole.

    Raises:
        CorruptError: it is no archive, or of a table no version is whole.
        DiskFullError: there is no room.
    """
    folder = plain.with_name("unpacked")
    try:
        root = load.unpacked(plain, folder, target)
    except (ArchiveUnsafeError, FileUnsoundError) as error:
        raise CorruptError(target=target, reason=load.failed(error)) from error
    return take_in_folder(root, destination, target)


def take_in_folder(folder: Path, destination: Path, target: str) -> TakenIn:
    """Make one of a folder of tables, which stays as it is; raises as ``take_in``."""
    with snapshot.taken(folder, target, older=True) as found:
        if not found.tables:
            raise CorruptError(target=target, reason="there is no table of LanceDB in it")
        with new_file(destination) as file:
            for block in archive.blocks(found):
                file.write(block)
        versions = {f"version of {one.name}": str(one.version.number) for one in found.tables}
        remarks = [f"{target}: {one}" for one in found.remarks]
    return TakenIn(facts={"format": "lance", **versions}, remarks=remarks)
