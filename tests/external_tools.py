"""Programs of others that do what dbctl does, installed for tests and benchmarks where they can be."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Seconds that npm gets to fetch something.
PATIENCE = 120


class Peer(NamedTuple):
    """A program of npm's."""

    folder: Path  #: where npx finds it
    binary: Path  #: what npx would run in the end


@cache
def dbmate() -> Peer | None:
    """Return dbmate; None where npm cannot install it."""
    folder = _installed("dbmate@2")
    if folder is None:
        return None
    (binary,) = (folder / "node_modules/@dbmate").glob("*/bin/dbmate")
    return Peer(folder, binary)


@cache
def flashpoint() -> Path | None:
    """Return the folder from which node finds the launcher's own engine; None where npm cannot install it."""
    return _installed("@fparchive/flashpoint-archive@0.11.2")


def _installed(package: str) -> Path | None:
    """Return the folder of a package; it is cached next to the Python interpreter."""
    place = Path(sys.prefix) / "peers" / package
    if place.is_dir():
        return place
    if not shutil.which("npm"):
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as temporary:
        words = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix"]
        try:
            subprocess.run([*words, temporary, package], capture_output=True, check=True, timeout=PATIENCE)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        try:
            Path(temporary).rename(place)
        except OSError:  # another process of the same tests was faster
            if not place.is_dir():
                raise
    return place
