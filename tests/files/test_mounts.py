"""Which file system holds a path, told from a table as Linux writes it."""

from __future__ import annotations

import pytest

from dbctl.files.mounts import NETWORK, entry_of, volume_of

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
def test_the_deepest_mount_counts_and_of_two_at_one_place_the_last(path, mount, kind):
    assert entry_of(path, TABLE) == (mount, kind)


def test_where_there_is_no_table_nothing_is_told():
    assert entry_of("/srv/user.db", "") == ("", "")


def test_disks_of_other_machines_are_told_from_ones_own():
    assert {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"} <= NETWORK
    assert not {"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "apfs"} & NETWORK


def test_the_room_is_that_of_the_path(tmp_path):
    found = volume_of(tmp_path)
    assert found.free_bytes > 0
    assert not found.read_only
    with pytest.raises(FileNotFoundError):
        volume_of(tmp_path / "gone")
