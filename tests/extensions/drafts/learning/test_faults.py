"""Wrong demonstrations: each has its own error, and neither the profile nor a recording is written."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pyrage
import pytest

from tests.small_disk import fill


def test_nothing_changed(sqlite_app):
    sqlite_app.refuse(code="demonstration-empty")


def test_action_failed_in_the_app(sqlite_app):
    error = sqlite_app.refuse(sqlite_app.command("fail"), code="action-failed")
    assert "status 3" in error["message"]
    assert "refused: *** is too short" in error["message"]


def test_app_wrote_logs_only(sqlite_app):
    error = sqlite_app.refuse(sqlite_app.command("log", "refused"), code="demonstration-wrong")
    assert "event_log" in error["message"]


def test_two_users_were_created(sqlite_app):
    commands = sqlite_app.command("add"), sqlite_app.command("add-another", "eve")
    error = sqlite_app.refuse(*commands, code="demonstration-wrong", action="create-user", login="ida")
    assert "2 users were added: ida, eve" in error["message"]


@pytest.mark.parametrize(
    "other", [("set-email", "carol", "other@example.org"), ("add-another", "eve")], ids=["changed", "added"]
)
def test_another_admin_worked_at_the_same_time(sqlite_app, other):
    commands = sqlite_app.command("set-password"), sqlite_app.command(*other)
    error = sqlite_app.refuse(*commands, code="demonstration-wrong")
    assert "another admin worked at the same time" in error["message"]


def test_login_is_not_that_of_a_user(sqlite_app):
    error = sqlite_app.refuse(
        sqlite_app.command("set-email", "carol", "other@example.org"),
        code="demonstration-wrong",
        login="karol",
    )
    assert "no user has the login 'karol'" in error["message"]


def test_times_and_sessions_of_another_user_are_no_fault(sqlite_app):
    commands = sqlite_app.command("set-password"), sqlite_app.command("sign-in", "carol")
    sqlite_app.learn("set-password", "--login", "bob", after=" && ".join(commands))


@pytest.fixture
def states(sqlite_app, tmp_path, monkeypatch):
    """Files of the database before and after a new password of bob."""
    files = tmp_path / "before.db", tmp_path / "after.db"
    shutil.copy(sqlite_app.address, files[0])
    monkeypatch.setenv("DBCTL_LOGIN", "bob")
    monkeypatch.setenv("DBCTL_PASSWORD", "bob-new-password")
    sqlite_app.run("set-password")
    shutil.copy(sqlite_app.address, files[1])
    return files


@pytest.fixture
def learn_files(sqlite_app, start):
    """Learn from files; assert the exit code, and return the output of errors."""

    def run(before, after, *options, status, profile=None, written=False):
        words = ["profiles", "learn", "set-password", "--before", before, "--after", after, "--login", "bob"]
        words += ["--password-stdin", "--to", profile or sqlite_app.profile, *options]
        result = start(*words, environment={}, stdin=b"bob-new-password\n")
        assert result.returncode == status, result.stderr
        if not (profile or written):
            sqlite_app.assert_untouched()
        return result.stderr

    return run


def test_files_show_the_action(states, learn_files):
    learn_files(*states, status=0, written=True)


def test_states_are_exchanged(states, learn_files):
    assert "Exchange the files" in learn_files(*reversed(states), status=4)


def test_same_file_twice_is_empty(states, learn_files):
    assert "the app changed no row" in learn_files(states[0], states[0], status=4)


def test_state_of_another_installation(states, learn_files, tmp_path):
    with closing(sqlite3.connect(states[1])) as db, db:
        for login in ("admin", "carol", "dave"):
            db.execute(
                "update accounts set login = 'x-' || login, email = 'x-' || email where login = ?", [login]
            )
    assert "no other user is the same" in learn_files(*states, status=4)


def test_state_of_another_app(states, learn_files, tmp_path):
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("create table things (id integer primary key, name text)")
    assert "not of one database" in learn_files(states[0], other, status=4)


def test_profile_of_another_app(states, learn_files, tmp_path):
    other, profile = tmp_path / "other.db", tmp_path / "other.toml"
    learn_files(*states, status=0, profile=profile)
    for path in states:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("alter table accounts rename to people")
    text = profile.read_text()
    assert "not a database of other" in learn_files(*states, status=2, profile=profile)
    assert (profile.read_text(), other.exists()) == (text, False)
    assert len([*profile.with_suffix(".recordings").iterdir()]) == 1


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def damage(path):
    path.write_bytes(b"no database" * 100)


def compress_half(path):
    path.write_bytes(gzip.compress(path.read_bytes())[:1000])


def encrypt(path):
    path.write_bytes(b"age-encryption.org/v1\n-> X25519 abc\n" + bytes(100))


def delete(path):
    path.unlink()


@pytest.mark.parametrize(
    ("change", "status"),
    [(empty, 4), (truncate, 4), (damage, 2), (compress_half, 4), (encrypt, 2), (delete, 5)],
)
def test_unreadable_file_is_named(states, learn_files, change, status):
    change(states[1])
    assert "after.db" in learn_files(*states, status=status)


@pytest.fixture
def identity(states, tmp_path):
    """Encrypt the states; return the file of the key."""
    key, path = pyrage.x25519.Identity.generate(), tmp_path / "key.txt"
    for state in states:
        state.write_bytes(pyrage.encrypt(state.read_bytes(), [key.to_public()]))
    path.write_text(str(key))
    path.chmod(0o600)
    return path


def test_encrypted_states_are_decrypted_with_the_identity(sqlite_app, states, learn_files, identity):
    assert "--identity" in learn_files(*states, status=2)
    learn_files(*states, "--identity", identity, status=0, written=True)
    recorded = next(sqlite_app.profile.with_suffix(".recordings").iterdir())
    manifest = json.loads((recorded / "manifest.json").read_text())["backup"]
    assert [member["encryption"] for member in manifest["members"]] == ["none"]  # a replay needs no key


def test_encrypted_states_need_the_right_identity(states, learn_files, identity):
    identity.write_text(str(pyrage.x25519.Identity.generate()))
    assert "decrypt" in learn_files(*states, "--identity", identity, status=6)


@pytest.mark.slow
def test_backup_that_dbctl_encrypted_is_learned_and_replayed(
    sqlite_app, states, learn_files, identity, tmp_path, answer
):
    key = pyrage.x25519.Identity.from_str(identity.read_text())
    config, backups = tmp_path / "dbctl.toml", []
    for name, state in zip(("before", "after"), states, strict=True):
        state.write_bytes(pyrage.decrypt(state.read_bytes(), [key]))
        config.write_text(
            f'[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "{state}"\n'
            f'[apps.shop.backup]\nrepository = "{name}"\nkeep = {{ last = 9 }}\n'
            f'[apps.shop.backup.encrypt]\nrecipients = ["{key.to_public()}"]\n'
        )
        answer("--config", str(config), "backup", "create")
        backups += [path.parent for path in (tmp_path / name).rglob("manifest.json")]
    assert "--identity" in learn_files(*backups, status=2, written=True)
    learn_files(*backups, "--identity", identity, status=0, written=True)
    proved = answer("profiles", "prove", str(sqlite_app.profile), "--dry-run", status=None)
    (replay,) = proved["data"]["recordings"]
    assert (replay["reason"], replay["rows"] > 0) == ("", True)


def test_full_disk_of_the_profile(states, learn_files, disk):
    fill(disk, leave=2048)
    before = sorted(disk.iterdir())
    message = learn_files(*states, status=1, profile=disk / "shop.toml")
    assert "the disk is full" in message
    assert sorted(disk.iterdir()) == before


def test_folder_of_the_profile_is_read_only(sqlite_app, disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    sqlite_app.profile = disk / "shop.toml"
    error = sqlite_app.learn("set-password", "--login", "bob", after="exit 9", status=1)["error"]
    assert "its folder is read-only" in error["message"]  # before the action


def test_locked_database_is_busy(sqlite_app):
    with closing(sqlite3.connect(sqlite_app.address, isolation_level=None)) as db:
        for statement in ("begin exclusive", "create table held (a)"):
            db.execute(statement)
        options = "--login", "bob", "--timeout", "0.1"
        assert (
            sqlite_app.learn("set-password", *options, after="exit 9", status=11)["error"]["code"] == "busy"
        )
    sqlite_app.assert_untouched()
