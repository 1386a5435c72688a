"""The file system of a path: its kind, its free space, and whether it is writable."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from dbctl.errors.connection import InsufficientSpaceError
from dbctl.model import Struct

MOUNTS = Path("/proc/self/mounts")

#: Kinds of network file systems, whose files several machines may have open, each with its own cache.
NETWORK_KINDS = frozenset(
    {
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "coda",
            "davfs",
            "glusterfs",
            "gfs2",
            "lustre",
            "nfs",
            "nfs4",
        ),
        *("ocfs2", "smb2", "smb3", "smbfs", "vboxsf", "fuse.ceph-fuse", "fuse.davfs2", "fuse.gcsfuse"),
        *("fuse.glusterfs", "fuse.goofys", "fuse.grpcfuse", "fuse.juicefs", "fuse.rclone", "fuse.s3fs"),
        "fuse.sshfs",
    }
)


class Volume(Struct, frozen=True, kw_only=True):
    """One file system, as the operating system describes it."""

    mount: str  #: the path of its root; empty: unknown
    kind: str  #: ext4, nfs4…; empty: unknown
    free_bytes: int  #: for users other than root
    free_files: int | None  #: number of files that can still be created; None: unlimited or unknown
    read_only: bool

    @property
    def is_network(self) -> bool:
        """Whether other machines may also use it."""
        return self.kind in NETWORK_KINDS


def read_volume(path: Path) -> Volume:
    """Return the file system that contains ``path``.

    Raises:
        OSError: the path does not exist, or cannot be accessed.
    """
    status = os.statvfs(path)
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # only Linux has this table
        table = ""
    mount, kind = find_mount(os.path.realpath(path), table)
    return Volume(
        mount=mount,
        kind=kind,
        free_bytes=status.f_bavail * status.f_frsize,
        free_files=status.f_favail if status.f_files else None,
        read_only=bool(status.f_flag & os.ST_RDONLY),
    )


def require_space(folder: Path, required_bytes: int) -> None:
    """Check the free space on the disk of a folder.

    Raises:
        InsufficientSpaceError: it is less than ``required_bytes``.
        OSError: the folder does not exist.
    """
    if (free_bytes := free_space(folder)) < required_bytes:
        raise InsufficientSpaceError(place=folder, required=required_bytes, free=free_bytes)


def find_existing(path: Path) -> Path:
    """Return an absolute path, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def free_space(folder: Path) -> int:
    """Return the free space on the disk of a folder in bytes, for users other than root."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def find_mount(path: str, table: str) -> tuple[str, str]:
    """Return mount point and kind of the file system of an absolute ``path``, from a table in the format of Linux.

    The file system itself is not accessed: a mount whose server does not respond would block forever.
    """
    entry = "", ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - device, place, kind
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        # The last of several file systems at the same mount point hides the others.
        if PurePosixPath(path).is_relative_to(mount_point) and len(mount_point) >= len(entry[0]):
            entry = mount_point, fields[2]
    return entry
