"""A sample of YAAI: half a year of one user's chats, code sessions and images, in the four files that the app documents."""

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
from dbctl.demo.places import create_directories
from dbctl.demo.random import Progress, rng_for
from dbctl.demo.yaai.chats import fill_chat
from dbctl.demo.yaai.other import create_artifacts, fill_app, fill_code, fill_images
from dbctl.demo.yaai.sample import Sample
from dbctl.engines.contract import Writable
from dbctl.engines.registry import load_engine
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import now
from dbctl.profiles import load
from dbctl.profiles.model import Profile
from dbctl.services.migrations import apply_all, create_shipped_target
from dbctl.url import Url

#: Default numbers of rows.
COUNTS = {"chats": 40, "messages": 800}
#: The databases that must be on a server, and those that accept ``--url``: none, because the files belong together.
SERVER_DATABASES: tuple[str, ...] = ()
URL_DATABASES: tuple[str, ...] = ()
#: The name of the app in messages.
TARGET = "demo"

Fill: TypeAlias = Callable[[Writable, Sample, Progress | None], dict[str, int]]
#: The function that fills each database.
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
    """Create ``db/chat.sqlite``, the other databases, and the files of the app; see ``dbctl.demo.build``."""
    del urls  # the sample accepts no address
    start = time.monotonic()
    sample = Sample(chats=max(counts["chats"], 1), messages=counts["messages"], seed=seed, at=at or now())
    profile = load("yaai")
    rows: dict[str, int] = {}
    # Created in a temporary folder, so that no app opens an incomplete database.
    try:
        with (
            create_directories([directory]),
            TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as folder,
        ):
            temporary = Path(folder)
            (temporary / "db").mkdir(mode=0o700)
            for name, fill in FILLS.items():
                rows |= _fill_database(profile, name, temporary / f"db/{name}.sqlite", fill, sample, progress)
            _write_files(temporary, sample)
            _move(temporary, directory)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    paths = {name: directory / f"db/{name}.sqlite" for name in FILLS}
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases=paths,
        rows=rows,
        bytes=sum(path.stat().st_size for path in paths.values()),
        seconds=round(time.monotonic() - start, 3),
        accounts=(),
        password_of_others="",
    )


def _fill_database(
    profile: Profile, name: str, path: Path, fill: Fill, sample: Sample, progress: Progress | None
) -> dict[str, int]:
    opened = load_engine("sqlite").open_for_writing(
        Url(engine="sqlite", path=str(path)),
        f"{TARGET}/{name}",
        timeout=5,
        pragmas={"synchronous": "off"},  # an interrupted sample is created again
        create=profile.databases[name].create,
    )
    with closing(opened) as db, db.lock("demo"):
        apply_all(create_shipped_target(profile, name, TARGET, "sqlite"), db)
        with db.transaction():
            rows = fill(db, sample, progress)
    path.chmod(0o600)
    return rows


def _write_files(home: Path, sample: Sample) -> None:
    """Write the files of the app: its key, settings and artifacts."""
    files: dict[str, bytes] = {
        "secrets/encryption.key": rng_for(sample.seed, "key").randbytes(32),
        "settings.json": json.dumps({"theme": "dark", "fontSize": 14}, indent=2).encode() + b"\n",
    }
    files |= {artifact.path: f"{artifact.name}\n".encode() for artifact in create_artifacts(sample)}
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / name).write_bytes(content)
        (home / name).chmod(0o600)


def _move(temporary: Path, directory: Path) -> None:
    """Move the files into the directory, the databases last.

    Raises:
        FileExistsAlreadyError: a file of the app already exists; nothing was moved.
    """
    for path in (temporary / "db").iterdir():
        if path.suffix != ".sqlite":  # the lock of this process is not moved
            path.unlink()
    names = sorted(path.name for path in temporary.iterdir() if path.name != "db")
    for name in [*names, "db"]:
        if os.path.lexists(directory / name):
            raise FileExistsAlreadyError(
                path=directory / name, hint="Choose an empty directory for the sample."
            )
    for name in [*names, "db"]:
        (temporary / name).rename(directory / name)
