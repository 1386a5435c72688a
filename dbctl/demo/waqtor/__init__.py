"""A sample WaQtor: people who have sent messages and run campaigns for half a year, in an empty database on a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from dbctl.demo import DemoBuilt
from dbctl.demo.places import refuse_full
from dbctl.demo.random import Progress
from dbctl.demo.waqtor.messages import fill_traffic
from dbctl.demo.waqtor.sample import Sample
from dbctl.demo.waqtor.users import ACCOUNTS, COMMON_PASSWORD, fill_people, people_of
from dbctl.engines.contract import Writable
from dbctl.engines.registry import open_for_writing
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.profiles.model import Profile
from dbctl.services.migrations import apply_all, shipped_track
from dbctl.services.migrations.ledger import standing
from dbctl.url import Url

SHAPES = ("deployed", "document")

COUNTS = {"users": 50, "messages": 5_000}
#: Databases that must be on a server; ``--url`` is the address of each.
SERVED = ("main",)
#: Those of which ``--url`` may say where they are.
PLACED = ("main",)
#: What messages call the app while it is made.
TARGET = "demo"
#: Where the app makes its former database, and dies where it cannot.
LEGACY = Path("runtime/server/db/waqtor.db")


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
    shape: str = "",
) -> DemoBuilt:
    """Fill the empty database at ``urls`` and make ``waqtor.db``; see ``dbctl.demo.build``."""
    began = time.monotonic()
    path = directory / LEGACY
    if os.path.lexists(path):
        raise FileExistsAlreadyError(path=path, instead="Choose an empty directory for the sample.")
    users = max(counts["users"], len(ACCOUNTS))
    profile = load("waqtor")
    with closing(_opened(profile, "main", urls["main"])) as db, db.lock("demo"):
        refuse_full(db, profile)
        track = standing(shipped_track(profile, "main", TARGET, "postgresql", shape=shape), db).track
        apply_all(track, db)
        sample = Sample(
            users=users, messages=counts["messages"], seed=seed, at=at or now(), shape=track.shape
        )
        with db.transaction():
            people = people_of(sample)
            rows = fill_people(db, sample, people, progress)
            rows |= fill_traffic(db, sample, people, progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    legacy = Url(engine="sqlite", path=str(path))
    with closing(_opened(profile, "legacy", legacy)) as former, former.lock("demo"):
        apply_all(shipped_track(profile, "legacy", TARGET, "sqlite"), former)
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases={"legacy": path},
        servers={"main": str(urls["main"])},
        rows=rows,
        bytes=path.stat().st_size,
        seconds=round(time.monotonic() - began, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


def _opened(profile: Profile, name: str, url: Url) -> Writable:
    create = profile.databases[name].create
    return open_for_writing(url, f"{TARGET}/{name}", timeout=5, pragmas={}, create=create)
