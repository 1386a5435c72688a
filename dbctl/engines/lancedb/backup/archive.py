"""A snapshot as an archive (tar) of one folder, ``lancedb``, which ``tar -xf`` unpacks into what LanceDB opens."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from dbctl.engines.lancedb.backup.snapshot import Held, Snapshot

#: The folder that everything in it stands in, as the app's own scripts call it.
TOP = "lancedb"
_END = 2 * tarfile.BLOCKSIZE


def size(snapshot: Snapshot) -> int:
    """Return how many bytes ``blocks`` gives, about: the headers of longer names take a little more."""
    folders, files = len(_folders(snapshot)) + 1, snapshot.files
    content = sum(one.size + _padding(one.size) for one in files)
    whole = content + tarfile.BLOCKSIZE * (folders + len(files)) + _END
    return whole + -whole % tarfile.RECORDSIZE


def blocks(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the archive; raises as ``Snapshot.blocks``."""
    given = 0
    for block in _blocks(snapshot):
        given += len(block)
        yield block
    yield bytes(_END + -(given + _END) % tarfile.RECORDSIZE)


def _blocks(snapshot: Snapshot) -> Iterator[bytes]:
    told = snapshot.root.stat()
    for name in (TOP, *(f"{TOP}/{one}" for one in _folders(snapshot))):
        header = tarfile.TarInfo(name)
        header.type, header.mode = tarfile.DIRTYPE, told.st_mode & 0o777
        header.uid, header.gid, header.mtime = told.st_uid, told.st_gid, int(told.st_mtime)
        yield _header(header)
    for one in snapshot.files:
        yield _header(_told(one))
        yield from snapshot.blocks(one)
        yield bytes(_padding(one.size))


def _told(one: Held) -> tarfile.TarInfo:
    header = tarfile.TarInfo(f"{TOP}/{one.name}")
    header.size, header.mode, header.mtime = one.size, one.mode & 0o777, max(0, one.changed)
    header.uid, header.gid = one.owner
    return header


def _header(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _folders(snapshot: Snapshot) -> list[str]:
    """Return the folders that its files stand in, the outer ones first."""
    found = set(snapshot.folders)
    for one in snapshot.files:
        found.update(str(parent) for parent in PurePosixPath(one.name).parents)
    return sorted(found - {"."})


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
