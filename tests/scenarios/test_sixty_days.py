"""Sixty days of incremental backups of a database at work, pruned each day: of a file, and of the dumps of a server.

Differences of dumps have one code for all servers; ``tests/services/backup/test_increments.py`` has MySQL.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from dbctl import model
from tests import storage
from tests.databases import ComparedDatabase, empty_database

CONFIGURATION = """\
[apps.{name}]
profile = "plain"
[apps.{name}.databases]
main = "{url}"
[apps.{name}.backup]
repository = "backups"
keep = {{ last = 7, daily = 14, weekly = 8, monthly = 12 }}
"""
INCREMENTAL = 'incremental = true\nfull_every = "30d"\n'
#: A Monday, and the number of days from it on.
BEGIN, DAYS = datetime(2026, 1, 5, 2, tzinfo=UTC), 60
#: Days after whose prune backups are restored: soon after a base was replaced by its age, and at the end. A restore on a server takes longer.
INSPECTED = {"sqlite": {11, 44, DAYS - 1}, "postgresql": {DAYS - 1}}
#: Of the backups by age, every such one is restored.
RESTORED = {"sqlite": 1, "postgresql": 3}
#: Days on which the table is rebuilt: with its rows in the same order, on PostgreSQL in that of an index.
REBUILT = {12, 50}
REBUILD = {"sqlite": "vacuum", "postgresql": "cluster posts using posts_author"}
#: Days without any change, after which SQLite stores nothing; a dump of PostgreSQL contains its time.
QUIET = {20, 21, 40}
#: The day of a difference that no rule retains at the end.
PINNED = 8
#: The largest share that the retained backups need of the bytes of full ones.
MAX_SHARE = 0.45
#: Rows at the beginning, and those that each day inserts, updates in a range and at single places, and deletes.
ROWS, INSERTED, UPDATED, PLACES, DELETED = 6_000, 30, 25, 2, 15
#: The bytes of a SQLite file that each copy by SQLite sets: the counters of changes, of the schema, and of its version.
COUNTERS = (slice(24, 28), slice(40, 44), slice(92, 96))
SCHEMA = (
    """select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute
    where attrelid = 'posts'::regclass and attnum > 0 order by attnum""",
    "select indexdef from pg_indexes where schemaname = 'public' order by indexname",
)


class App:
    """A database at work."""

    def __init__(self, database: ComparedDatabase) -> None:
        self.database, self._next = database, 0
        self._random = random.Random(7)  # noqa: S311 - no secret
        database.run(
            "create table posts (id integer primary key, author integer not null, body varchar(400) not null)",
            "create index posts_author on posts (author)",
        )
        while self._next < ROWS:
            self._insert(2000)

    def work(self, day: int) -> None:
        """Insert rows at the end, update a range that moves and single rows, and delete the oldest rows."""
        self._insert(INSERTED)
        begin = ROWS // 3 + day * UPDATED
        places = [str(self._random.randrange(ROWS // 2, self._next)) for _ in range(PLACES)]
        self.database.run(
            f"update posts set author = author + 1 where id >= {begin} and id < {begin + UPDATED}",
            f"update posts set body = '{self._create_text()}' where id in ({', '.join(places)})",
            f"delete from posts where id < {day * DELETED}",
        )
        if day in REBUILT:
            _rebuild(self.database)

    def _insert(self, count: int) -> None:
        rows = (
            f"({key}, {self._random.randrange(500)}, '{self._create_text()}')"
            for key in range(self._next, self._next + count)
        )
        self.database.run(f"insert into posts values {', '.join(rows)}")
        self._next += count

    def _create_text(self) -> str:
        return self._random.randbytes(self._random.randrange(40, 200)).hex()


def _rebuild(database: ComparedDatabase) -> None:
    if database.engine != "sqlite":
        database.run(REBUILD[database.engine])
        return
    with closing(sqlite3.connect(database.url)) as connection:  # not in a transaction
        connection.execute(REBUILD["sqlite"])


def compute_digest(database: ComparedDatabase) -> str:
    """Return the digest of all bytes of a file, or of the schema and all rows of a database on a server."""
    if database.engine == "sqlite":
        content = bytearray(Path(database.url).read_bytes())
        for counter in COUNTERS:
            content[counter] = bytes(4)
        return sha256(content).hexdigest()
    schema = database.results(*SCHEMA)
    return sha256(repr((schema, database.content())).encode()).hexdigest()


class Backups:
    """What the files of the repository of the app show without dbctl."""

    def __init__(self, folder: Path) -> None:
        manifests = [json.loads(path.read_text()) for path in sorted(folder.glob("*/manifest.json"))]
        self.sizes = {
            path.parent.name: sum(file.stat().st_size for file in path.parent.iterdir())
            for path in folder.glob("*/manifest.json")
        }
        bases = {
            manifest["backup"]["id"]: {member["stored_in"], (member["delta"] or {}).get("backup", "")} - {""}
            for manifest in manifests
            for member in manifest["backup"]["members"]
        }
        self.bases = {name: ids for name, ids in bases.items() if ids}

    def count_dependents(self, base: str) -> int:
        return sum(base in bases for bases in self.bases.values())

    def list_bases(self, names: Collection[str]) -> set[str]:
        """Return the bases of backups."""
        return set().union(*(self.bases.get(name, ()) for name in names))


class Scenario:
    """The app, its incremental and its full backups, and the time of the commands."""

    def __init__(self, app: App, copy: ComparedDatabase, folder: Path, answer) -> None:
        self.app, self.copy, self.folder, self._answer = app, copy, folder, answer
        self.digests: dict[str, str] = {}  #: of the content, by the id of its backup
        self.retained_in_full: set[str] = set()  #: the backups that the same retention needs if all are full
        self.pinned = ""

    def run(self, *words: str, app: str = "live", status: int = 0):
        return self._answer(*words, "--app", app, status=status)

    def read(self) -> Backups:
        return Backups(self.folder / "backups/live")

    def back_up(self, day: int) -> None:
        if day not in QUIET:
            self.app.work(day)
        backup = self.run("backup", "create")["data"]
        full = self.run("backup", "create", app="full")["data"]
        assert backup["id"] == full["id"]  # both were created at the simulated time
        if day in QUIET and self.app.database.engine == "sqlite":
            assert backup["bytes"] == 0
            assert [path.name for path in (self.folder / "backups/live" / backup["id"]).iterdir()] == [
                "manifest.json"
            ]
        self.digests[backup["id"]] = compute_digest(self.app.database)
        if day == PINNED:
            self.pinned = backup["id"]
            assert self.pinned in self.read().bases
            for app in ("live", "full"):
                self.run("backup", "pin", self.pinned, "--reason", "before the audit", app=app)

    def prune(self) -> None:
        """Prune both repositories; the plan and the result state the bases, and no difference loses its base."""
        plan = self.run("backup", "prune", "--dry-run")["data"]["plan"]
        result = self.run("backup", "prune", "--yes")["data"]
        reasons = {backup["id"]: backup["reasons"] for backup in result["retained"]}
        full = self.run("backup", "prune", "--yes", app="full")["data"]
        self.retained_in_full = {backup["id"] for backup in full["retained"]}
        backups = self.read()
        assert backups.sizes.keys() == reasons.keys()
        assert backups.list_bases(backups.bases) <= backups.sizes.keys()
        stated = {name: texts[-1] for name, texts in reasons.items() if texts[-1].startswith("the base of")}
        assert stated == {
            base: f"the base of {model.format_count(backups.count_dependents(base), 'retained backup')}"
            for base in backups.list_bases(backups.bases)
        }
        if result["deleted"]:
            assert {f"retain {name}: {', '.join(texts)}" for name, texts in reasons.items()} <= set(
                plan["steps"]
            )
        assert backups.sizes.keys() == self.retained_in_full | backups.list_bases(self.retained_in_full)

    def restore(self, backup: str, *options: str) -> str:
        """Restore a backup into the copy; return the digest of its content."""
        self.run("restore", "apply", backup, "--to", self.copy.url, "--replace", "--yes", *options)
        return compute_digest(self.copy)

    def restore_all(self, names: Collection[str], *options: str) -> None:
        assert {name: self.restore(name, *options) for name in names} == {
            name: self.digests[name] for name in names
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def scenario(request, tmp_path, monkeypatch, answer):
    with (
        empty_database(request.param, tmp_path / "live.db") as live,
        empty_database(request.param, tmp_path / "copy.db") as copy,
    ):
        sections = [CONFIGURATION.format(name=name, url=live.url) for name in ("full", "live")]
        (tmp_path / "dbctl.toml").write_text("".join(sections) + INCREMENTAL)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
        yield Scenario(App(live), copy, tmp_path, answer)


class Clock:
    """Replaces ``datetime`` of ``dbctl.model``, where the project reads the time."""

    def __init__(self) -> None:
        self.time = BEGIN

    def now(self, zone) -> datetime:
        return self.time.astimezone(zone)


@pytest.mark.slow
def test_backups_of_sixty_days(scenario, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(model, "datetime", clock)
    for day in range(DAYS):
        clock.time = BEGIN + timedelta(days=day)
        scenario.back_up(day)
        scenario.prune()
        engine = scenario.app.database.engine
        if day in INSPECTED[engine]:
            scenario.restore_all(sorted(scenario.read().sizes)[:: RESTORED[engine]])
    full = Backups(scenario.folder / "backups/full")
    assert sum(scenario.read().sizes.values()) <= MAX_SHARE * sum(full.sizes.values())
    delete_base(scenario)
    drill_difference(scenario)
    copy_to_storage_and_back(scenario, monkeypatch)


def delete_base(scenario):
    """Delete the base of the pinned difference, which is refused, and then together with its differences."""
    pinned, before = scenario.pinned, scenario.read()
    (base,) = before.bases[pinned]
    expected = {base} | {name for name, required in before.bases.items() if base in required}
    delete = ("backup", "delete", base, "--yes")
    assert scenario.run(*delete, status=6)["error"]["code"] == "backup-required"
    assert scenario.run(*delete, "--with-dependents", status=6)["error"]["code"] == "backup-pinned"
    assert scenario.read().sizes == before.sizes
    scenario.run("backup", "unpin", pinned)
    assert scenario.run(*delete, status=6)["error"]["code"] == "backup-required"
    deleted = scenario.run(*delete, "--with-dependents")["data"]["deleted"]
    assert set(deleted) == expected
    assert scenario.read().sizes.keys() == before.sizes.keys() - expected


def drill_difference(scenario):
    newest = max(scenario.digests)
    assert newest in scenario.read().bases
    result = scenario.run("backup", "drill", newest)["data"]
    assert [drill["backup"] for drill in result["databases"]] == [newest]
    assert newest in scenario.read().sizes


def copy_to_storage_and_back(scenario, monkeypatch):
    (scenario.folder / "staging").mkdir(mode=0o700)
    address = f"s3://{storage.use_new_bucket(monkeypatch, scenario.folder / 'staging').name}/sixty"
    scenario.run("backup", "copy", "--to", address)
    scenario.run("backup", "copy", "--from", address, "--to", "returned")
    assert read_files(scenario.folder / "returned/live") == read_files(scenario.folder / "backups/live")
    scenario.run("backup", "verify", "--deep", "--repository", "returned")
    scenario.restore_all(sorted(scenario.read().bases)[:1], "--repository", address)


def read_files(repository):
    """Return the digest of each file of the backups, except the records of verifications and drills."""
    return {
        str(path.relative_to(repository)): sha256(path.read_bytes()).hexdigest()
        for path in repository.glob("2*/*")
        if path.name != "verified.json"
    }
