"""A sample PromptVault: invented people of a few teams, and what they have asked machines for half a year."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from dbctl.demo import DemoBuilt
from dbctl.demo.places import made, refuse_full
from dbctl.demo.promptvault.rows import Sample, fill
from dbctl.demo.promptvault.users import ACCOUNTS, COMMON_PASSWORD
from dbctl.demo.random import Progress
from dbctl.engines.contract import Capability, Measures, Writable
from dbctl.engines.registry import open_for_writing
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.services.migrations import apply_all, shipped_track
from dbctl.services.search import make_index
from dbctl.url import Url

#: Default counts.
COUNTS = {"users": 50, "prompts": 400}
#: The databases that must be on a server: none, but all may be.
SERVED = ()
#: What messages call the app while it is made.
TARGET = "demo/main"
#: Those of which ``--url`` may say where they are.
PLACED = ("main",)
#: Where the app keeps its database, below its directory.
PLACE = Path("backend/data/promptvault.db")


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
) -> DemoBuilt:
    """Make ``backend/data/promptvault.db``, or fill an empty database elsewhere; see ``dbctl.demo.build``."""
    began = time.monotonic()
    sample = Sample(
        users=max(counts["users"], len(ACCOUNTS)), prompts=counts["prompts"], seed=seed, at=at or now()
    )
    if "main" not in urls and os.path.lexists(directory / PLACE):
        raise FileExistsAlreadyError(
            path=directory / PLACE, instead="Choose an empty directory for the sample."
        )
    url = urls.get("main") or Url(engine="sqlite", path=str(directory / PLACE))
    path = Path(url.path) if url.is_file else None
    try:
        if path is None or os.path.lexists(path):
            with made([directory]):
                rows, size = _filled(url, sample, progress)
        else:
            # Created in a temporary folder, so that no app opens an incomplete database.
            with (
                made([directory, path.parent]),
                TemporaryDirectory(prefix=".dbctl-demo-", dir=path.parent) as temporary,
            ):
                file = Path(temporary) / path.name
                rows, size = _filled(Url(engine="sqlite", path=str(file)), sample, progress)
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
        seconds=round(time.monotonic() - began, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


def _filled(url: Url, sample: Sample, progress: Progress | None) -> tuple[dict[str, int], int]:
    """Fill an empty database; return what was made, and how many bytes that takes."""
    profile = load("promptvault")
    opened = open_for_writing(
        url,
        TARGET,
        timeout=5,
        pragmas={"synchronous": "off"},  # what a power cut takes is made again
        create=profile.databases["main"].create,
    )
    with closing(opened) as db, db.lock("demo"):
        refuse_full(db, profile)
        apply_all(shipped_track(profile, "main", "demo", url.engine, shape="indexed"), db)
        with db.transaction():
            rows = fill(db, profile, sample, progress)
        for search in profile.search:
            make_index(search, db)
        return rows, _size(db)


def _size(db: Writable) -> int:
    able = Capability.MEASURE in db.capabilities and isinstance(db, Measures)
    return db.storage().bytes if able and isinstance(db, Measures) else 0
