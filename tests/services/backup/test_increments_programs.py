"""Incremental backups when rdiff is missing, fails, is killed or prints rubbish, and the rules for full copies."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from dbctl import model
from dbctl.model import now
from dbctl.services.backup import increments
from tests.services.backup.test_increments import change, configure, create, read_delta, small  # noqa: F401 - a fixture

#: What replaces one action of rdiff.
FAILURES = {
    "killed": "kill -9 $$",
    "killed half-way": '"$REAL" "$@" | head -c 700; kill -9 $$',
    "failing": "echo broken >&2; exit 1",
    "rubbish": "echo rubbish",
    "silent": "exit 0",
}


@pytest.fixture
def replace_rdiff(tmp_path, monkeypatch):
    """Replace an action of rdiff (``signature``, ``delta`` or ``patch``) with a shell command."""
    real = shutil.which("rdiff")

    def replace(action, command):
        (tmp_path / "bin").mkdir(exist_ok=True)
        program = tmp_path / "bin" / "rdiff"
        program.write_text(
            f'#!/bin/bash\nREAL={real}\nfor word in "$@"; do [ "$word" = {action} ] && {{ {command}; exit; }}; done\nexec "$REAL" "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return program.unlink

    return replace


def list_stored_files(app, backup):
    return sorted(entry.name for entry in (app.folder / "backups" / "larder" / backup["id"]).iterdir())


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("action", ["signature", "delta", "patch"])
def test_failing_rdiff_makes_backup_full(answer, small, replace_rdiff, action, failure):  # noqa: F811
    first = create(answer)
    change(small)
    restore_rdiff = replace_rdiff(action, FAILURES[failure])
    created = create(answer, *(["--full"] if action == "signature" else []))
    assert read_delta(created) is None
    expected = sorted(["manifest.json", *(member["file"] for member in created["members"])])
    assert list_stored_files(small, created) == expected
    assert created["remarks"] or (action == "signature" and failure in ("rubbish", "silent"))
    restore_rdiff()
    change(small, 2)
    following = create(answer)
    change(small, 3)
    assert read_delta(create(answer))["backup"] in (created["id"], following["id"])
    answer("backup", "verify", "--deep")
    state = small.folder / "state" / "signatures"
    assert not [entry.name for entry in state.iterdir() if "-new-" in entry.name]
    assert first["id"] in {backup["id"] for backup in answer("backup", "list")["data"]["items"]}


@pytest.mark.parametrize("failure", ["killed", "killed half-way", "failing", "rubbish", "silent"])
def test_failing_rdiff_restores_nothing(answer, small, replace_rdiff, failure):  # noqa: F811
    create(answer)
    change(small)
    backup = create(answer)
    assert read_delta(backup)
    before = small.content()
    restore_rdiff = replace_rdiff("patch", FAILURES[failure])
    error = answer("restore", "apply", backup["id"], "--yes", status=None)["error"]
    assert small.content() == before
    assert "rdiff" in error["message"] or failure in ("rubbish", "silent"), error
    restore_rdiff()
    answer("restore", "apply", backup["id"], "--yes")


def test_missing_rdiff_makes_backup_full_and_is_named_by_restore(answer, small, tmp_path, monkeypatch):  # noqa: F811
    create(answer)
    change(small)
    backup = create(answer)
    monkeypatch.setenv("PATH", str(tmp_path))
    full = create(answer)
    assert read_delta(full) is None
    assert any("rdiff is not installed (package rdiff)" in remark for remark in full["remarks"]), full
    for words in (["restore", "apply", backup["id"], "--yes"], ["backup", "verify", backup["id"], "--deep"]):
        error = answer(*words, status=None)["error"]
        assert (error["code"], "rdiff" in error["message"] + error["hint"]) == ("client-missing", True), error


def test_rules_for_full_copies(answer, small):  # noqa: F811
    configure(small.folder, "max_dependents = 2")
    ids = []
    for number in range(6):
        change(small, number)
        ids.append(create(answer))
    assert [read_delta(backup) is None for backup in ids] == [True, False, False, True, False, False]
    assert any("is the base of 2 backups" in remark for remark in ids[3]["remarks"])


def test_old_base_gets_no_difference(answer, small, monkeypatch):  # noqa: F811
    create(answer)
    for days, is_full in ((29, False), (31, True)):
        monkeypatch.setattr(increments, "now", lambda days=days: now() + timedelta(days=days))
        change(small, days)
        backup = create(answer)
        assert (read_delta(backup) is None) == is_full
        assert any("is older than 30d" in remark for remark in backup["remarks"]) == is_full


@pytest.fixture
def set_clock(monkeypatch):
    """Return a function that sets the clock to a day."""

    class Clock:
        time = now()

        def now(self, zone):
            return self.time.astimezone(zone)

    clock = Clock()
    monkeypatch.setattr(model, "datetime", clock)

    def set_day(*day):
        clock.time = datetime(*day, tzinfo=UTC)

    return set_day


@pytest.mark.slow
def test_differences_after_the_clock_was_set_back_and_corrected(answer, small, set_clock):  # noqa: F811
    contents = {}

    def back_up(*day):
        set_clock(*day)
        change(small, len(contents))
        backup = create(answer)
        contents[backup["id"]] = small.content()
        return backup

    base = back_up(2026, 5, 1)
    assert read_delta(back_up(2026, 5, 2))["backup"] == base["id"]
    early = back_up(2020, 1, 1)
    assert read_delta(early) is None
    assert any(f"{base['id']} is from the future" in remark for remark in early["remarks"]), early
    assert read_delta(back_up(2020, 1, 2))["backup"] == early["id"]
    following = back_up(2026, 5, 3)
    assert read_delta(following) is None
    assert any(f"{early['id']} is older than 30d" in remark for remark in following["remarks"]), following
    assert read_delta(back_up(2026, 5, 4))["backup"] == following["id"]
    answer("backup", "verify", "--deep")
    assert answer("backup", "list")["data"]["items"][0]["id"] == next(reversed(contents))
    for name, content in contents.items():
        answer("restore", "apply", name, "--yes")
        assert small.content() == content
    retained = answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["retained"]
    assert {item["id"] for item in retained} >= {following["id"], next(reversed(contents))}
    answer("backup", "verify", "--deep")


def test_backup_with_a_rate_limit_stores_a_difference(answer, small):  # noqa: F811
    create(answer)
    change(small)
    assert read_delta(create(answer, "--limit-rate", "20M"))
    answer("backup", "verify", "--deep")


def test_difference_of_damaged_database_leaves_no_file(answer, tmp_path, monkeypatch):
    """A database that fails after its difference was stored is omitted without a trace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    names = ("first", "second")
    tables = "".join(
        f'[databases.{name}]\nengines = ["sqlite"]\nfind = ["{name}.db"]\nneeds = ["t"]\n' for name in names
    )
    (tmp_path / "two.toml").write_text(f'schema = "dbctl.profile/1"\nname = "two"\ntitle = "Two"\n{tables}')
    for name in names:
        with closing(sqlite3.connect(f"{name}.db")) as db, db:
            db.execute("create table t (a integer primary key, b text unique)")
            db.executemany("insert into t (b) values (?)", [(f"{index:0500}",) for index in range(200)])
    answer("init", "./two.toml", ".", "--app", "two")
    config = tmp_path / "dbctl.toml"
    text = config.read_text()
    assert "repository = " in text
    config.write_text(text.replace("repository = ", "incremental = true\nrepository = ", 1))
    base = create(answer)
    with closing(sqlite3.connect("second.db")) as db, db:
        db.execute("insert into t (b) values ('one more')")
    with closing(sqlite3.connect("first.db")) as db, db:
        db.execute("insert into t (b) values ('one more')")
    mixed = create(answer)
    assert [member["delta"]["backup"] for member in mixed["members"]] == [base["id"]] * 2
    with (tmp_path / "second.db").open("r+b") as file:  # a small difference, which the verification refuses
        file.seek((tmp_path / "second.db").stat().st_size // 2)
        file.write(b"\xff" * 4096)
    created = create(answer, status=12)
    assert {member["database"] for member in created["members"]} == {"first"}, created
    stored = {entry.name for entry in (tmp_path / "backups").rglob("*") if entry.parent.name == created["id"]}
    assert [member["stored_in"] for member in created["members"]] == [mixed["id"]]
    assert stored == {"manifest.json"}
    findings = answer("backup", "verify", created["id"], "--deep")["data"]["findings"]
    assert [finding["code"] for finding in findings] == ["backup-lacks-database"]
