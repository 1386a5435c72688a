"""A sample of WaQtor: users with half a year of messages and campaigns, in an empty database on a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from dbctl.demo import DemoBuilt
from dbctl.demo.places import require_empty
from dbctl.demo.random import Progress
from dbctl.demo.waqtor.messages import fill_traffic
from dbctl.demo.waqtor.sample import Sample
from dbctl.demo.waqtor.users import ACCOUNTS, COMMON_PASSWORD, create_users, fill_users
from dbctl.engines.contract import Writable
from dbctl.engines.registry import load_engine
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.profiles.model import Profile
from dbctl.services.migrations import apply_all, create_shipped_target
from dbctl.services.migrations.ledger import read_state
from dbctl.url import Url

VARIANTS = ("deployed", "document")

COUNTS = {"users": 50, "messages": 5_000}
#: Databases that must be on a server; ``--url`` is the address of each.
SERVER_DATABASES = ("main",)
#: Databases that accept ``--url``.
URL_DATABASES = ("main",)
#: The name of the app in messages.
TARGET = "demo"
#: The file of the former database, which the app creates on start; without it the app does not start.
LEGACY = Path("runtime/server/db/waqtor.db")


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
    variant: str = "",
) -> DemoBuilt:
    """Fill the empty database of ``urls``, and create ``waqtor.db``; see ``dbctl.demo.build``."""
    start = time.monotonic()
    path = directory / LEGACY
    if os.path.lexists(path):
        raise FileExistsAlreadyError(path=path, hint="Choose an empty directory for the sample.")
    user_count = max(counts["users"], len(ACCOUNTS))
    profile = load("waqtor")
    with closing(_open_database(profile, "main", urls["main"])) as db, db.lock("demo"):
        require_empty(db, profile)
        target = read_state(
            create_shipped_target(profile, "main", TARGET, "postgresql", variant=variant), db
        ).target
        apply_all(target, db)
        sample = Sample(
            users=user_count, messages=counts["messages"], seed=seed, at=at or now(), variant=target.variant
        )
        with db.transaction():
            users = create_users(sample)
            rows = fill_users(db, sample, users, progress)
            rows |= fill_traffic(db, sample, users, progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    legacy = Url(engine="sqlite", path=str(path))
    with closing(_open_database(profile, "legacy", legacy)) as former, former.lock("demo"):
        apply_all(create_shipped_target(profile, "legacy", TARGET, "sqlite"), former)
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases={"legacy": path},
        servers={"main": str(urls["main"])},
        rows=rows,
        bytes=path.stat().st_size,
        seconds=round(time.monotonic() - start, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


def _open_database(profile: Profile, name: str, url: Url) -> Writable:
    create = profile.databases[name].create
    return load_engine(url.engine).open_for_writing(
        url, f"{TARGET}/{name}", timeout=5, pragmas={}, create=create
    )
