"""``profiles learn`` of a running app on PostgreSQL: the state before the action is a snapshot, and only else a loaded copy."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import closing

import psycopg
import pytest

from dbctl.extensions.drafts.learning import learn as learning
from tests import servers
from tests.extensions.drafts.learning.running_app import RunningApp

END_SESSIONS = """select pg_terminate_backend(pid, 10000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%'"""
#: Runs statements, each in a transaction of its own.
SCRIPT = """import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as db:
    for statement in sys.argv[2:]:
        db.execute(statement)"""
#: What the app writes with a new password.
TABLES = {"accounts", "event_log"}


@pytest.fixture
def app_without_scratch(tmp_path, answer, private_temp):
    """The app on a server whose user may not create databases, so that no copy can be loaded."""
    with servers.postgresql_database(encoding="UTF8") as url, closing(servers.connection(url)) as own:
        role = f"{url.path}_role"
        own.execute(f"create role {role} login password 'secret'")
        own.execute(f"grant create on schema public to {role}")
        try:
            address = servers.text(url, schema=False).replace(f"{url.user}@", f"{role}:secret@", 1)
            yield RunningApp(address, tmp_path, answer)
        finally:
            own.execute(f"drop owned by {role}; drop role {role}")


def learn(app, *statements, status=0):
    """Set a password in the app, and run statements."""
    run = shlex.join([sys.executable, "-c", SCRIPT, app.address, *statements])
    after = f"{app.command('set-password')} && {run}"
    return app.learn("set-password", "--login", "bob", after=after, status=status)


def read_tables(app):
    (folder,) = app.profile.with_suffix(".recordings").iterdir()
    return {change["table"] for change in json.loads((folder / "recording.json").read_text())["changes"]}


@pytest.mark.slow
def test_no_copy_is_loaded(app_without_scratch):
    learn(app_without_scratch)
    assert read_tables(app_without_scratch) == TABLES


@pytest.mark.slow
def test_app_is_not_blocked_by_the_snapshot(postgresql_app):
    lock = "begin; lock table accounts, notes, event_log in access exclusive mode nowait; commit"
    learn(postgresql_app, lock)
    assert read_tables(postgresql_app) == TABLES


@pytest.mark.slow
@pytest.mark.parametrize(
    "statements",
    [
        ["alter table notes alter title type text"],
        ["vacuum full notes"],
        [END_SESSIONS],
        [
            "create temporary table saved as select * from notes",
            "truncate notes",
            "insert into notes select * from saved",
        ],
    ],
    ids=["rewritten", "vacuumed", "lost", "truncated"],
)
def test_copy_is_loaded_when_the_snapshot_is_incomplete(postgresql_app, statements):
    learn(postgresql_app, *statements)
    assert read_tables(postgresql_app) == TABLES


@pytest.mark.slow
def test_copy_that_cannot_be_loaded_is_an_error(app_without_scratch):
    error = learn(app_without_scratch, "alter table notes alter title type text", status=6)["error"]
    assert error["code"] == "privilege-missing"
    app_without_scratch.assert_untouched()


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement", ["alter table notes rename to pages", "alter table notes rename title to name"]
)
def test_renamed_table_is_another_database(postgresql_app, statement):
    error = learn(postgresql_app, statement, status=4)["error"]
    assert error["code"] == "states-unrelated"
    postgresql_app.assert_untouched()


@pytest.mark.slow
def test_recording_has_the_state_of_the_snapshot(postgresql_app, answer):
    learn(postgresql_app)
    words = ["--url", postgresql_app.address, "profiles", "prove", str(postgresql_app.profile)]
    (result,) = answer(*words, status=None)["data"]["recordings"]
    assert result["reason"] == ""
    # the app writes times in another form
    assert [difference["column"] for difference in result["differences"]] == ["updated_at"]


@pytest.mark.slow
def test_table_that_is_replaced_during_the_comparison_is_an_error(postgresql_app, monkeypatch):
    read_changes = learning.read_changes

    def read_and_replace(*states):
        yield from read_changes(*states)
        with psycopg.connect(postgresql_app.address) as db:
            db.execute("truncate sessions")

    monkeypatch.setattr(learning, "read_changes", read_and_replace)
    assert learn(postgresql_app, status=4)["error"]["code"] == "states-unrelated"
    postgresql_app.assert_untouched()
