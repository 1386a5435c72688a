"""A snapshot as a tar archive of one folder, ``lancedb``, which LanceDB can open after ``tar -xf``."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from dbctl.engines.lancedb.backup.snapshot import Snapshot

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
        yield _header(name, root_stat, tarfile.DIRTYPE, 0)
    for file in snapshot.files:
        yield _header(f"{TOP_FOLDER}/{file.name}", file.stat, tarfile.REGTYPE, file.size)
        yield from snapshot.blocks(file)
        yield bytes(_padding(file.size))


def _header(name: str, stat: os.stat_result, entry_type: bytes, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.size, header.mode = entry_type, size, stat.st_mode & 0o777
    header.uid, header.gid, header.mtime = stat.st_uid, stat.st_gid, max(0, int(stat.st_mtime))
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _folders(snapshot: Snapshot) -> list[str]:
    """Return the folders that contain the files, parents first."""
    folders = set(snapshot.folders)
    for file in snapshot.files:
        folders.update(str(parent) for parent in PurePosixPath(file.name).parents)
    return sorted(folders - {"."})


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
