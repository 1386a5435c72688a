"""External programs for comparison, which npm installs for tests and benchmarks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Time limit of an installation by npm.
INSTALL_SECONDS = 120


class Peer(NamedTuple):
    """A program installed by npm."""

    folder: Path  #: folder in which npx finds it
    binary: Path  #: the program that npx runs


@cache
def dbmate() -> Peer | None:
    """Return dbmate, or None if npm cannot install it."""
    folder = _install("dbmate@2")
    if folder is None:
        return None
    (binary,) = (folder / "node_modules/@dbmate").glob("*/bin/dbmate")
    return Peer(folder, binary)


@cache
def flashpoint() -> Path | None:
    """Return the folder in which node finds the launcher's engine, or None if npm cannot install it."""
    return _install("@fparchive/flashpoint-archive@0.11.2")


def _install(package: str) -> Path | None:
    """Install a package unless it is cached in the virtual environment; return its folder."""
    place = Path(sys.prefix) / "peers" / package
    if place.is_dir():
        return place
    if not shutil.which("npm"):
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as temporary:
        words = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix"]
        try:
            subprocess.run(
                [*words, temporary, package], capture_output=True, check=True, timeout=INSTALL_SECONDS
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        try:
            Path(temporary).rename(place)
        except OSError:  # another process may have installed it concurrently
            if not place.is_dir():
                raise
    return place
