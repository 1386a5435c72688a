"""A sample YAAI: half a year of one person's chats, work on code and images, in four files as the app's document has them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from dbctl.demo import DemoBuilt
from dbctl.demo.places import made
from dbctl.demo.random import Progress, dice
from dbctl.demo.yaai.chats import fill_chat
from dbctl.demo.yaai.other import artifacts_of, fill_app, fill_code, fill_images
from dbctl.demo.yaai.sample import Sample
from dbctl.engines.contract import Writable
from dbctl.engines.registry import open_for_writing
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.profiles.model import Profile
from dbctl.services.migrations import apply_all, shipped_track
from dbctl.url import Url

#: How many of each are made unless told otherwise.
COUNTS = {"chats": 40, "messages": 800}
#: The databases that must be on a server, and those of which ``--url`` may say where they are: they belong together.
SERVED: tuple[str, ...] = ()
PLACED: tuple[str, ...] = ()
#: What messages call the app while it is made.
TARGET = "demo"

Fill: TypeAlias = Callable[[Writable, Sample, Progress | None], dict[str, int]]
#: What fills each database.
FILLS: Mapping[str, Fill] = {"chat": fill_chat, "code": fill_code, "imagegen": fill_images, "app": fill_app}


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
) -> DemoBuilt:
    """Make ``db/chat.sqlite`` and its like, with the files that go with them; see ``dbctl.demo.build``."""
    del urls  # none can be placed elsewhere
    began = time.monotonic()
    sample = Sample(chats=max(counts["chats"], 1), messages=counts["messages"], seed=seed, at=at or now())
    profile = load("yaai")
    rows: dict[str, int] = {}
    # Made aside, so that a half-made database never stands where an app would open it.
    try:
        with (
            made([directory]),
            TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as folder,
        ):
            aside = Path(folder)
            (aside / "db").mkdir(mode=0o700)
            for name, fill in FILLS.items():
                rows |= _filled(profile, name, aside / f"db/{name}.sqlite", fill, sample, progress)
            _write_files(aside, sample)
            _move(aside, directory)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    paths = {name: directory / f"db/{name}.sqlite" for name in FILLS}
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases=paths,
        rows=rows,
        bytes=sum(path.stat().st_size for path in paths.values()),
        seconds=round(time.monotonic() - began, 3),
        accounts=(),
        password_of_others="",
    )


def _filled(
    profile: Profile, name: str, path: Path, fill: Fill, sample: Sample, progress: Progress | None
) -> dict[str, int]:
    opened = open_for_writing(
        Url(engine="sqlite", path=str(path)),
        f"{TARGET}/{name}",
        timeout=5,
        pragmas={"synchronous": "off"},  # what a power cut takes is made again
        create=profile.databases[name].create,
    )
    with closing(opened) as db, db.lock("demo"):
        apply_all(shipped_track(profile, name, TARGET, "sqlite"), db)
        with db.transaction():
            rows = fill(db, sample, progress)
    path.chmod(0o600)
    return rows


def _write_files(home: Path, sample: Sample) -> None:
    """Write what the app keeps beside its databases: its key, its settings and what artifacts are about."""
    files: dict[str, bytes] = {
        "secrets/encryption.key": dice(sample.seed, "key").randbytes(32),
        "settings.json": json.dumps({"theme": "dark", "fontSize": 14}, indent=2).encode() + b"\n",
    }
    files |= {one.path: f"{one.name}\n".encode() for one in artifacts_of(sample)}
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / name).write_bytes(content)
        (home / name).chmod(0o600)


def _move(aside: Path, directory: Path) -> None:
    """Move what was made to its place, the databases last.

    Raises:
        FileExistsAlreadyError: something of the app stands there; nothing was moved.
    """
    for one in (aside / "db").iterdir():
        if one.suffix != ".sqlite":  # who made it here keeps no lock there
            one.unlink()
    names = sorted(one.name for one in aside.iterdir() if one.name != "db")
    for name in [*names, "db"]:
        if os.path.lexists(directory / name):
            raise FileExistsAlreadyError(
                path=directory / name, instead="Choose an empty directory for the sample."
            )
    for name in [*names, "db"]:
        (aside / name).rename(directory / name)
