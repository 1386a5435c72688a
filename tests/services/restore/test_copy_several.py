"""``restore apply --to`` with several databases: all destinations have the copies, or all have what they had before."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from dbctl.engines.mysql import connection
from dbctl.engines.sql.catalog import ident
from tests import databases, servers
from tests.crash.figures import choose_count
from tests.databases import ComparedDatabase
from tests.in_process import CLEAN_ENVIRONMENT, run_command

#: The engines of databases in the order in which they are replaced; the last one is blocked.
PAIRS = [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "mysql"), ("mysql", "mysql")]  # fmt: skip
NEW, OLD = ["(1,)"], ["(7,)"]


SERVERS = ("postgresql", "mysql")


def fill(database: ComparedDatabase, number: int) -> None:
    database.run("create table t (a integer)", f"insert into t values ({number})")
    if database.engine in SERVERS:
        database.run("create view v as select a from t")


def read(database: ComparedDatabase) -> list[str]:
    """Return the rows, on servers through a view; without the table, none."""
    if (database.engine not in SERVERS and not database.path.exists()) or "t" not in database.tables():
        return []
    source = "v" if database.engine in SERVERS else "t"
    return [str(tuple(row)) for row in database.rows(f"select a from {source}")]


class Pair:
    """An app with two databases, a backup of it, and destinations."""

    def __init__(self, folder: Path, sources: list, destinations: list) -> None:
        self.folder, self.destinations = folder, destinations
        for database in sources:
            fill(database, 1)
        names = ("one", "two")
        (folder / "pair.toml").write_text(
            'schema = "dbctl.profile/1"\nname = "pair"\ntitle = "Pair"\n'
            + "".join(f'[databases.{name}]\nengines = ["{database.engine}"]\n' for name, database in zip(names, sources, strict=True))
        )  # fmt: skip
        (folder / "dbctl.toml").write_text(
            '[apps.pair]\nprofile = "pair.toml"\n[apps.pair.databases]\n'
            + "".join(f'{name} = "{database.url}"\n' for name, database in zip(names, sources, strict=True))
            + '[apps.pair.backup]\nrepository = "backups"\n'
        )
        self.run("backup", "create")

    def run(self, *words: str, status: int = 0) -> dict:
        done = run_command([*words, "-o", "json"], environment=CLEAN_ENVIRONMENT, cwd=self.folder)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def list_words(self) -> list[str]:
        first, second = [database.url for database in self.destinations]
        return ["restore", "apply", "latest", "--to", f"one={first}", "--to", f"two={second}", "--replace", "--yes", "--timeout", "1"]  # fmt: skip

    def contents(self) -> list[list[str]]:
        return [read(database) for database in self.destinations]

    def wait_for_swaps(self) -> None:
        """Wait until servers have completed what a killed process sent them."""
        for database in self.destinations:
            if database.engine == "mysql":
                lock = connection.swap_lock_name(connection.lock_name(database.own.path))
                assert database.rows(f"select get_lock('{lock}', 60)") == [(1,)]

    def list_leftovers(self) -> list[str]:
        """Return files next to the destinations, and databases of dbctl on their servers."""
        names = [path.name for path in (self.folder / "out").iterdir()]
        left = [name for name in names if "lock" not in name and name not in ("copy0", "copy1")]
        for database in self.destinations:
            if database.engine in SERVERS:
                sql = "select datname::text from pg_database" if database.engine == "postgresql" else "select schema_name from information_schema.schemata"  # fmt: skip
                left += [str(name) for (name,) in database.rows(sql) if str(name).startswith(f"{database.own.path}_")]  # fmt: skip
        return left


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request, tmp_path):
    (tmp_path / "out").mkdir()
    with ExitStack() as stack:
        sources, destinations = (
            [
                stack.enter_context(databases.empty_database(engine, tmp_path / prefix / f"copy{number}"))
                for number, engine in enumerate(request.param)
            ]
            for prefix in ("", "out")
        )
        yield Pair(tmp_path, sources, destinations)


@contextmanager
def block(database: ComparedDatabase) -> Iterator[None]:
    """Let the replacement of a database fail, but not the load next to it."""
    with ExitStack() as stack:
        if database.engine == "sqlite":
            other = stack.enter_context(closing(sqlite3.connect(database.path, isolation_level=None)))
            other.execute("begin immediate")
            yield
            return
        if database.engine == "mysql":
            other = stack.enter_context(closing(servers.mysql_connection(database.own)))
            other.cursor().execute("lock tables t read")
            yield
            return
        other = stack.enter_context(closing(servers.connection(servers.postgresql())))
        with other.transaction():  # which holds the row of the database
            other.execute(f"alter database {ident(database.own.path)} connection limit 9")
            yield
            raise psycopg.Rollback


def test_copies_replace_all_destinations(pair):
    for database in pair.destinations:
        fill(database, 7)
    assert pair.contents() == [OLD, OLD]
    pair.run(*pair.list_words())
    assert pair.contents() == [NEW, NEW]
    assert pair.list_leftovers() == []


@pytest.mark.parametrize("exists", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_failure_of_the_last_destination_leaves_all_as_they_were(pair, exists):
    first, second = pair.destinations
    fill(second, 7)
    if exists:
        fill(first, 7)
    before = pair.contents()
    with block(second):
        assert pair.run(*pair.list_words(), status=11)["error"]["code"] == "busy"
    assert pair.contents() == before
    if not exists and first.engine == "sqlite":
        assert not first.path.exists()
    assert pair.list_leftovers() == []
    pair.run(*pair.list_words())
    assert pair.contents() == [NEW, NEW]


@pytest.mark.slow
def test_killed_copy_leaves_each_destination_complete(pair):
    words = [sys.executable, "-m", "dbctl", *pair.list_words()]
    environment = {**os.environ, **CLEAN_ENVIRONMENT}
    for database in pair.destinations:
        fill(database, 7)
    start = time.monotonic()
    subprocess.run(words, cwd=pair.folder, env=environment, check=True, capture_output=True)
    duration, moments = time.monotonic() - start, choose_count(4, 10)
    for number in range(moments):
        with subprocess.Popen(words, cwd=pair.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
            time.sleep(duration * (moments + number) / (2 * moments))
            process.send_signal(signal.SIGKILL)
        pair.wait_for_swaps()
        assert all(content in (OLD, NEW) for content in pair.contents())
    pair.run(*pair.list_words())
    assert pair.contents() == [NEW, NEW]
    assert pair.list_leftovers() == []


@pytest.mark.parametrize("pair", [PAIRS[0], PAIRS[3]], ids="-".join, indirect=True)
def test_two_databases_need_two_destinations(pair):
    words, contents = pair.list_words(), pair.contents()
    words[6] = words[4].replace("one=", "two=")
    error = pair.run(*words, status=2)["error"]
    assert "one and two" in error["message"]
    assert pair.contents() == contents
    assert not pair.list_leftovers()


@pytest.mark.parametrize("pair", [PAIRS[2]], ids="-".join, indirect=True)
def test_deletion_names_the_dropped_databases_although_others_were_not(pair):
    safety = pair.run("restore", "apply", "latest", "--yes")["data"]["safety_backup"]
    members = pair.run("backup", "show", safety)["data"]["members"]
    refused, dropped = (member["facts"]["kept"] for member in members)
    server = pair.destinations[0]
    server.run(f"alter database {ident(refused)} is_template true")
    try:
        result = pair.run("backup", "delete", safety, "--yes")["data"]
        assert result["dropped"] == [dropped]
        assert refused in " ".join(result["remarks"])
    finally:
        server.run(f"alter database {ident(refused)} is_template false")
        with closing(psycopg.connect(str(server.url), autocommit=True)) as session:
            session.execute(f"drop database {ident(refused)}")
