"""What a look over a deployment finds, that each remedy can be copied and helps, and that nothing is written."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pexpect
import pytest

from dbctl.cli.main import main
from dbctl.engines.file_locks import write_lock
from dbctl.files import mounts
from tests.profiles.test_larder import PROFILE
from tests.services import flashpoint_app
from tests.services.flashpoint_app import run
from tests.shapes.flashpoint_web import launcher_extras_db, sixth_app_db

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root gives files away")
NOBODY = 65534
CLONE = Path(__file__).parents[3]
#: bcrypt of "admin123", at cost 4.
KNOWN_HASH = "$2b$04$QLn8R75FtucGXd07J5vvteEt0QmAcMSYQ9ZkiCRWiHBv6Azh23zTe"

HOLD = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('update users set updated_at = hex(randomblob(8))'); c.execute('begin'); c.execute('select * from users').fetchone(); print('x', flush=True); time.sleep(60)"
LEAVE = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('update users set updated_at = hex(randomblob(8))'); os._exit(9)"
CUT_OFF = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('pragma cache_size = 1'); c.execute('begin immediate'); c.execute('update users set email = hex(randomblob(3000))'); os._exit(9)"


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    """A deployment with which nothing is wrong."""
    path = flashpoint_app.settle_sound(tmp_path, request.param)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def ask(answer):
    def run(*words):
        told = answer("doctor", *words, status=None)
        return told["data"]["findings"] if told["data"] else told["error"]

    return run


@pytest.fixture(params=flashpoint_app.SHAPES)
def open_path(request, monkeypatch):
    """The same where everybody may enter every directory above it: what pytest makes is closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        if not all(above.stat().st_mode & 0o001 for above in place.parents):
            pytest.skip("temporary files are closed to others here")
        monkeypatch.chdir(place)
        yield flashpoint_app.settle_sound(place, request.param)
        monkeypatch.undo()


def codes(found):
    return [(one["severity"], one["code"]) for one in found]


def trace(folder):
    """Everything of every file, to prove that nothing was touched."""
    return {
        one.name: (one.stat().st_mtime_ns, one.stat().st_ino, one.is_file() and one.read_bytes())
        for one in [folder, *folder.iterdir()]
    }


def python(code, path):
    return subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True
    )


@contextmanager
def held(path):
    """A reader in another process that never ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def copied(line):
    """Do what a remedy says, as who copies it into a shell."""
    if line.startswith("sqlite3") and not shutil.which("sqlite3"):
        pytest.skip("sqlite3 is not installed")
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def execute(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(sql)


def test_nothing_is_found_in_a_sound_deployment_and_no_trace_is_left(path, ask):
    before = trace(path.parent)
    assert ask() == []
    assert trace(path.parent) == before


# Each trouble, and its remedy ----------------------------------------------------------------------------------


def known_login(path):
    run(path, f"update users set username = 'Admin', password_hash = '{KNOWN_HASH}' where username = 'root'")


def spare_room(path):
    execute(path, "create table big (a); insert into big values (zeroblob(20000000)); drop table big")


def hard_link(path):
    path.with_name("other.db").hardlink_to(path)


TROUBLES = {
    "error not-writable": lambda path: path.chmod(0o400),
    "error hard-link": hard_link,
    "error known-login": known_login,
    "error no-admin": lambda path: run(path, "update users set is_active = 0 where username = 'root'"),
    "error unknown-role": lambda path: run(
        path, "update users set role_id = 99 where username in ('ann', 'bob')"
    ),
    "warning cleanup-due": lambda path: run(
        path,
        "insert into login_attempts (username, ip_address, attempted_at) values ('x', 'y', '2024-01-01T00:00:00.000Z')",
    ),
    "warning migrations-pending": lambda path: (path.parent / "migrations" / "002_notes.sql").write_text(
        "create table notes (a text);\n"
    ),
    "info spare-room": spare_room,
    "warning left-behind": lambda path: python(LEAVE, path),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_remedy_of_a_trouble_can_be_copied_and_ends_it(path, ask, trouble):
    if trouble == "warning left-behind":
        execute(path, "pragma journal_mode = wal")
    TROUBLES[trouble](path)
    before = trace(path.parent)
    found = ask()
    assert codes(found) == [tuple(trouble.split())]
    assert found[0]["target"] == "fp/user"
    assert trace(path.parent) == before
    copied(found[0]["hint"])
    assert ask() == []


def test_what_a_killed_restore_left_is_told_with_what_removes_it_and_not_while_a_dbctl_writes(path, ask):
    for ending in ("", "-wal"):
        path.with_name(f".user.db.dbctl-0a1b2c3d.partial{ending}").write_bytes(bytes(2048))
    with write_lock(path, "fp/user", "test", timeout=0):
        assert ask() == []
    (found,) = ask()
    assert (found["severity"], found["code"], found["target"]) == ("warning", "left-behind", "fp/user")
    assert ".user.db.dbctl-0a1b2c3d.partial-wal (4 KiB)" in found["message"]
    copied(found["hint"])
    assert ask() == []


MODES = {
    ("error", "writable-by-all"): ("user.db", 0o602),
    ("warning", "readable-by-all"): ("user.db", 0o604),
    ("error", "folder-writable-by-all"): (".", 0o757),
    ("info", "readable-by-all"): ("dbctl.toml", 0o604),
}


@pytest.mark.parametrize("trouble", MODES)
def test_who_else_may_read_and_write_is_told_and_kept_out_by_the_remedy(open_path, ask, trouble):
    name, mode = MODES[trouble]
    (open_path.parent / name).chmod(mode)
    (found,) = ask()
    assert (found["severity"], found["code"]) == trouble
    copied(found["hint"])
    assert ask() == []


def test_a_file_in_a_directory_that_nobody_else_may_enter_is_open_to_nobody(open_path, ask):
    open_path.chmod(0o666)
    assert codes(ask()) == [("error", "writable-by-all"), ("warning", "readable-by-all")]
    open_path.parent.chmod(0o700)
    assert ask() == []


def test_a_directory_that_has_to_stay_open_gets_no_chmod_as_its_remedy(open_path, ask):
    open_path.parent.chmod(0o1777)
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("warning", "folder-writable-by-all")
    assert "chmod" not in found["hint"]


def test_a_password_in_the_configuration_makes_its_mode_a_warning(open_path, ask):
    file = open_path.with_name("dbctl.toml")
    file.write_text(
        file.read_text()
        + '[apps.other]\nprofile = "x"\n[apps.other.databases]\nmain = "mysql://u:s3cret@host/db"\n'
    )
    file.chmod(0o644)
    found = [one for one in ask("--app", "fp") if one["target"] == str(file)]
    assert codes(found) == [("warning", "readable-by-all")]
    assert "s3cret" not in str(found)


@as_root
def test_files_of_a_careless_root_are_given_back_to_whom_the_app_runs_as(path, ask):
    os.chown(path.parent, 4711, 4711)
    path.parent.chmod(0o755)
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("warning", "other-owner")
    assert "attempt to write a readonly database" in found["message"]
    copied(found["hint"])
    assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4711)
    assert ask() == []


@as_root
def test_a_side_file_that_the_owner_of_the_database_cannot_write_is_an_error(path, ask):
    execute(path, "pragma journal_mode = wal")
    python(LEAVE, path)
    for one in (path.parent, path, Path(f"{path}-wal")):
        os.chown(one, 4711, 4711)
    (found,) = [one for one in ask() if one["code"] == "other-owner"]
    assert (found["severity"], str(path) + "-shm" in found["message"]) == ("error", True)
    copied(found["hint"])
    assert Path(f"{path}-shm").stat().st_uid == 4711
    assert "other-owner" not in str(ask())


@as_root
def test_a_directory_in_which_the_owner_of_the_database_can_make_no_file_is_told(path, ask):
    os.chown(path, 4711, 4711)
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("warning", "folder-not-writable")
    copied(found["hint"])
    assert ask() == []


@as_root
def test_a_group_of_several_is_told_and_that_of_the_owner_alone_is_not(open_path, ask):
    os.chown(open_path, -1, 1)
    open_path.chmod(0o660)
    assert codes(ask()) == [("warning", "writable-by-group"), ("info", "readable-by-group")]
    for found in ask():
        copied(found["hint"])
    assert ask() == []
    open_path.chmod(0o660)
    os.chown(open_path, -1, 0)
    assert ask() == []


def test_changes_that_are_not_taken_in_are_told_with_who_may_hold_them(path, ask):
    execute(path, "pragma journal_mode = wal; pragma wal_autocheckpoint = 0")
    with held(path):
        execute(path, "create table big (a); insert into big values (zeroblob(20000000))")
        (found,) = ask()
    assert (found["severity"], found["code"]) == ("warning", "much-waiting")
    assert re.search(r"MiB stand beside the file of \d+ KiB", found["message"])
    copied(found["hint"])
    assert not Path(f"{path}-wal").exists()


def test_a_write_that_was_cut_off_is_told_and_not_rolled_back_by_looking(path, ask):
    execute(path, "pragma journal_mode = delete")
    python(CUT_OFF, path)
    before = trace(path.parent)
    (found,) = ask()
    assert found["code"] == "cut-off-write"
    assert trace(path.parent) == before
    copied(found["hint"])
    assert [one["code"] for one in ask()] == ["journal-not-wal"]


# What is known of users ----------------------------------------------------------------------------------------


def test_a_known_login_is_found_by_either_name_and_its_password_told_nowhere(path, capsys):
    run(path, f"update users set email = 'ADMIN', password_hash = '{KNOWN_HASH}' where username = 'root'")
    for form in ("table", "json", "jsonl", "csv", "tsv", "markdown"):
        capsys.readouterr()
        assert main(["doctor", "-o", form]) == 4
        streams = capsys.readouterr()
        assert "known-login" in streams.out
        assert "admin123" not in streams.out + streams.err


def test_a_known_login_that_is_not_active_is_only_mentioned(path, ask):
    run(path, f"update users set username = 'admin', password_hash = '{KNOWN_HASH}' where username = 'bob'")
    assert codes(ask()) == [("info", "known-login")]


def test_another_password_under_the_known_name_is_no_finding(path, ask):
    run(path, "update users set username = 'admin' where username = 'root'")
    assert ask() == []


def test_a_hash_that_would_keep_dbctl_busy_for_days_is_not_tried(path, ask):
    endless = KNOWN_HASH.replace("$04$", "$31$")
    run(path, f"update users set username = 'admin', password_hash = '{endless}' where username = 'root'")
    assert codes(ask()) == [("warning", "not-tried")]


@pytest.mark.parametrize("stored", ["", "plain", "$2b$04$short", "x" * 10_000])
def test_what_is_no_hash_fits_nothing(path, ask, stored):
    run(path, f"update users set username = 'admin', password_hash = '{stored}' where username = 'root'")
    assert codes(ask()) == [("error", "password-not-hashed")]


def test_an_app_without_users_is_not_an_error_but_told(path, ask):
    run(path, "delete from users")
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("warning", "no-admin")
    assert "users create" in found["hint"]


def test_an_app_in_which_nobody_has_the_role_of_admins_names_the_command(path, ask):
    run(path, "update users set role_id = 2")
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("error", "no-admin")
    assert "users set-role LOGIN admin" in found["hint"]


def test_an_app_whose_backups_are_missing_or_that_has_no_place_for_them_is_told(path, ask):
    config = path.with_name("dbctl.toml")
    text = config.read_text()
    config.write_text(text.replace('"backups"', '"elsewhere"'))
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("warning", "backup-due")
    copied(found["hint"])
    assert ask() == []
    config.write_text(text.partition("[apps.fp.backup]")[0])
    assert codes(ask()) == [("warning", "repository-unset")]


def test_a_backup_whose_manifest_cannot_be_read_is_an_error(path, ask):
    (manifest,) = path.parent.glob("backups/*/*/manifest.json")
    manifest.write_text("{}")
    assert codes(ask()) == [("error", "manifest-unread"), ("warning", "backup-due")]


# What keeps it from looking ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"no database at all" * 100, "not-a-database", 4),
        (b"", "wrong-app", 2),
        (None, "database-missing", 10),
    ],
)
def test_what_cannot_be_read_is_told_once_and_the_rest_is_looked_at(path, ask, capsys, content, code, status):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write('[apps.second]\nprofile = "quick.toml"\n[apps.second.databases]\nuser = "copy.db"\n')
    path.with_name("copy.db").write_bytes(path.read_bytes())
    path.with_name("copy.db").chmod(0o400)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    found = ask("--app", "fp")
    assert codes(found) == [("error", code)]
    assert main(["doctor", "--app", "fp"]) == status
    both = ask("--all-apps")
    assert [(one["target"], one["code"]) for one in both][:2] == [
        ("fp/user", code),
        ("second/user", "not-writable"),
    ]
    assert main(["doctor", "--all-apps"]) == 4


def test_a_link_that_leads_nowhere_is_named_with_its_end(path, ask):
    path.rename(path.with_name("moved.db"))
    path.symlink_to(path.with_name("elsewhere.db"))
    (found,) = ask()
    assert found["code"] == "database-missing"
    assert str(path.with_name("elsewhere.db")) in found["message"]
    assert f"the link {path}" in found["message"]


def test_a_directory_in_place_of_a_database_is_told(path, ask):
    path.unlink()
    path.mkdir()
    assert "unreachable" in {code for _, code in codes(ask())}


def test_a_database_that_is_locked_is_told_with_who_holds_it(path, ask):
    execute(path, "pragma journal_mode = delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin exclusive")
        db.execute("create table held (a)")
        (found,) = ask("--timeout", "0")
    assert found["code"] == "busy"
    assert "stats locks" in found["hint"]


def test_an_app_that_cannot_be_known_does_not_hide_the_others(path, ask):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write('[apps.broken]\nprofile = "nowhere.toml"\n[apps.broken.databases]\nuser = "x.db"\n')
    path.chmod(0o400)
    assert [(one["target"], one["code"]) for one in ask("--all-apps")] == [
        ("fp/user", "not-writable"),
        ("broken", "file-missing"),
    ]
    assert ask("--app", "broken")["code"] == "file-missing"


def test_files_that_do_not_belong_to_the_ledger_are_an_error_where_they_are_the_apps_own(path, ask):
    run(path, "insert into migrations (name, applied_at) values ('009_lost', '2026-01-01T00:00:00.000Z')")
    (found,) = ask()
    assert (found["severity"], found["code"]) == ("error", "migrations-unsound")
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace('user = "migrations"', ""))
    assert codes(ask()) == [("warning", "migrations-unsound")]


# No trace ----------------------------------------------------------------------------------------------------------


def test_what_a_killed_app_left_is_read_as_it_is(path, ask):
    execute(path, "pragma journal_mode = wal")
    python(LEAVE, path)
    known_login(path)
    python(LEAVE, path)
    before = trace(path.parent)
    assert {one["code"] for one in ask()} == {"left-behind", "known-login"}
    assert trace(path.parent) == before


def test_where_reading_would_leave_a_file_the_database_is_not_read(path, ask):
    execute(path, "pragma journal_mode = wal")
    python(LEAVE, path)
    Path(f"{path}-shm").unlink()
    before = trace(path.parent)
    assert codes(ask()) == [("warning", "left-behind"), ("error", "changes-left")]
    assert trace(path.parent) == before


def test_a_live_app_is_looked_over_without_a_change_to_what_its_readers_share(path, ask):
    execute(path, "pragma journal_mode = wal")
    with held(path):
        before = trace(path.parent)
        assert ask() == []
        assert trace(path.parent) == before


@as_root
def test_a_user_without_any_right_to_write_sees_the_same(open_path):
    run(
        open_path,
        f"update users set username = 'admin', password_hash = '{KNOWN_HASH}' where username = 'root'",
    )
    for one in open_path.parent.iterdir():
        one.chmod(0o755 if one.is_dir() else 0o644)
    code = f"""
import contextlib, importlib, io, os, pkgutil, sys
import dbctl
from dbctl.cli.main import main
for module in pkgutil.walk_packages(dbctl.__path__, "dbctl."):
    if not any(part in module.name for part in ("lancedb", "embedders", "demo", "__main__")):
        importlib.import_module(module.name)
with contextlib.redirect_stdout(io.StringIO()):  # what root can import, nobody perhaps cannot
    main(["doctor", "-o", "json"])
os.setgid({NOBODY}), os.setuid({NOBODY})
sys.exit(main(["doctor", "-o", "json"]))
"""
    before = trace(open_path.parent)
    with tempfile.TemporaryDirectory() as place:  # the clone may be below a home that others cannot enter
        Path(place).chmod(0o755)
        for name in ("dbctl", "migrations"):
            shutil.copytree(CLONE / name, Path(place) / name, ignore=shutil.ignore_patterns("__pycache__"))
        environment = {**os.environ, "PYTHONPATH": place}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )
    told = json.loads(done.stdout)
    found = {one["code"]: one["hint"] for one in told["data"]["findings"]}
    assert set(found) == {"known-login", "readable-by-all", "repository-failed"}, (
        "backups are closed to others"
    )
    assert shlex.split(found["readable-by-all"])[0] == "sudo"
    assert trace(open_path.parent) == before


# Disks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, with the deployment on it."""
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", tmp_path]
    if not ROOT or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_is_nearly_full_is_an_error_and_the_remedy_lists_the_largest(
    small_disk, monkeypatch, ask
):
    path = flashpoint_app.settle(small_disk, "deployed")
    path.chmod(0o600)
    monkeypatch.chdir(small_disk)
    (found,) = [one for one in ask() if one["code"] == "disk-full"]
    assert found["severity"] == "error"
    assert str(path) in copied(found["hint"])


def test_a_disk_that_takes_no_writes_is_an_error_and_its_database_is_read(small_disk, monkeypatch, ask):
    path = flashpoint_app.settle(small_disk, "deployed")
    execute(path, "pragma journal_mode = wal")
    monkeypatch.chdir(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    found = {one["code"]: one for one in ask()}
    assert found["read-only-disk"]["severity"] == "error"
    assert "cleanup-due" in found
    copied(found["read-only-disk"]["hint"])
    assert "read-only-disk" not in {one["code"] for one in ask()}


@pytest.mark.parametrize(("mode", "expected"), [("wal", ["network-disk"]), ("delete", [])])
def test_wal_mode_on_a_disk_of_another_machine_is_an_error(path, ask, monkeypatch, mode, expected):
    execute(path, f"pragma journal_mode = {mode}")
    table = path.with_name("mounts")
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nnas:/apps {path.parent} nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert [one["code"] for one in ask()] == expected


# Elsewhere -------------------------------------------------------------------------------------------------------------


def test_an_app_that_dbctl_has_never_heard_of_is_looked_over(tmp_path, ask):
    path = sixth_app_db(tmp_path / "larder.db")
    words = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    run(path, "delete from member_logins where ends_ms < 2e12")
    assert [(one["severity"], one["code"]) for one in ask(*words)] == [("info", "journal-not-wal")]
    execute(path, "pragma journal_mode = wal")
    assert ask(*words) == []
    run(path, f"update members set handle = 'chef', secret_hash = '{KNOWN_HASH}' where handle = 'pip'")
    run(path, "update members set enabled = 0 where kind = 'chief'")
    found = ask(*words)
    assert codes(found) == [("error", "no-admin"), ("info", "known-login")]
    for one in found:
        copied(one["hint"])
    assert ask(*words) == []


def test_the_launchers_database_is_looked_over_but_its_room_is_not_ours(tmp_path, ask, monkeypatch):
    launcher_extras_db(tmp_path / "flashpoint.sqlite")
    execute(
        tmp_path / "flashpoint.sqlite",
        "create table big (a); insert into big values (zeroblob(20000000)); drop table big",
    )
    (tmp_path / "flashpoint.sqlite").chmod(0o400)
    words = ["--profile", "flashpoint-web", "--url", f"flashpoint={tmp_path / 'flashpoint.sqlite'}"]
    assert ask(*words, "--db", "flashpoint") == []
    assert codes(ask(*words)) == [("warning", "database-unset")]


def test_a_remedy_repeats_the_configuration_that_was_named(path, ask, monkeypatch, tmp_path_factory):
    run(path, "update users set is_active = 0 where username = 'root'")
    elsewhere = tmp_path_factory.mktemp("else where")
    monkeypatch.chdir(elsewhere)
    config = os.path.relpath(path.with_name("dbctl.toml"))
    (found,) = ask("--config", config)
    monkeypatch.chdir("/")
    copied(found["hint"])
    assert ask("--config", str(path.with_name("dbctl.toml"))) == []


def test_a_terminal_shows_each_remedy_on_one_line(path):
    run(path, "update users set role_id = 99 where username in ('ann', 'bob')")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", "doctor"],
        encoding="utf-8",
        timeout=20,
        dimensions=(30, 60),
        env={**os.environ, "TERM": "xterm"},
    )
    child.expect(pexpect.EOF)
    child.close()
    (line,) = [one for one in child.before.splitlines() if "set-role" in one]
    assert re.fullmatch(r" {4}\S*dbctl users set-role --id 2 --id 3 user --app fp\s*", line)


def test_profiles_and_urls_that_make_no_sense_are_refused(path, ask):
    assert ask("--all-apps", "--profile", "flashpoint-web", "--url", "user=x")["code"] == "usage"
    assert ask("--db", "nonsense")["code"] == "database-unknown"
