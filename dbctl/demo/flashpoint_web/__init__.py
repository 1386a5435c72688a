"""A sample of Flashpoint Web: an archive of generated games, and users with half a year of plays."""

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
from dbctl.demo.flashpoint_web.sample import Sample, run_scripts
from dbctl.demo.flashpoint_web.users import ACCOUNTS, COMMON_PASSWORD, create_users, fill_users
from dbctl.demo.places import create_directories
from dbctl.demo.random import Progress
from dbctl.engines.contract import Writable
from dbctl.engines.registry import load_engine
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.services.migrations import apply_all, create_shipped_target
from dbctl.url import Url

COUNTS = {"games": 2_000, "users": 50, "plays": 5_000}
#: Databases that must be on a server.
SERVER_DATABASES = ()
#: Databases that accept ``--url``.
URL_DATABASES = ()
#: The name of the app in messages.
TARGET = "demo"
#: The database files of the app and the launcher, below the directory.
PATHS = {"user": Path("backend/user.db"), "flashpoint": Path("Data/flashpoint.sqlite")}


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],  # noqa: ARG001 - its databases are files
    seed: int,
    at: datetime | None,
    progress: Progress | None,
) -> DemoBuilt:
    """Create ``backend/user.db`` and ``Data/flashpoint.sqlite``; see ``dbctl.demo.build``."""
    start = time.monotonic()
    places = {name: directory / place for name, place in PATHS.items()}
    for path in places.values():
        if os.path.lexists(path):
            raise FileExistsAlreadyError(path=path, hint="Choose an empty directory for the sample.")
    game_count, user_count = counts["games"], max(counts["users"], len(ACCOUNTS))
    play_count = counts["plays"] if game_count else 0
    sample = Sample(games=game_count, users=user_count, plays=play_count, seed=seed, at=at or now())
    profile = load("flashpoint-web")
    rows: dict[str, int] = {}
    try:
        # Created in a temporary folder, so that no app opens an incomplete database.
        with (
            create_directories([directory, *(path.parent for path in places.values())]),
            TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as temporary,
        ):
            # The app switches the launcher's database to a rollback journal each time it opens it.
            with closing(
                _open_database(Path(temporary), "flashpoint", {"journal_mode": "delete"})
            ) as archive:
                rows |= fill_archive(archive, sample, progress)
            with closing(
                _open_database(Path(temporary), "user", profile.databases["user"].create)
            ) as deployment:
                apply_all(create_shipped_target(profile, "user", TARGET, "sqlite"), deployment)
                rows |= _fill_users(deployment, sample, progress)
            for name, path in places.items():
                (Path(temporary) / PATHS[name].name).rename(path)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases=places,
        rows=rows,
        bytes=sum(path.stat().st_size for path in places.values()),
        seconds=round(time.monotonic() - start, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


def _open_database(directory: Path, name: str, create: Mapping[str, str]) -> Writable:
    return load_engine("sqlite").open_for_writing(
        Url(engine="sqlite", path=str(directory / PATHS[name].name)),
        f"{TARGET}/{name}",
        timeout=5,
        pragmas={"synchronous": "off"},  # an interrupted sample is created again
        create=create,
    )


def _fill_users(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill ``user.db`` after its migrations, and return the numbers of rows."""
    users = create_users(sample)
    with db.transaction():
        token_count = fill_users(db, sample, users, progress)
        activity_count = fill_history(db, sample, users, progress)
    run_scripts(db, STATISTICS)
    return {"users": len(users), "plays": sample.plays, "tokens": token_count, "activities": activity_count}
