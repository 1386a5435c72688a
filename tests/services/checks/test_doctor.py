"""The doctor reports problems of a deployment with commands that solve them, and writes nothing."""

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
from dbctl.render.streams import Format
from tests.profiles.test_larder import PROFILE
from tests.services import flashpoint_app
from tests.services.flashpoint_app import run_script, run_statements, snapshot
from tests.shapes.flashpoint_web import larder_db, launcher_extras_db

ROOT = os.geteuid() == 0
requires_root = pytest.mark.skipif(not ROOT, reason="only root can change owners")
UNPRIVILEGED_ID = 65534
CLONE = Path(__file__).parents[3]
#: bcrypt of "admin123", at cost 4.
KNOWN_HASH = "$2b$04$QLn8R75FtucGXd07J5vvteEt0QmAcMSYQ9ZkiCRWiHBv6Azh23zTe"

READER_CODE = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('update users set updated_at = hex(randomblob(8))'); c.execute('begin'); c.execute('select * from users').fetchone(); print('x', flush=True); time.sleep(60)"
KILLED_WRITER_CODE = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('update users set updated_at = hex(randomblob(8))'); os._exit(9)"
INTERRUPTED_WRITE_CODE = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('pragma cache_size = 1'); c.execute('begin immediate'); c.execute('update users set email = hex(randomblob(3000))'); os._exit(9)"


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    """A deployment without problems."""
    path = flashpoint_app.create_valid_app(tmp_path, request.param)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run_doctor(answer):
    def run(*words):
        response = answer("doctor", *words, status=None)
        if not response["data"]:
            return response["error"]
        # without all extensions, sections of the profile have no effect
        return [finding for finding in response["data"]["findings"] if finding["code"] != "extension-absent"]

    return run


@pytest.fixture(params=flashpoint_app.SHAPES)
def open_path(request, monkeypatch):
    """A deployment without problems in a folder that all users can enter, unlike the temporary folders of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        if not all(parent.stat().st_mode & 0o001 for parent in root.parents):
            pytest.skip("other users cannot enter the temporary folder")
        monkeypatch.chdir(root)
        yield flashpoint_app.create_valid_app(root, request.param)
        monkeypatch.undo()


def list_codes(findings):
    return [(finding["severity"], finding["code"]) for finding in findings]


def run_python(code, path):
    return subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True
    )


@contextmanager
def open_reader(path):
    """Keep a read transaction open in another process."""
    with subprocess.Popen([sys.executable, "-c", READER_CODE, str(path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def run_shell(line):
    """Run the command of a hint in a shell."""
    if line.startswith("sqlite3") and not shutil.which("sqlite3"):
        pytest.skip("sqlite3 is not installed")
    result = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, (line, result.stderr)
    return result.stdout


def test_deployment_without_problems_is_not_changed(path, run_doctor):
    before = snapshot(path.parent)
    assert run_doctor() == []
    assert snapshot(path.parent) == before


# Problems and their hints -------------------------------------------------------------------------------------


def set_known_password(path):
    run_statements(
        path, f"update users set username = 'Admin', password_hash = '{KNOWN_HASH}' where username = 'root'"
    )


def add_free_pages(path):
    run_script(path, "create table big (a); insert into big values (zeroblob(20000000)); drop table big")


def add_hard_link(path):
    path.with_name("other.db").hardlink_to(path)


PROBLEMS = {
    "error not-writable": lambda path: path.chmod(0o400),
    "error hard-link": add_hard_link,
    "error known-login": set_known_password,
    "error no-admin": lambda path: run_statements(
        path, "update users set is_active = 0 where username = 'root'"
    ),
    "error role-unknown": lambda path: run_statements(
        path, "update users set role_id = 99 where username in ('ann', 'bob')"
    ),
    "warning cleanup-due": lambda path: run_statements(
        path,
        "insert into login_attempts (username, ip_address, attempted_at) values ('x', 'y', '2024-01-01T00:00:00.000Z')",
    ),
    "warning migrations-pending": lambda path: (path.parent / "migrations" / "002_notes.sql").write_text(
        "create table notes (a text);\n"
    ),
    "info free-pages": add_free_pages,
    "warning wal-leftover": lambda path: run_python(KILLED_WRITER_CODE, path),
}


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
def test_hint_command_solves_the_problem(path, run_doctor, problem):
    if problem == "warning wal-leftover":
        run_script(path, "pragma journal_mode = wal")
    PROBLEMS[problem](path)
    before = snapshot(path.parent)
    findings = run_doctor()
    assert list_codes(findings) == [tuple(problem.split())]
    assert findings[0]["target"] == "fp/user"
    assert snapshot(path.parent) == before
    run_shell(findings[0]["hint"])
    assert run_doctor() == []


def test_leftovers_of_killed_restore_are_reported_unless_locked(path, run_doctor):
    for suffix in ("", "-wal"):
        path.with_name(f".user.db.dbctl-0a1b2c3d.partial{suffix}").write_bytes(bytes(2048))
    with write_lock(path, "fp/user", "test", timeout=0):
        assert run_doctor() == []
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"], finding["target"]) == (
        "warning",
        "leftover-files",
        "fp/user",
    )
    assert ".user.db.dbctl-0a1b2c3d.partial-wal (4.0 KiB)" in finding["message"]
    run_shell(finding["hint"])
    assert run_doctor() == []


MODES = {
    ("error", "writable-by-all"): ("user.db", 0o602),
    ("warning", "readable-by-all"): ("user.db", 0o604),
    ("error", "folder-writable-by-all"): (".", 0o757),
    ("info", "readable-by-all"): ("dbctl.toml", 0o604),
}


@pytest.mark.parametrize("problem", MODES)
def test_open_permissions_are_reported_and_hint_closes_them(open_path, run_doctor, problem):
    name, mode = MODES[problem]
    (open_path.parent / name).chmod(mode)
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == problem
    run_shell(finding["hint"])
    assert run_doctor() == []


def test_mode_of_file_in_private_directory_is_not_reported(open_path, run_doctor):
    open_path.chmod(0o666)
    assert list_codes(run_doctor()) == [("error", "writable-by-all"), ("warning", "readable-by-all")]
    open_path.parent.chmod(0o700)
    assert run_doctor() == []


def test_sticky_directory_has_no_chmod_hint(open_path, run_doctor):
    open_path.parent.chmod(0o1777)
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("warning", "folder-writable-by-all")
    assert "chmod" not in finding["hint"]


def test_readable_configuration_with_password_is_a_warning(open_path, run_doctor):
    file = open_path.with_name("dbctl.toml")
    file.write_text(
        file.read_text()
        + '[apps.other]\nprofile = "x"\n[apps.other.databases]\nmain = "mysql://u:s3cret@host/db"\n'
    )
    file.chmod(0o644)
    findings = [finding for finding in run_doctor("--app", "fp") if finding["target"] == str(file)]
    assert list_codes(findings) == [("warning", "readable-by-all")]
    assert "s3cret" not in str(findings)


@requires_root
def test_files_owned_by_root_are_reported_with_chown(path, run_doctor):
    os.chown(path.parent, 4711, 4711)
    path.parent.chmod(0o755)
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("warning", "other-owner")
    assert "attempt to write a readonly database" in finding["message"]
    run_shell(finding["hint"])
    assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4711)
    assert run_doctor() == []


@requires_root
def test_unwritable_side_file_is_an_error(path, run_doctor):
    run_script(path, "pragma journal_mode = wal")
    run_python(KILLED_WRITER_CODE, path)
    for owned_path in (path.parent, path, Path(f"{path}-wal")):
        os.chown(owned_path, 4711, 4711)
    (finding,) = [finding for finding in run_doctor() if finding["code"] == "other-owner"]
    assert (finding["severity"], str(path) + "-shm" in finding["message"]) == ("error", True)
    run_shell(finding["hint"])
    assert Path(f"{path}-shm").stat().st_uid == 4711
    assert "other-owner" not in str(run_doctor())


@requires_root
def test_unwritable_directory_is_reported(path, run_doctor):
    os.chown(path, 4711, 4711)
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("warning", "folder-not-writable")
    run_shell(finding["hint"])
    assert run_doctor() == []


@requires_root
def test_only_shared_groups_are_reported(open_path, run_doctor):
    os.chown(open_path, -1, 1)
    open_path.chmod(0o660)
    assert list_codes(run_doctor()) == [("warning", "writable-by-group"), ("info", "readable-by-group")]
    for finding in run_doctor():
        run_shell(finding["hint"])
    assert run_doctor() == []
    open_path.chmod(0o660)
    os.chown(open_path, -1, 0)
    assert run_doctor() == []


def test_large_wal_is_reported_with_checkpoint_command(path, run_doctor):
    run_script(path, "pragma journal_mode = wal; pragma wal_autocheckpoint = 0")
    with open_reader(path):
        run_script(path, "create table big (a); insert into big values (zeroblob(20000000))")
        (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("warning", "wal-large")
    assert re.search(r"MiB of changes are in the -wal next to a file of [\d.]+ KiB", finding["message"])
    run_shell(finding["hint"])
    assert not Path(f"{path}-wal").exists()


def test_interrupted_write_is_reported_but_not_rolled_back(path, run_doctor):
    run_script(path, "pragma journal_mode = delete")
    run_python(INTERRUPTED_WRITE_CODE, path)
    before = snapshot(path.parent)
    (result,) = run_doctor()
    assert result["code"] == "interrupted-write"
    assert snapshot(path.parent) == before
    run_shell(result["hint"])
    assert [finding["code"] for finding in run_doctor()] == ["journal-not-wal"]


def test_interrupted_write_that_cannot_be_rolled_back_is_reported_with_the_reason(path, answer):
    run_script(path, "pragma journal_mode = delete")
    run_python(INTERRUPTED_WRITE_CODE, path)
    os.link(path, path.with_name("other.db"))  # dbctl writes to no file with two names
    error = answer("users", "list", status=10)["error"]
    assert error["code"] == "interrupted-write"
    assert "hard link" in error["message"]
    path.with_name("other.db").unlink()
    answer("users", "list")


# Users ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_known_login_is_reported_without_the_password(path, capsys):
    run_statements(
        path, f"update users set email = 'ADMIN', password_hash = '{KNOWN_HASH}' where username = 'root'"
    )
    for form in Format:
        capsys.readouterr()
        words = ["--template", "{code} {message} {hint}"] if form is Format.TEMPLATE else ["-o", form]
        assert main(["doctor", *words]) == 4
        streams = capsys.readouterr()
        assert "known-login" in streams.out
        assert "admin123" not in streams.out + streams.err


def test_known_login_of_inactive_user_is_info(path, run_doctor):
    run_statements(
        path, f"update users set username = 'admin', password_hash = '{KNOWN_HASH}' where username = 'bob'"
    )
    assert list_codes(run_doctor()) == [("info", "known-login")]


def test_known_name_with_other_password_is_not_reported(path, run_doctor):
    run_statements(path, "update users set username = 'admin' where username = 'root'")
    assert run_doctor() == []


def test_expensive_password_hash_is_not_checked(path, run_doctor):
    expensive_hash = KNOWN_HASH.replace("$04$", "$31$")
    run_statements(
        path,
        f"update users set username = 'admin', password_hash = '{expensive_hash}' where username = 'root'",
    )
    assert list_codes(run_doctor()) == [("warning", "not-tried")]


def test_missing_index_of_a_foreign_key_is_reported(path, run_doctor):
    assert "column-unindexed" not in {finding["code"] for finding in run_doctor()}
    run_statements(path, "drop index idx_users_role_id")
    (finding,) = [item for item in run_doctor() if item["code"] == "column-unindexed"]
    assert "users.role_id" in finding["message"]
    run_statements(path, finding["hint"])
    assert "column-unindexed" not in {finding["code"] for finding in run_doctor()}


@pytest.mark.parametrize("password_hash", ["", "plain", "$2b$04$short", "x" * 10_000])
def test_invalid_hash_matches_no_password(path, run_doctor, password_hash):
    run_statements(
        path,
        f"update users set username = 'admin', password_hash = '{password_hash}' where username = 'root'",
    )
    assert list_codes(run_doctor()) == [("error", "password-not-hashed")]


def test_app_without_users_is_a_warning(path, run_doctor):
    run_statements(path, "delete from users")
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("warning", "no-admin")
    assert "users create" in finding["hint"]


def test_missing_admin_is_an_error_with_command(path, run_doctor):
    run_statements(path, "update users set role_id = 2")
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("error", "no-admin")
    assert "users set-role LOGIN admin" in finding["hint"]


def test_missing_backups_and_repository_are_reported(path, run_doctor):
    config = path.with_name("dbctl.toml")
    text = config.read_text()
    config.write_text(text.replace('"backups"', '"missing"'))
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("warning", "backup-due")
    run_shell(finding["hint"])
    assert run_doctor() == []
    config.write_text(text.partition("[apps.fp.backup]")[0])
    assert list_codes(run_doctor()) == [("warning", "repository-not-configured")]


def test_unreadable_manifest_is_an_error(path, run_doctor):
    (manifest,) = path.parent.glob("backups/*/*/manifest.json")
    manifest.write_text("{}")
    assert list_codes(run_doctor()) == [("error", "manifest-unreadable"), ("warning", "backup-due")]


# Unreadable databases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"no database at all" * 100, "not-a-database", 4),
        (b"", "wrong-app", 2),
        (None, "database-missing", 10),
    ],
)
def test_unreadable_database_is_reported_once(path, run_doctor, capsys, content, code, status):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write('[apps.second]\nprofile = "quick.toml"\n[apps.second.databases]\nuser = "copy.db"\n')
    path.with_name("copy.db").write_bytes(path.read_bytes())
    path.with_name("copy.db").chmod(0o400)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    findings = run_doctor("--app", "fp")
    assert list_codes(findings) == [("error", code)]
    assert main(["doctor", "--app", "fp"]) == status
    all_findings = run_doctor("--all-apps")
    assert [(finding["target"], finding["code"]) for finding in all_findings][:2] == [
        ("fp/user", code),
        ("second/user", "not-writable"),
    ]
    assert main(["doctor", "--all-apps"]) == 4


def test_broken_link_is_reported_with_target(path, run_doctor):
    path.rename(path.with_name("moved.db"))
    path.symlink_to(path.with_name("missing.db"))
    (finding,) = [finding for finding in run_doctor() if finding["code"] == "database-missing"]
    assert str(path.with_name("missing.db")) in finding["message"]
    assert f"the link {path}" in finding["message"]


def test_directory_instead_of_database_is_reported(path, run_doctor):
    path.unlink()
    path.mkdir()
    assert "unreachable" in {code for _, code in list_codes(run_doctor())}


def test_locked_database_is_reported_with_command(path, run_doctor):
    run_script(path, "pragma journal_mode = delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin exclusive")
        db.execute("create table locked (a)")
        (finding,) = run_doctor("--timeout", "0")
    assert finding["code"] == "busy"
    assert "stats locks" in finding["hint"]


def test_invalid_app_does_not_hide_other_apps(path, run_doctor):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write('[apps.broken]\nprofile = "missing.toml"\n[apps.broken.databases]\nuser = "x.db"\n')
    path.chmod(0o400)
    assert [(finding["target"], finding["code"]) for finding in run_doctor("--all-apps")] == [
        ("fp/user", "not-writable"),
        ("broken", "file-missing"),
    ]
    assert run_doctor("--app", "broken")["code"] == "file-missing"


def test_missing_migration_files_are_reported(path, run_doctor):
    run_statements(
        path, "insert into migrations (name, applied_at) values ('009_lost', '2026-01-01T00:00:00.000Z')"
    )
    (finding,) = run_doctor()
    assert (finding["severity"], finding["code"]) == ("error", "migrations-inconsistent")
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace('user = "migrations"', ""))
    assert list_codes(run_doctor()) == [("warning", "migrations-inconsistent")]


# Unchanged files --------------------------------------------------------------------------------------------------------


def test_wal_of_killed_app_is_read_unchanged(path, run_doctor):
    run_script(path, "pragma journal_mode = wal")
    run_python(KILLED_WRITER_CODE, path)
    set_known_password(path)
    run_python(KILLED_WRITER_CODE, path)
    before = snapshot(path.parent)
    assert {finding["code"] for finding in run_doctor()} == {"wal-leftover", "known-login"}
    assert snapshot(path.parent) == before


def test_database_is_not_read_if_that_creates_files(path, run_doctor):
    run_script(path, "pragma journal_mode = wal")
    run_python(KILLED_WRITER_CODE, path)
    Path(f"{path}-shm").unlink()
    before = snapshot(path.parent)
    assert list_codes(run_doctor()) == [("warning", "wal-leftover"), ("error", "uncheckpointed-wal")]
    assert snapshot(path.parent) == before


def test_doctor_does_not_change_shared_memory_of_readers(path, run_doctor):
    run_script(path, "pragma journal_mode = wal")
    with open_reader(path):
        before = snapshot(path.parent)
        assert run_doctor() == []
        assert snapshot(path.parent) == before


@pytest.mark.slow
@requires_root
def test_unprivileged_user_gets_same_findings(open_path):
    run_statements(
        open_path,
        f"update users set username = 'admin', password_hash = '{KNOWN_HASH}' where username = 'root'",
    )
    for entry in open_path.parent.iterdir():
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    code = f"""
import contextlib, importlib, io, os, pkgutil, sys
import dbctl
from dbctl.cli.main import main
for module in pkgutil.walk_packages(dbctl.__path__, "dbctl."):
    if not any(part in module.name for part in ("lancedb", "demo", "__main__")):
        importlib.import_module(module.name)
with contextlib.redirect_stdout(io.StringIO()):  # imports modules that the unprivileged user may be unable to read
    main(["doctor", "-o", "json"])
os.setgid({UNPRIVILEGED_ID}), os.setuid({UNPRIVILEGED_ID})
sys.exit(main(["doctor", "-o", "json"]))
"""
    before = snapshot(open_path.parent)
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # other users may be unable to enter the folder of the clone
        Path(folder).chmod(0o755)
        for name in ("dbctl", "migrations"):
            shutil.copytree(CLONE / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        environment = {**os.environ, "PYTHONPATH": folder}
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )
    response = json.loads(result.stdout)
    hints = {finding["code"]: finding["hint"] for finding in response["data"]["findings"]}
    assert set(hints) == {"known-login", "readable-by-all", "repository-failed"}, (
        "the unprivileged user cannot read the repository"
    )
    assert shlex.split(hints["readable-by-all"])[0] == "sudo"
    assert snapshot(open_path.parent) == before


# Disks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    arguments = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", tmp_path]
    if not ROOT or subprocess.run(arguments, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_full_disk_is_an_error_and_hint_lists_files(small_disk, monkeypatch, run_doctor):
    path = flashpoint_app.create_app(small_disk, "deployed")
    path.chmod(0o600)
    monkeypatch.chdir(small_disk)
    (finding,) = [entry for entry in run_doctor() if entry["code"] == "disk-full"]
    assert finding["severity"] == "error"
    assert str(path) in run_shell(finding["hint"])


def test_read_only_disk_is_an_error_but_database_is_checked(small_disk, monkeypatch, run_doctor):
    path = flashpoint_app.create_app(small_disk, "deployed")
    run_script(path, "pragma journal_mode = wal")
    monkeypatch.chdir(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    findings_by_code = {finding["code"]: finding for finding in run_doctor()}
    assert findings_by_code["read-only-disk"]["severity"] == "error"
    assert "cleanup-due" in findings_by_code
    run_shell(findings_by_code["read-only-disk"]["hint"])
    assert "read-only-disk" not in {finding["code"] for finding in run_doctor()}


def test_file_that_is_mounted_read_only_is_an_error(path, run_doctor):
    if not ROOT or subprocess.run(["mount", "--bind", path, path], check=False).returncode:
        pytest.skip("mounting is not possible")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
        findings_by_code = {finding["code"]: finding for finding in run_doctor()}
        assert findings_by_code["read-only-disk"]["severity"] == "error"
        run_shell(findings_by_code["read-only-disk"]["hint"])
        assert "read-only-disk" not in {finding["code"] for finding in run_doctor()}
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize(("mode", "severity"), [("wal", "error"), ("delete", "warning")])
@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_file_on_network_disk_is_a_finding(path, run_doctor, monkeypatch, mode, severity, kind):
    run_script(path, f"pragma journal_mode = {mode}")
    table = path.with_name("mounts")
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nnas:/apps {path.parent} {kind} rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert list_codes(run_doctor()) == [(severity, "network-disk")]


# Other apps and folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_app_with_custom_profile_is_examined(tmp_path, run_doctor):
    path = larder_db(tmp_path / "larder.db")
    arguments = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    run_statements(path, "delete from member_logins where ends_ms < 2e12")
    assert [(finding["severity"], finding["code"]) for finding in run_doctor(*arguments)] == [
        ("info", "journal-not-wal")
    ]
    run_script(path, "pragma journal_mode = wal")
    assert run_doctor(*arguments) == []
    run_statements(
        path, f"update members set handle = 'chef', secret_hash = '{KNOWN_HASH}' where handle = 'pip'"
    )
    run_statements(path, "update members set enabled = 0 where kind = 'chief'")
    findings = run_doctor(*arguments)
    assert list_codes(findings) == [("error", "no-admin"), ("info", "known-login")]
    for finding in findings:
        run_shell(finding["hint"])
    assert run_doctor(*arguments) == []


def test_space_of_read_only_database_is_not_checked(tmp_path, run_doctor, monkeypatch):
    launcher_extras_db(tmp_path / "flashpoint.sqlite")
    run_script(
        tmp_path / "flashpoint.sqlite",
        "create table big (a); insert into big values (zeroblob(20000000)); drop table big",
    )
    (tmp_path / "flashpoint.sqlite").chmod(0o400)
    arguments = ["--profile", "flashpoint-web", "--url", f"flashpoint={tmp_path / 'flashpoint.sqlite'}"]
    assert run_doctor(*arguments, "--db", "flashpoint") == []
    assert list_codes(run_doctor(*arguments)) == [("warning", "database-not-configured")]


def test_hint_repeats_configuration_option(path, run_doctor, monkeypatch, tmp_path_factory):
    run_statements(path, "update users set is_active = 0 where username = 'root'")
    other_folder = tmp_path_factory.mktemp("other folder")
    monkeypatch.chdir(other_folder)
    config = os.path.relpath(path.with_name("dbctl.toml"))
    (finding,) = run_doctor("--config", config)
    monkeypatch.chdir("/")
    run_shell(finding["hint"])
    assert run_doctor("--config", str(path.with_name("dbctl.toml"))) == []


@pytest.mark.slow
def test_hint_is_one_line_in_terminal(path):
    run_statements(path, "update users set role_id = 99 where username in ('ann', 'bob')")
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", "doctor"],
        encoding="utf-8",
        timeout=20,
        dimensions=(30, 60),
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
    )
    terminal.expect(pexpect.EOF)
    terminal.close()
    (line,) = [text for text in terminal.before.splitlines() if "set-role" in text]
    assert re.fullmatch(r" {4}\S*dbctl users set-role --id 2 --id 3 user --app fp\s*", line)


def test_invalid_selections_are_refused(path, run_doctor):
    assert run_doctor("--all-apps", "--profile", "flashpoint-web", "--url", "user=x")["code"] == "usage"
    assert run_doctor("--db", "nonsense")["code"] == "database-unknown"
