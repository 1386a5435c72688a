"""The file system of a path, from a table in the format of Linux."""

from __future__ import annotations

import pytest

from dbctl.files.mounts import NETWORK_KINDS, find_mount, read_volume

TABLE = """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
tank/apps /srv zfs rw 0 0
nas:/export /srv/apps nfs4 rw,vers=4.2 0 0
/dev/sdb1 /srv/apps\\040of\\040mine xfs rw 0 0
C:\\134 /mnt/c 9p rw 0 0
overlay /srv/twice overlay rw 0 0
tmpfs /srv/twice tmpfs rw 0 0
nonsense
"""


@pytest.mark.parametrize(
    ("path", "mount", "kind"),
    [
        ("/", "/", "ext4"),
        ("/home/app/user.db", "/", "ext4"),
        ("/srv", "/srv", "zfs"),
        ("/srv/other/user.db", "/srv", "zfs"),
        ("/srv/apps/user.db", "/srv/apps", "nfs4"),
        ("/srv/apps-not/user.db", "/srv", "zfs"),
        ("/srv/apps of mine/user.db", "/srv/apps of mine", "xfs"),
        ("/mnt/c/user.db", "/mnt/c", "9p"),
        ("/srv/twice/user.db", "/srv/twice", "tmpfs"),
    ],
)
def test_deepest_and_last_mount_is_found(path, mount, kind):
    assert find_mount(path, TABLE) == (mount, kind)


def test_mount_is_unknown_without_table():
    assert find_mount("/srv/user.db", "") == ("", "")


def test_network_file_systems_are_recognised():
    assert {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"} <= NETWORK_KINDS
    assert not {"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "apfs"} & NETWORK_KINDS


def test_volume_reports_free_space(tmp_path):
    volume = read_volume(tmp_path)
    assert volume.free_bytes > 0
    assert not volume.read_only
    with pytest.raises(FileNotFoundError):
        read_volume(tmp_path / "gone")
