"""Deployments of Larder, one for every test, on each engine that its profile allows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.cli.main import main
from dbctl.model import Secret
from tests import servers
from tests.shapes import flashpoint_web as shapes

PROFILE = Path(__file__).parents[1] / "profiles" / "larder.toml"
#: Stands in the address of every server, and must not show anywhere.
SECRET = "hunter2-marked"
#: What was done before: a restore, and backups before and after it.
BEFORE = [
    "backup create",
    "restore apply latest --yes",
    "sessions cleanup",
    "backup create",
]
#: Words of commands that have to do with what was done before.
ABOUT_BEFORE = ("backup", "restore", "status", "doctor")


def lay_out(folder: Path, address: str = "") -> None:
    """Put the files of a deployment into the working directory, which is ``folder``."""
    text = PROFILE.read_text(encoding="utf-8").replace("cost = 10", "cost = 4")
    (folder / "larder.toml").write_text(text, encoding="utf-8")
    (folder / "people.csv").write_text("handle,email,password\nmia,mia@example.org,long enough\n")
    (folder / "wanted.json").write_text(json.dumps({"kitchen.title": "Shelf"}))
    run("init larder.toml .", *(["--url", f"pantry={address}"] if address else []))


def run(line: str, *more: str) -> None:
    """Run a command that has to go well."""
    assert main([*line.split(), *more]) == 0


class SQLite:
    """Deployments are copies of a folder."""

    def __init__(self, place: Path) -> None:
        self._made = place / "made"
        self._made.mkdir()
        shapes.sixth_app_db(self._made / "larder.db")
        with pytest.MonkeyPatch.context() as there:
            there.chdir(self._made)
            lay_out(self._made)
            for line in BEFORE:
                run(line)

    @contextmanager
    def deployed(self, folder: Path, _line: str) -> Iterator[str]:
        """Make one in an empty folder, the working directory; give the words that say where its database is."""
        shutil.copytree(self._made, folder, dirs_exist_ok=True)
        yield ""


class PostgreSQL:
    """Deployments are schemas; only what has to do with backups pays for a database of its own, and for making some."""

    def __init__(self) -> None:
        script = (Path(shapes.__file__).parent / "larder_postgresql.sql").read_text(encoding="utf-8")
        self._script = script.replace(":password_hash", f"'{shapes.PASSWORD_HASH}'")

    @contextmanager
    def deployed(self, folder: Path, line: str) -> Iterator[str]:
        """As above."""
        about = line.startswith(ABOUT_BEFORE)
        with servers.postgresql_database() if about else servers.postgresql_schema() as url:
            with closing(servers.connection(url)) as db:
                db.execute(self._script)
            address = servers.text(structs.replace(url, password=url.password or Secret(SECRET)))
            lay_out(folder, address)
            for before in BEFORE if about else ():
                run(before)
            yield f"--url pantry={address}"


def on(engine: str, place: Path) -> SQLite | PostgreSQL:
    """Return what makes deployments on an engine; ``place`` is a folder of its own."""
    return SQLite(place) if engine == "sqlite" else PostgreSQL()
