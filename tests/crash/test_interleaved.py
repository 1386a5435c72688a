"""Another process commits before any statement of a change: no plan is applied that was not confirmed, and no write is lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest

from dbctl.errors.base import DbctlError
from dbctl.services.app.change import UNASKED
from dbctl.services.app.user_table import UserSelector
from dbctl.services.sessions.sessions import revoke
from dbctl.services.users.create import NewUser, create_user
from dbctl.services.users.delete import delete_users
from dbctl.services.users.update import set_active
from dbctl.spec import CommandSpec, Write
from tests.services import flashpoint_app

CREATES = Write(source="input", undo=True, may_destroy=False)
DELETES = Write(source="input", undo=True)

EVE = NewUser(fields={"username": "eve", "email": "eve@example.org"}, password_hash="$2b$04$" + "x" * 53)

OTHER_PROCESS = """
import json, sqlite3, sys
for line in sys.stdin:
    path, sql = json.loads(line)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("pragma foreign_keys = 1")
        connection.execute(sql)
        print("committed", flush=True)
    except sqlite3.Error as error:
        print(error.sqlite_errorname, flush=True)
    connection.close()
"""


@pytest.fixture(scope="module")
def other_process():
    command = [sys.executable, "-c", OTHER_PROCESS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def commit(path, sql):
            process.stdin.write(json.dumps([str(path), sql]) + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield commit
        process.stdin.close()


class Steps:
    """Calls ``act`` before the step of this number, from 1: a statement, or the opening of a file."""

    def __init__(self, monkeypatch, number, act):
        self.number, self.count, self.is_committed, self.outcome, self.is_late = number, 0, False, "", False
        self._act, self._connect = act, sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", self.connect)

    def connect(self, *arguments, **options):
        self.step("open")
        connection = self._connect(*arguments, **options)
        if "user.db" in str(arguments[0]):
            connection.set_trace_callback(self.step)
        return connection

    def step(self, sql):
        self.count += 1
        if self.count == self.number:
            self.outcome, self.is_late = self._act(), self.is_committed
        self.is_committed |= sql.lower() == "commit"


def create_journal(path, mode):
    flashpoint_app.run_statements(path, f"pragma journal_mode = {mode}")


def run_interleaved(path, monkeypatch, other_process, number, prepare, writes, sql):
    """Run a change, in which ``sql`` is committed before a step; return the steps, and the error of the change if it failed."""
    from dbctl.config.sections import Selection
    from dbctl.services.app.session import open_app

    spec = CommandSpec(name="users change", answers=tuple, writes=writes)
    config = str(path.with_name("dbctl.toml"))
    with monkeypatch.context() as patch, open_app(Selection(config=config), timeout=1, spec=spec) as app:
        change = prepare(app)
        confirmed = UNASKED
        if change.may_destroy():
            plan = change.plan()
            confirmed = plan.digest if plan.destructive else UNASKED
        steps = Steps(patch, number, lambda: other_process(path, sql))
        try:
            change.apply(confirmed)
        except DbctlError as error:
            return steps, error.code
    return steps, ""


CASES = {
    "a user who gets more rows": (
        lambda app: delete_users(app, UserSelector(logins=["ann"])),
        DELETES,
        "insert into user_game_plays (user_id, game_id, session_id) values (2, 'new', 'new')",
        "plan-changed",
    ),
    "a login that is taken": (
        lambda app: create_user(app, EVE),
        CREATES,
        "insert into users (username, email, password_hash, role_id) values ('EVE', 'other@example.org', 'x', 2)",
        "already-exists",
    ),
    "the last admin": (
        lambda app: set_active(app, UserSelector(logins=["root"]), active=False),
        DELETES,
        "update users set is_active = 0 where username = 'ann'",
        "last-admin",
    ),
    "a session with a device": (
        lambda app: revoke(app, UserSelector(logins=["ann"])),
        DELETES,
        "insert into devices select 'phone', id from refresh_tokens where user_id = 2",
        "plan-changed",
    ),
}
#: Two admins; sessions are deleted, because the column that would mark them as revoked is missing, and have devices.
PREPARED = (
    "update users set role_id = 1 where username = 'ann'",
    "alter table refresh_tokens drop column revoked_at",
    "create table devices (name text, session_id integer references refresh_tokens (id) on delete cascade)",
)


def list_changed_tables(folder, other_process, sql):
    """Return the tables that ``sql`` changes."""
    path = flashpoint_app.create_app(folder / "other", "document")
    flashpoint_app.run_statements(path, *PREPARED)
    before = flashpoint_app.read_all_rows(path)
    assert other_process(path, sql) == "committed"
    after = flashpoint_app.read_all_rows(path)
    return [name for name in before if before[name] != after[name]]


#: Each change, and one of them in the other mode of the journal, too: they have one code for the transaction.
@pytest.mark.parametrize(
    ("case", "mode"), [("a user who gets more rows", "delete"), *((case, "wal") for case in CASES)]
)
def test_commit_before_any_statement_is_seen(tmp_path, monkeypatch, other_process, case, mode):
    """A change that succeeds has the lock, or the other commit came after its own."""
    prepare, writes, sql, refusal = CASES[case]
    outcomes, number, changed = [], 0, list_changed_tables(tmp_path, other_process, sql)
    while True:
        number += 1
        folder = tmp_path / str(number)
        path = flashpoint_app.create_app(folder, "document")
        flashpoint_app.run_statements(path, *PREPARED)
        create_journal(path, mode)
        before = flashpoint_app.read_all_rows(path)
        steps, error = run_interleaved(path, monkeypatch, other_process, number, prepare, writes, sql)
        after = flashpoint_app.read_all_rows(path)
        if steps.count < number:
            break
        outcomes.append((steps.outcome, error))
        if error:
            assert (steps.outcome, error) == ("committed", refusal), number
            assert [name for name in before if before[name] != after[name]] == changed, (
                "not only the other commit"
            )
            assert other_process(path, "delete from users where 0") == "committed"
        elif steps.outcome == "committed":
            assert steps.is_late, f"the commit before step {number} was not seen"
        else:
            assert steps.outcome in {
                "SQLITE_BUSY",
                "SQLITE_CONSTRAINT_FOREIGNKEY",
                "SQLITE_CONSTRAINT_UNIQUE",
            }
    assert {("committed", refusal), ("SQLITE_BUSY", "")} <= {*outcomes}
    print(f"{case}, {mode}: {len(outcomes)} steps")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_unrelated_commit_is_retained(tmp_path, monkeypatch, other_process, mode):
    """A commit that does not change the plan is neither lost nor a reason to refuse the change."""
    sql, number = "update users set last_login_at = '2026-01-01T00:00:00.000Z' where username = 'root'", 0
    while True:
        number += 1
        path = flashpoint_app.create_app(tmp_path / str(number), "document")
        create_journal(path, mode)
        prepare = CASES["a user who gets more rows"][0]
        steps, error = run_interleaved(path, monkeypatch, other_process, number, prepare, DELETES, sql)
        if steps.count < number:
            break
        logins = dict(flashpoint_app.query_rows(path, "select username, last_login_at from users"))
        assert not error
        assert "ann" not in logins
        assert (logins["root"] == "2026-01-01T00:00:00.000Z") == (steps.outcome == "committed")
