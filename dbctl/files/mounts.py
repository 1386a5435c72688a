"""The file system that a path is on: its kind, its free space, and whether it takes writes."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from dbctl.model import Value

MOUNTS = Path("/proc/self/mounts")

#: Kinds whose files several machines may have open at a time, each with a memory of its own.
NETWORK = frozenset(
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


class Volume(Value, frozen=True, kw_only=True):
    """One file system, as the operating system describes it."""

    mount: str  #: the path of its root; empty: unknown
    kind: str  #: ext4, nfs4…; empty: unknown
    free_bytes: int  #: for all users but root
    free_files: int | None  #: how many more files it takes; None: it does not count them
    read_only: bool

    @property
    def shared(self) -> bool:
        """Whether other machines may use it, too."""
        return self.kind in NETWORK


def volume_of(path: Path) -> Volume:
    """Return the file system that holds ``path``.

    Raises:
        OSError: it does not exist, or must not be read.
    """
    status = os.statvfs(path)
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # only Linux has such a table
        table = ""
    mount, kind = entry_of(os.path.realpath(path), table)
    return Volume(
        mount=mount,
        kind=kind,
        free_bytes=status.f_bavail * status.f_frsize,
        free_files=status.f_favail if status.f_files else None,
        read_only=bool(status.f_flag & os.ST_RDONLY),
    )


def entry_of(path: str, table: str) -> tuple[str, str]:
    """Return mount point and kind of the file system that holds an absolute ``path``, by a table as Linux writes it.

    Only the table is read: reading a mount whose server does not respond would never end.
    """
    entry = "", ""
    for line in table.splitlines():
        words = line.split(" ")
        if len(words) < 3:  # noqa: PLR2004 - device, place, kind
            continue
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[1])
        # Of several at one place, the last hides the others.
        if PurePosixPath(path).is_relative_to(place) and len(place) >= len(entry[0]):
            entry = place, words[2]
    return entry
