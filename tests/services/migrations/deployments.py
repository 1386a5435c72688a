"""An app without a profile: a folder of migrations and a database of each engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbctl.config.sections import Selection
from dbctl.services.app.app import App
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.execution.plan import UpSelection
from dbctl.services.migrations.operations import MigrateUp
from dbctl.services.migrations.status import find_targets
from tests import in_process
from tests.databases import ComparedDatabase, empty_database
from tools.reference import read_specs

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "DBCTL_STATE": "off",
    "PYTHONPATH": str(ROOT),
    "LANG": "C.UTF-8",
}
ENGINES = ("sqlite", "postgresql", "mysql")
#: Two tables with rows; one references the other with ON DELETE CASCADE.
INITIAL_FILES = {
    "001_authors": "create table authors (id integer not null primary key, name varchar(20));\n"
    "insert into authors values (1, 'Ana'), (2, 'Pip'), (3, 'Rye');\n",
    "002_books": "create table books (id integer not null primary key,\n"
    "  author integer not null, foreign key (author) references authors (id) on delete cascade);\n"
    "insert into books values (1, 1), (2, 1), (3, 2), (4, 3), (5, 3);\n",
}


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    """Write migration files into a new folder."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


@contextmanager
def open_app(base: ComparedDatabase) -> Iterator[App]:
    """Open a database without a configuration."""
    from dbctl.services.app.session import open_app

    with open_app(Selection(profile="plain", urls=[f"main={base.url}"]), timeout=5) as app:
        yield app


def read_states(base: ComparedDatabase, folder: Path | None = None) -> dict[str, str]:
    """Return the state of each migration, by name."""
    with open_app(base) as app:
        return {
            migration.name: migration.state
            for migration in migration_status.collect_status([app], folder=folder).page.items
        }


class Desk:
    """One app in a folder, with the actions of a user."""

    def __init__(self, folder: Path, base: ComparedDatabase) -> None:
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
    def open_app(self, *, timeout=5):
        from dbctl.services.app.session import open_app

        selection, spec = Selection(config=str(self.folder / "dbctl.toml")), read_specs()["migrate up"]
        with open_app(selection, timeout=timeout, spec=spec) as app:
            yield app

    def up(self, **options):
        timeout = options.pop("timeout", 5)
        with self.open_app(timeout=timeout) as app:
            targets = find_targets(
                app, variant=options.pop("variant", ""), folder=options.pop("folder", None)
            )
            return MigrateUp(app, targets, UpSelection(**options)).apply().items

    def describe_states(self):
        """Return state and detail of each migration, by name."""
        with self.open_app() as app:
            return {
                migration.name: (migration.state, migration.detail)
                for migration in migration_status.collect_status([app]).page.items
            }

    def states(self):
        return [state for state, _ in self.describe_states().values()]

    def dbctl(self, *words, status=0):
        """Run dbctl and return the data or the error of its output."""
        process = in_process.run_command([*words, "-o", "json"], environment=ENVIRONMENT, cwd=self.folder)
        assert process.returncode == status, (process.stdout, process.stderr)
        output = json.loads(process.stdout)
        return output["error"] or output["data"]

    def count(self, table):
        return self.base.rows(f"select count(*) from {table}")[0][0]

    def tables(self):
        return set(self.base.tables())


@contextmanager
def create_desk(engine, folder):
    """Yield an app on ``engine``, and remove its database at the end."""
    folder.mkdir(exist_ok=True)
    with empty_database(engine, folder / "desk.db") as base:
        yield Desk(folder, base)
