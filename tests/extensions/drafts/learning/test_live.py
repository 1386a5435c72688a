"""``profiles learn`` of a running app: what its command line, or an admin at the terminal, does is compared and recorded."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import closing
from pathlib import Path

import bcrypt
import pytest


def read_recording(app, name="01-set-password"):
    return json.loads((app.profile.with_suffix(".recordings") / name / "recording.json").read_text())


def test_command_of_the_app_is_the_action(running_app):
    result = running_app.learn("set-password", "--login", "bob", after=running_app.command("set-password"))[
        "data"
    ]
    assert [line["key"] for line in result["lines"]] == ["users.password"]
    recording = read_recording(running_app)
    assert recording["subject"]["login"] == "bob"
    assert {change["table"] for change in recording["changes"]} >= {"accounts", "event_log"}
    text = running_app.profile.read_text()
    assert tomllib.loads(text)["users"]["password"] == {"column": "password_hash", "writes": "$2b$04$"}
    assert "# learned: set-password, 1 demonstration" in text


def test_second_demonstration_extends_the_profile(running_app):
    running_app.learn("set-password", "--login", "bob", after=running_app.command("set-password"))
    result = running_app.learn("set-password", "--login", "carol", after=running_app.command("set-password"))[
        "data"
    ]
    assert not result["created"]
    assert result["lines"][0]["evidence"] == "learned: set-password, 2 demonstrations"


def test_edit_of_the_profile_during_the_action_remains(sqlite_app):
    sqlite_app.learn("set-password", "--login", "bob", after=sqlite_app.command("set-password"))
    edit = f"echo '# a note of the admin' >> {sqlite_app.profile}"
    sqlite_app.learn(
        "set-password", "--login", "carol", after=f"{edit} && {sqlite_app.command('set-password')}"
    )
    text = sqlite_app.profile.read_text()
    assert "# a note of the admin" in text
    assert "# learned: set-password, 2 demonstrations" in text


def test_profile_that_another_process_created_is_not_replaced(sqlite_app):
    edit = f"echo 'title = \"other\"' > {sqlite_app.profile}"
    answer = sqlite_app.learn(
        "set-password", "--login", "bob", after=f"{edit} && {sqlite_app.command('set-password')}", status=2
    )
    assert answer["error"]["code"] == "profile-invalid"
    assert sqlite_app.profile.read_text() == 'title = "other"\n'
    assert not sqlite_app.profile.with_suffix(".recordings").exists()


def test_password_is_nowhere_in_files(sqlite_app, tmp_path):
    seen = tmp_path / "seen"
    after = f'{sqlite_app.command("set-password")} && printf %s "$DBCTL_PASSWORD" > {seen}'
    sqlite_app.learn("set-password", "--login", "bob", after=after)
    password = seen.read_text()
    changes = read_recording(sqlite_app)["changes"]
    (image,) = next(change["images"] for change in changes if change["table"] == "accounts")
    assert bcrypt.checkpw(password.encode(), image["after"]["password_hash"].encode())
    seen.unlink()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or password.encode() not in path.read_bytes()


@pytest.mark.slow
def test_changes_without_an_action_are_unrelated(sqlite_app):
    # the command signs another user in during the demonstration, as the app did while it was watched
    words = ["--url", sqlite_app.address, "profiles", "learn", "set-password", "--to", sqlite_app.profile]
    script = f"while {sqlite_app.command('see', 'carol')} && {sqlite_app.command('log', 'tick')}; do sleep 0.05; done"
    with subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True) as busy:
        try:
            command = [sys.executable, "-m", "dbctl", *words, "--login", "bob", "-o", "json"]
            command += ["--watch", "2", "--after", f"{sqlite_app.command('set-password')} && sleep 1"]
            result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["data"]
        finally:
            os.killpg(busy.pid, signal.SIGTERM)
    assert any("without an action" in text for text in result["unrelated"])
    changes = {change["table"]: change for change in read_recording(sqlite_app)["changes"]}
    assert [image["key"] for image in changes["accounts"]["images"]] == [{"id": 2}]
    assert [image["after"]["message"] for image in changes["event_log"]["images"]] == [
        "the password of bob was changed"
    ]


class Terminal:
    """``profiles learn`` at a terminal."""

    def __init__(self, app, *words: str) -> None:
        self.text = ""
        command = [sys.executable, "-m", "dbctl", "--url", app.address, "profiles", "learn", *words]
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [*command, "--to", str(app.profile), "--watch", "0"])  # noqa: S606 - this Python

    def read_until(self, text: str) -> None:
        while text not in self.text:
            self.text += os.read(self._terminal, 4096).decode()

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def wait(self) -> int:
        """Return the exit status."""
        try:
            while data := os.read(self._terminal, 4096):
                self.text += data.decode()
        except OSError:  # the terminal is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.slow
def test_terminal_waits_for_the_action(sqlite_app, monkeypatch):
    terminal = Terminal(sqlite_app, "set-password", "--login", "bob")
    terminal.read_until("Then press Enter: ")
    password = terminal.text.partition("set the password of bob to ")[2].partition(",")[0]
    monkeypatch.setenv("DBCTL_LOGIN", "bob")
    monkeypatch.setenv("DBCTL_PASSWORD", password)
    sqlite_app.run("set-password")
    terminal.press(b"\n")
    assert terminal.wait() == 0, terminal.text
    assert "users.password" in terminal.text or "1 key" in terminal.text
    assert terminal.text.count(password) == 1


@pytest.mark.parametrize(("keys", "status"), [(b"\x03", 130), (b"\x04", 130)])
def test_interrupted_demonstration_leaves_nothing(sqlite_app, keys, status):
    terminal = Terminal(sqlite_app, "set-password", "--login", "bob")
    terminal.read_until("Then press Enter: ")
    terminal.press(keys)
    assert terminal.wait() == status, terminal.text
    sqlite_app.assert_untouched()


@pytest.mark.parametrize("delay", [0.2, 0.35, 0.5, 0.65, 0.8, 1.0])
def test_signal_at_any_moment_leaves_all_or_nothing(sqlite_app, delay):
    command = [
        sys.executable,
        "-m",
        "dbctl",
        "--url",
        sqlite_app.address,
        "profiles",
        "learn",
        "set-password",
    ]
    command += ["--login", "bob", "--to", sqlite_app.profile, "--watch", "0"]
    with subprocess.Popen([*command, "--after", sqlite_app.command("set-password")]) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
    if process.returncode:
        sqlite_app.assert_untouched()
    else:
        assert sqlite_app.profile.exists()
        assert read_recording(sqlite_app)["subject"]["login"] == "bob"


def test_terminal_is_required_without_a_command(sqlite_app, start):
    words = ["--url", sqlite_app.address, "profiles", "learn", "set-password", "--login", "bob", "--to"]
    result = start(*words, sqlite_app.profile, environment={"PATH": os.environ["PATH"]})
    assert result.returncode == 2
    assert "--after COMMAND" in result.stderr
    sqlite_app.assert_untouched()


def test_new_user_has_a_generated_login(sqlite_app, tmp_path):
    seen = tmp_path / "seen"
    # the demonstration is refused, so that only what was entered is tested
    after = f'printf "%s %s" "$DBCTL_LOGIN" "$DBCTL_EMAIL" > {seen}'
    sqlite_app.learn("create-user", after=after, status=4)
    login, email = seen.read_text().split()
    assert login.startswith("learner-")
    assert email == f"{login}@example.org"
    sqlite_app.assert_untouched()


def test_temporary_copies_are_not_synced(sqlite_app, monkeypatch):
    synced, sync = [], os.fsync

    def record_sync(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record_sync)
    sqlite_app.learn("set-password", "--login", "bob", after=sqlite_app.command("set-password"))
    assert any(path.startswith(str(sqlite_app.profile.with_suffix(".recordings"))) for path in synced)
    assert not [path for path in synced if path.startswith(tempfile.gettempdir())]


def test_damaged_database_is_refused_before_the_action(sqlite_app, tmp_path):
    with closing(sqlite3.connect(sqlite_app.address)) as db:
        ((page,),) = db.execute("select rootpage from sqlite_schema where name = 'event_log'").fetchall()
        ((size,),) = db.execute("pragma page_size").fetchall()
    with Path(sqlite_app.address).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    after = f"touch {tmp_path / 'done'}"
    answer = sqlite_app.learn("set-password", "--login", "bob", after=after, status=4)
    assert answer["error"]["code"] == "backup-failed"
    assert not (tmp_path / "done").exists()
    sqlite_app.assert_untouched()
