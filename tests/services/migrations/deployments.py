"""An app of which dbctl knows no more than its folder of migrations, kept by each engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbctl.config import Selection
from dbctl.services.app import app as apps
from dbctl.services.app.app import App
from dbctl.services.migrations import status as migrate
from dbctl.services.migrations.up import Upgrade
from tests.databases import Kept, nothing_yet

ROOT = Path(__file__).parents[3]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
PLACES = ("sqlite", "postgresql", "mysql")
#: Two tables with rows, one of which belongs to the other and goes with it.
FIRST = {
    "001_authors": "create table authors (id integer not null primary key, name varchar(20));\n"
    "insert into authors values (1, 'Ana'), (2, 'Pip'), (3, 'Rye');\n",
    "002_books": "create table books (id integer not null primary key,\n"
    "  author integer not null, foreign key (author) references authors (id) on delete cascade);\n"
    "insert into books values (1, 1), (2, 1), (3, 2), (4, 3), (5, 3);\n",
}


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files of migrations into a new folder."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


@contextmanager
def bare(base: Kept) -> Iterator[App]:
    """Give a database of which no configuration tells."""
    with apps.opened(Selection(profile="plain", urls=[f"main={base.url}"]), timeout=5) as app:
        yield app


def states(base: Kept, folder: Path | None = None) -> dict[str, str]:
    """Return how each migration stands there, by name."""
    with bare(base) as app:
        return {one.name: one.state for one in migrate.survey([app], given=folder).page.items}


class Desk:
    """One app in a folder, with what a person would do to it."""

    def __init__(self, folder: Path, base: Kept) -> None:
        self.folder, self.base, self.engine = folder, base, base.engine
        (folder / "migrations").mkdir(parents=True)
        (folder / "dbctl.toml").write_text(
            f'[apps.desk]\nprofile = "plain"\n[apps.desk.databases]\nmain = "{base.url}"\n'
            '[apps.desk.migrations]\nmain = "migrations"\n[apps.desk.backup]\nrepository = "backups"\n'
        )

    def write(self, files):
        for name, text in files.items():
            (self.folder / "migrations" / f"{name}.sql").write_text(text)

    @contextmanager
    def opened(self, *, timeout=5):
        with apps.opened(Selection(config=str(self.folder / "dbctl.toml")), timeout=timeout) as app:
            yield app

    def up(self, **more):
        timeout = more.pop("timeout", 5)
        with self.opened(timeout=timeout) as app:
            return Upgrade(app, **more).apply().items

    def stands(self):
        """Return state and detail by name."""
        with self.opened() as app:
            return {one.name: (one.state, one.detail) for one in migrate.survey([app]).page.items}

    def states(self):
        return [state for state, _ in self.stands().values()]

    def dbctl(self, *words, status=0):
        """Run the command itself, and return its data, or its error."""
        done = subprocess.run(
            [sys.executable, "-m", "dbctl", *map(str, words), "-o", "json"],
            cwd=self.folder,
            env=CLEAN,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        told = json.loads(done.stdout)
        return told["error"] or told["data"]

    def count(self, table):
        return self.base.rows(f"select count(*) from {table}")[0][0]

    def tables(self):
        return set(self.base.tables())


@contextmanager
def settled(place, folder):
    """Give an app that is kept in one of ``PLACES``, and take it away again."""
    folder.mkdir(exist_ok=True)
    with nothing_yet(place, folder / "desk.db") as base:
        yield Desk(folder, base)
