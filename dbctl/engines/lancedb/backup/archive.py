"""A snapshot as a tar archive of one folder, ``lancedb``, which LanceDB can open after ``tar -xf``."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from dbctl.engines.lancedb.backup.snapshot import Snapshot, SnapshotFile

#: The folder that contains all files, with the name that the app's scripts use.
TOP_FOLDER = "lancedb"
_END = 2 * tarfile.BLOCKSIZE


def archive_size(snapshot: Snapshot) -> int:
    """Return the approximate size of ``blocks`` in bytes; headers of long names need a little more."""
    folders, files = len(_folders(snapshot)) + 1, snapshot.files
    content = sum(file.size + _padding(file.size) for file in files)
    total_bytes = content + tarfile.BLOCKSIZE * (folders + len(files)) + _END
    return total_bytes + -total_bytes % tarfile.RECORDSIZE


def blocks(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the archive; raises as ``Snapshot.blocks``."""
    total_bytes = 0
    for block in _blocks(snapshot):
        total_bytes += len(block)
        yield block
    yield bytes(_END + -(total_bytes + _END) % tarfile.RECORDSIZE)


def _blocks(snapshot: Snapshot) -> Iterator[bytes]:
    root_stat = snapshot.root.stat()
    for name in (TOP_FOLDER, *(f"{TOP_FOLDER}/{folder}" for folder in _folders(snapshot))):
        header = tarfile.TarInfo(name)
        header.type, header.mode = tarfile.DIRTYPE, root_stat.st_mode & 0o777
        header.uid, header.gid, header.mtime = root_stat.st_uid, root_stat.st_gid, int(root_stat.st_mtime)
        yield _header(header)
    for file in snapshot.files:
        yield _header(_tar_entry(file))
        yield from snapshot.blocks(file)
        yield bytes(_padding(file.size))


def _tar_entry(file: SnapshotFile) -> tarfile.TarInfo:
    header = tarfile.TarInfo(f"{TOP_FOLDER}/{file.name}")
    header.size, header.mode, header.mtime = file.size, file.mode & 0o777, max(0, file.modified)
    header.uid, header.gid = file.owner
    return header


def _header(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _folders(snapshot: Snapshot) -> list[str]:
    """Return the folders that contain the files, parents first."""
    folders = set(snapshot.folders)
    for file in snapshot.files:
        folders.update(str(parent) for parent in PurePosixPath(file.name).parents)
    return sorted(folders - {"."})


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
