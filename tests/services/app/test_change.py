"""How often a change is drafted, what is opened for it, and which error comes first."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import contextmanager

import pytest

from dbctl.cli.main import main
from dbctl.config.sections import Selection
from dbctl.errors.base import Exit
from dbctl.errors.connection import ReadOnlyError
from dbctl.errors.usage import PlanChangedError
from dbctl.errors.users import LastAdminError
from dbctl.model import Plan
from dbctl.services.app.change import UNASKED, Change, PreparedChange
from dbctl.services.app.session import open_app
from dbctl.services.app.user_table import UserSelector
from dbctl.services.sessions.sessions import revoke
from dbctl.services.users.delete import delete_users
from dbctl.spec import CommandSpec, Write
from tests.databases import empty_database
from tests.services import flashpoint_app
from tools.reference import read_specs

CREATES = Write(source="input", undo=True, may_destroy=False)


@pytest.fixture
def path(tmp_path):
    return flashpoint_app.create_app(tmp_path / "app", "document")


@contextmanager
def open_with(path, writes):
    spec = CommandSpec(name="users change", answers=tuple, writes=writes)
    with open_app(Selection(config=str(path.with_name("dbctl.toml"))), timeout=1, spec=spec) as app:
        yield app


@pytest.fixture
def opened(monkeypatch):
    """The parameters with which the database was opened, in order."""
    addresses, connect = [], sqlite3.connect

    def record(*arguments, **options):
        if "user.db" in str(arguments[0]):
            addresses.append(str(arguments[0]).partition("?")[2])
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", record)
    return addresses


def count_drafts(monkeypatch):
    """Return a list that grows with each draft by whether it was on a writer."""
    drafts, draft = [], Change.__init__

    def record(self, app, database, function, **options):
        def draft_recorded(db):
            drafts.append(hasattr(db, "transaction"))
            return function(db)

        draft(self, app, database, draft_recorded, **options)

    monkeypatch.setattr(Change, "__init__", record)
    return drafts


LINES = {
    "users create eve --email eve@example.org --generate": [True],
    "roles create crew": [True],
    "settings set app.siteName Arcade": [True],
    "users deactivate ann": [True],
    "users set-role ann guest": [True],
    "users set-password ann --generate": [True],
    "users ensure ann --role guest": [True],
    "users unlock ann": [True],
    "sessions revoke ann": [True],
    "users deactivate ann --dry-run": [False],
    "data set users 2 email=eve@example.org": [False, True],
    "users deactivate ann --yes": [True],
    "users delete ann --yes": [True],
    "users create eve --email eve@example.org --generate --dry-run": [False],
    "settings set app.siteName Arcade --dry-run": [False],
}


@pytest.mark.parametrize("line", LINES)
def test_change_that_cannot_destroy_is_drafted_once(path, monkeypatch, opened, line):
    monkeypatch.chdir(path.parent)
    drafts = count_drafts(monkeypatch)
    assert main(line.split()) == 0
    assert drafts == LINES[line]
    assert "mode=rw" not in opened[0], "the file is opened for writing before it is known to be the app's"
    assert opened.count("mode=rw") == ("--dry-run" not in line)


@pytest.fixture
def larder(tmp_path):
    """An app whose sessions are deleted, with the devices of sessions."""
    path = flashpoint_app.create_larder(tmp_path)
    flashpoint_app.run_statements(
        path,
        "create table devices (name text, token text references member_logins (token) on delete cascade)",
    )
    return path


def add_device(path):
    flashpoint_app.run_statements(path, "insert into devices select 'phone', token from member_logins")


def test_change_asks_if_rows_depend_on_those_that_it_deletes(larder, monkeypatch):
    monkeypatch.chdir(larder.parent)
    drafts, line = count_drafts(monkeypatch), ["sessions", "revoke", "ana"]
    assert main([*line, "--dry-run"]) == 0
    assert main(line) == 0
    assert drafts == [False, False, True], "rows of another table may depend on sessions, so there is a plan"
    add_device(larder)
    before = flashpoint_app.read_all_rows(larder)
    assert main(["sessions", "revoke", "pip"]) == Exit.REFUSED
    assert flashpoint_app.read_all_rows(larder) == before
    assert main(["sessions", "revoke", "pip", "--yes"]) == 0
    assert flashpoint_app.read_all_rows(larder) != before


def test_plan_that_destroys_data_since_it_was_shown_is_not_applied(larder):
    with flashpoint_app.open_app(larder) as app:
        change = revoke(app, UserSelector(logins=["pip"]))
        assert change.may_destroy()
        assert not change.plan().destructive
        add_device(larder)
        before = flashpoint_app.read_all_rows(larder)
        with pytest.raises(PlanChangedError):
            change.apply(UNASKED)
        assert flashpoint_app.read_all_rows(larder) == before
        change.apply(change.plan().digest)


def test_change_without_confirmation_destroys_nothing(path):
    """Also if the declaration of its command is wrong."""
    before = flashpoint_app.read_all_rows(path)
    with open_with(path, CREATES) as app:
        change = delete_users(app, UserSelector(logins=["ann"]))
        assert not change.may_destroy()
        with pytest.raises(PlanChangedError):
            change.apply(UNASKED)
    assert flashpoint_app.read_all_rows(path) == before


def test_no_command_asks_on_a_fleet_that_does_not_ask_alone():
    for spec in read_specs().values():
        assert not (spec.fleet and spec.fleet.may_destroy and spec.writes and not spec.writes.may_destroy), (
            spec.name
        )


@pytest.mark.parametrize("login", ["ann", "root"])
def test_error_of_a_draft_precedes_that_of_a_file_that_cannot_be_written(path, opened, login):
    """A file with a second hard link is not opened for writing."""
    os.link(path, path.with_name("second.db"))

    def draft(db):
        if login == "root":
            raise LastAdminError(target=db.target, role="admin", logins="root")
        return PreparedChange(Plan(title="Change", target=db.target, steps=[]), lambda _: None)

    with open_with(path, CREATES) as app, pytest.raises(LastAdminError if login == "root" else ReadOnlyError):
        Change(app, "user", draft).apply(UNASKED)
    assert "mode=rw" not in opened


def test_writer_reads_the_tables_only_after_a_change_of_the_schema(path):
    """Otherwise it takes those of the reader that checked them."""
    with open_with(path, CREATES) as app:
        known = app.reader("user").tables()
        with app.writer("user") as db:
            assert db.tables() is known
        known = app.reader("user").tables()
        flashpoint_app.run_statements(
            path, "alter table users add column nick text", "create table new (id integer)"
        )
        with app.writer("user") as db:
            tables = db.tables()
    assert tables.keys() - known.keys() == {"new"}
    assert "nick" in tables["users"].columns


#: dbctl, which gets a signal as soon as the database has committed
INTERRUPTED = """
import os, signal, sys
from dbctl import signals
from dbctl.cli.main import main

def stop(frame, event, _):
    if event == "return" and frame.f_code.co_name in ("run", "_commit") and frame.f_locals.get("sql") == "commit":
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

signals.install_handlers()
sys.setprofile(stop)
status = main(sys.argv[1:])
print(bool(signals.pending_signal()), file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize(
    "engine",
    ["sqlite", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("postgresql", "mysql"))],
)
def test_signal_after_the_commit_does_not_hide_it(tmp_path, engine):
    environment = {**os.environ, "DBCTL_STATE": str(tmp_path / "state")}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments, "--url", f"main={database.url}", "-o", "json"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table notes (id integer primary key, text varchar(9))",
            "insert into notes values (1, 'old')",
        )
        result = run("-c", INTERRUPTED, "data", "set", "notes", "1", "text=new")
        assert database.rows("select text from notes") == [("new",)]
        assert (result.returncode, result.stderr.splitlines()[-1]) == (0, "True"), result
        assert json.loads(result.stdout)["ok"]
        (tmp_path / "more.csv").write_text("id,text\n1,one\n")
        result = run("-c", INTERRUPTED, "data", "import", "more", "more.csv", "--create")
        assert (result.returncode, result.stderr.splitlines()[-1]) == (0, "True"), result
        operations = json.loads(run("-m", "dbctl", "audit", "list").stdout)["data"]["items"]
        assert [operation["result"] for operation in operations] == ["committed"] * 2
