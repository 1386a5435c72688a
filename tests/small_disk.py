"""A small file system, which tests fill or make read-only."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress

import pytest


@pytest.fixture
def disk(tmp_path):
    """A mounted file system of 512 KiB."""
    with mount_disk(tmp_path / "disk", "512k") as folder:
        yield folder


@contextmanager
def mount_disk(folder, size):
    """Mount a file system of a size in a new folder; without the permission, skip the test."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk, *, leave=0):
    """Leave this number of free bytes."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - leave)
