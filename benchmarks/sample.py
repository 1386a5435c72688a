"""Sample deployments, made once and kept in the system's directory for temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

from dbctl.services import demo

CONFIGURATION = """\
[apps.flashpoint]
profile = "flashpoint-web"
[apps.flashpoint.databases]
user = "backend/user.db"
flashpoint = "Data/flashpoint.sqlite"
"""


def deployment(*, games: int, users: int) -> Path:
    """Return the directory of a sample with a ``dbctl.toml``; it is made anew after its generator has changed."""
    sources = sorted(Path(demo.__file__).parent.glob("*.py"))
    made_by = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    root = Path(tempfile.gettempdir()) / f"dbctl-benchmarks-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    place = root / f"{games}-games-{users}-users-{made_by}"
    if not place.exists():
        aside = Path(tempfile.mkdtemp(dir=root))
        try:
            demo.build(aside, games=games, users=users, plays=1_000)
            (aside / "dbctl.toml").write_text(CONFIGURATION)
            aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return place
