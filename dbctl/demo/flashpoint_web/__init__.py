"""A sample Flashpoint Web: an archive of invented games, and users who have played them for half a year."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from dbctl.demo import DemoBuilt
from dbctl.demo.flashpoint_web.games import fill_archive
from dbctl.demo.flashpoint_web.plays import STATISTICS, fill_history
from dbctl.demo.flashpoint_web.sample import Sample, run
from dbctl.demo.flashpoint_web.users import ACCOUNTS, COMMON_PASSWORD, fill_people, people_of
from dbctl.demo.places import made
from dbctl.demo.random import Progress
from dbctl.engines.contract import Writable
from dbctl.engines.registry import open_for_writing
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.services.migrations import apply_all, shipped_track
from dbctl.url import Url

COUNTS = {"games": 2_000, "users": 50, "plays": 5_000}
#: Databases that must be on a server.
SERVED = ()
#: Those of which ``--url`` may say where they are.
PLACED = ()
#: What messages call the app while it is made.
TARGET = "demo"
#: Where the app and the launcher keep their databases, below the directory of each.
PLACES = {"user": Path("backend/user.db"), "flashpoint": Path("Data/flashpoint.sqlite")}


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],  # noqa: ARG001 - its databases are files
    seed: int,
    at: datetime | None,
    progress: Progress | None,
) -> DemoBuilt:
    """Make ``backend/user.db`` and ``Data/flashpoint.sqlite``; see ``dbctl.demo.build``."""
    began = time.monotonic()
    places = {name: directory / place for name, place in PLACES.items()}
    for path in places.values():
        if os.path.lexists(path):
            raise FileExistsAlreadyError(path=path, instead="Choose an empty directory for the sample.")
    games, users = counts["games"], max(counts["users"], len(ACCOUNTS))
    plays = counts["plays"] if games else 0
    sample = Sample(games=games, users=users, plays=plays, seed=seed, at=at or now())
    profile = load("flashpoint-web")
    rows: dict[str, int] = {}
    try:
        # Created in a temporary folder, so that no app opens an incomplete database.
        with (
            made([directory, *(path.parent for path in places.values())]),
            TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as temporary,
        ):
            # The app puts the launcher's database into rollback mode whenever it opens it.
            with closing(_opened(Path(temporary), "flashpoint", {"journal_mode": "delete"})) as archive:
                rows |= fill_archive(archive, sample, progress)
            with closing(_opened(Path(temporary), "user", profile.databases["user"].create)) as deployment:
                apply_all(shipped_track(profile, "user", TARGET, "sqlite"), deployment)
                rows |= _fill_users(deployment, sample, progress)
            for name, path in places.items():
                (Path(temporary) / PLACES[name].name).rename(path)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases=places,
        rows=rows,
        bytes=sum(path.stat().st_size for path in places.values()),
        seconds=round(time.monotonic() - began, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


def _opened(directory: Path, name: str, create: Mapping[str, str]) -> Writable:
    return open_for_writing(
        Url(engine="sqlite", path=str(directory / PLACES[name].name)),
        f"{TARGET}/{name}",
        timeout=5,
        pragmas={"synchronous": "off"},  # what a power cut takes is made again
        create=create,
    )


def _fill_users(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill ``user.db``, whose migrations have run; return what was made."""
    people = people_of(sample)
    with db.transaction():
        tokens = fill_people(db, sample, people, progress)
        logged = fill_history(db, sample, people, progress)
    run(db, STATISTICS)
    return {"users": len(people), "plays": sample.plays, "tokens": tokens, "activities": logged}
