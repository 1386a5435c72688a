"""A sample of PromptVault: generated users of a few teams, and half a year of their prompts."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from dbctl.demo import DemoBuilt
from dbctl.demo.places import create_directories, require_empty
from dbctl.demo.promptvault.rows import Sample, fill
from dbctl.demo.promptvault.users import ACCOUNTS, COMMON_PASSWORD
from dbctl.demo.random import Progress
from dbctl.engines.contract import SizeMonitor, Writable
from dbctl.engines.registry import load_engine
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.services.migrations import apply_all, create_shipped_target
from dbctl.services.search import build_index
from dbctl.url import Url

#: Default numbers of rows.
COUNTS = {"users": 50, "prompts": 400}
#: Databases that must be on a server.
SERVER_DATABASES = ()
#: The name of the database in messages.
TARGET = "demo/main"
#: Databases that accept ``--url``.
URL_DATABASES = ("main",)
#: The database file of the app, below its directory.
DATABASE_PATH = Path("backend/data/promptvault.db")


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
) -> DemoBuilt:
    """Create ``backend/data/promptvault.db``, or fill the empty database of ``urls``; see ``dbctl.demo.build``."""
    start = time.monotonic()
    sample = Sample(
        users=max(counts["users"], len(ACCOUNTS)), prompts=counts["prompts"], seed=seed, at=at or now()
    )
    if "main" not in urls and os.path.lexists(directory / DATABASE_PATH):
        raise FileExistsAlreadyError(
            path=directory / DATABASE_PATH, hint="Choose an empty directory for the sample."
        )
    url = urls.get("main") or Url(engine="sqlite", path=str(directory / DATABASE_PATH))
    path = Path(url.path) if url.is_file else None
    try:
        if path is None or os.path.lexists(path):
            with create_directories([directory]):
                rows, size = _fill_database(url, sample, progress)
        else:
            # Created in a temporary folder, so that no app opens an incomplete database.
            with (
                create_directories([directory, path.parent]),
                TemporaryDirectory(prefix=".dbctl-demo-", dir=path.parent) as temporary,
            ):
                file = Path(temporary) / path.name
                rows, size = _fill_database(Url(engine="sqlite", path=str(file)), sample, progress)
                file.rename(path)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    return DemoBuilt(
        profile="promptvault",
        directory=directory,
        databases={"main": path} if path else {},
        servers={} if path else {"main": str(url)},
        rows=rows,
        bytes=size,
        seconds=round(time.monotonic() - start, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


def _fill_database(url: Url, sample: Sample, progress: Progress | None) -> tuple[dict[str, int], int]:
    """Fill an empty database; return the numbers of rows, and the size in bytes."""
    profile = load("promptvault")
    opened = load_engine(url.engine).open_for_writing(
        url,
        TARGET,
        timeout=5,
        pragmas={"synchronous": "off"},  # an interrupted sample is created again
        create=profile.databases["main"].create,
    )
    with closing(opened) as db, db.lock("demo"):
        require_empty(db, profile)
        apply_all(create_shipped_target(profile, "main", "demo", url.engine, variant="indexed"), db)
        with db.transaction():
            rows = fill(db, profile, sample, progress)
        for search in profile.search:
            build_index(search, db)
        return rows, _database_bytes(db)


def _database_bytes(db: Writable) -> int:
    sizes = db.part(SizeMonitor)
    return sizes.measure_storage().bytes if sizes else 0
