"""Commits that wait for a synchronous standby which does not answer."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing

import pytest

from tests import servers
from tests.crash import forge
from tests.databases import PostgreSQL

pytestmark = pytest.mark.slow
WAITING = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"


@pytest.fixture
def app(tmp_path):
    """Configure an app whose server waits for a standby that does not exist, and yield its database."""
    with servers.own_postgresql("synchronous_standby_names=absent") as server:
        database = PostgreSQL(servers.parse_url(server.url))
        database.run(
            "alter system set synchronous_commit = 'local'",
            "select pg_reload_conf()",
            "set synchronous_commit = 'local'",
            "create table notes (id integer primary key, text text)",
            "insert into notes values (1, 'old')",
            "create role app login",
            "grant all on all tables in schema public to app",
            "grant create on schema public to app",
            "alter role app set synchronous_commit = 'on'",
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.plain]\nprofile = "plain"\ndatabases = "{server.url.replace("postgres@", "app@")}"\n'
            'migrations = { main = "sql" }\nbackup = { repository = "backups" }\n'
        )
        (tmp_path / "sql").mkdir()
        (tmp_path / "sql/001_more.sql").write_text("create table more (id integer primary key);")
        yield database


def interrupt(folder, database, *words, status=1):
    """Run a command, and send a signal when it waits for the standby; return its error code."""
    state = {"DBCTL_STATE": str(folder / "state")}
    job = forge.start(folder, *words, "-o", "json", environment=state)
    deadline = time.monotonic() + 30
    with closing(servers.connection(database.own)) as connection:
        while connection.execute(WAITING).fetchone() == (0,):
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    job.send_signal(signal.SIGINT)
    ended, result = forge.wait_for_result(job)
    assert ended == status, result
    return result["error"]["code"]


def test_interrupted_wait_for_standby_is_no_rollback(app, tmp_path):
    state = {"DBCTL_STATE": str(tmp_path / "state")}
    code = interrupt(tmp_path, app, "data", "set", "notes", "1", "text=new")
    assert code == "commit-unconfirmed"
    assert app.rows("select text from notes") == [("new",)]
    _, listed = forge.run(tmp_path, "audit", "list", environment=state)
    (operation,) = listed["data"]["items"]
    assert operation["result"] == "committed"


def test_interrupted_commit_to_which_the_server_does_not_respond_is_in_doubt(app, tmp_path):
    """The process of the server stops, and commits when it continues."""
    state = {"DBCTL_STATE": str(tmp_path / "state")}
    job = forge.start(tmp_path, "data", "set", "notes", "1", "text=new", "-o", "json", environment=state)
    deadline = time.monotonic() + 30
    while not (waiting := app.rows("select pid from pg_stat_activity where wait_event = 'SyncRep'")):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ((pid,),) = waiting
    os.kill(pid, signal.SIGSTOP)
    try:
        job.send_signal(signal.SIGINT)
        status, result = forge.wait_for_result(job)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (status, result["error"]["code"]) == (1, "commit-in-doubt")
    while app.rows("select text from notes") != [("new",)]:
        assert time.monotonic() < deadline + 30
        time.sleep(0.05)
    _, listed = forge.run(tmp_path, "audit", "list", environment=state)
    (operation,) = listed["data"]["items"]
    assert operation["result"] == "open"


def test_migration_without_confirmation_of_standby_is_applied(app, tmp_path):
    app.run(
        "set synchronous_commit = 'local'",
        "create table schema_migrations (version varchar(128) primary key)",
        "grant all on schema_migrations to app",
        "drop table notes",
    )
    assert interrupt(tmp_path, app, "migrate", "up", "--yes") == "commit-unconfirmed"
    assert app.rows("select version from schema_migrations") == [("001",)]


def test_drill_waits_for_no_standby_and_an_interrupted_restore_leaves_no_database(app, tmp_path):
    databases = "select datname from pg_database order by 1"
    app.run("alter role app superuser")
    before = app.rows(databases)
    for words in (("create",), ("drill",), ("verify", "latest", "--deep")):
        status, answer = forge.run(tmp_path, "backup", *words)
        assert status == 0, answer
    assert app.rows(databases) == before
    assert interrupt(tmp_path, app, "restore", "apply", "latest", "--yes", status=130) == "interrupted"
    assert app.rows(databases) == before
    assert app.rows("select text from notes") == [("old",)]
