"""Encrypted backups: no plain files in the repository, compatible with ``age``, created without a key."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from contextlib import closing, suppress
from pathlib import Path

import pexpect
import pyrage
import pytest

from dbctl.config import environment
from dbctl.config.sections import Selection
from dbctl.errors.backup import BackupCorruptError, KeyInvalidError, KeyWrongError
from dbctl.errors.connection import DiskFullError, FileFailedError, FileMissingError, InsufficientSpaceError
from dbctl.errors.usage import ConfigInvalidError, DriverMissingError, KeyMissingError
from dbctl.files import mounts
from dbctl.files.atomic import NewFile
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import verification_record
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.encryption import read_passphrase
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.checks.run import examine
from dbctl.services.migrations import operations
from dbctl.services.restore.apply import find_undo_backup
from dbctl.services.restore.drill import RunDrills
from dbctl.stores.base import TEMP_PREFIX
from tests import storage
from tests.databases import on_sqlite
from tests.observed_progress import observe_progress
from tests.services import flashpoint_app, larder_app, promptvault_app
from tests.services.backup.test_app_files import PROFILE
from tests.services.backup.test_compression import change_manifest
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    apply_restore,
    create_app_backup,
    find_backup_file,
    find_backup_folder,
    list_all_backups,
    list_codes,
    undo_restore,
    verify_backups,
)

ROOT = Path(__file__).parents[3]
READ_SECONDS = 0.02  #: between two reads of all processes
#: Text of a row that no encrypted backup contains.
MARKER = b"flashpoint.example"
MAGIC = b"age-encryption.org/v1\n"
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")


@pytest.fixture(autouse=True)
def private_temp_dir(tmp_path, monkeypatch):
    """Use a temporary folder of the test for plain files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("DBCTL_BACKUP_IDENTITY_FILE", raising=False)
    monkeypatch.delenv("DBCTL_BACKUP_PASSPHRASE_FILE", raising=False)


def create_identity(folder, name="id.txt"):
    """Create a private identity file; return its recipient."""
    new_identity = pyrage.x25519.Identity.generate()
    (folder / name).touch(mode=0o600)
    (folder / name).write_text(f"{new_identity}\n")
    return str(new_identity.to_public())


def configure(path, text):
    """Replace the encryption settings of the configuration."""
    file = path.with_name("dbctl.toml")
    lines = [line for line in file.read_text().splitlines() if not line.startswith("encrypt")]
    file.write_text("\n".join([*lines, f"encrypt = {text}"]) + "\n")


def encrypt_backups(path, *, with_identity=True):
    """Configure encryption for a new identity; return its recipient."""
    recipient = create_identity(path.parent)
    option = ', identity_file = "id.txt"' if with_identity else ""
    configure(path, f'{{ recipients = ["{recipient}"]{option} }}')
    return recipient


@pytest.fixture
def deployed(tmp_path):
    return promptvault_app.create_app(tmp_path / "app", "deployed")


@pytest.fixture
def encrypted_app(deployed):
    encrypt_backups(deployed)
    return deployed


def backup_files(path):
    """Return the files of all backups except manifests and records."""
    return [
        entry
        for entry in path.with_name("backups").rglob("*")
        if entry.is_file() and entry.suffix != ".json" and not entry.name.startswith(".")
    ]


def list_staging_folders():
    """Return the temporary folders for plain files."""
    return list(environment.default_staging_folder().rglob(f"{TEMP_PREFIX}*"))


def has_no_plain_files(path):
    """Return whether no temporary plain files remain and all stored files are encrypted."""
    leftovers = [*list_staging_folders(), *path.with_name("backups").rglob(f"{TEMP_PREFIX}*")]
    return not leftovers and all(
        backup_file.read_bytes().startswith(MAGIC) for backup_file in backup_files(path)
    )


def error_text(error):
    return f"{error} {error.hint} {error.context}"


# Every engine -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=larder_app.ENGINES)
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


@pytest.mark.slow
def test_encrypted_backup_is_verified_restored_and_undone(pantry):
    recipient = encrypt_backups(pantry.path)
    before = pantry.content()
    backup = create_app_backup(pantry.path)
    (member,) = backup.members
    assert (member.encryption, backup.recipients) == ("age", [recipient])
    assert member.file == f"pantry_{backup.id}{pantry.ending}.age"
    assert member.rows == {name: len(rows) for name, rows in before.items()}
    assert has_no_plain_files(pantry.path)
    assert list_codes(verify_backups(pantry.path)) == []
    pantry.change_data()
    changed_content = pantry.content()
    result = apply_restore(pantry.path)
    assert (result.exit_status, pantry.content()) == (0, before)
    assert has_no_plain_files(pantry.path)
    undo_restore(pantry.path)
    assert pantry.content() == changed_content
    pantry.destroy()
    apply_restore(pantry.path, backup.id)
    assert pantry.content() == before
    # ``destroy`` also drops the retained databases of a server.
    assert set(list_codes(verify_backups(pantry.path))) <= {"retained-database-missing"}
    assert has_no_plain_files(pantry.path)


@needs_age
@on_sqlite("pantry")
def test_age_command_decrypts_backup(pantry, tmp_path):
    encrypt_backups(pantry.path)
    backup = create_app_backup(pantry.path)
    (member,) = backup.members
    plain = subprocess.run(
        ["age", "-d", "-i", pantry.path.with_name("id.txt"), find_backup_file(pantry.path, backup)],
        capture_output=True,
        check=True,
    ).stdout
    assert len(plain) == member.inner_bytes
    (tmp_path / "plain.db").write_bytes(gzip.decompress(plain))
    assert flashpoint_app.read_all_rows(tmp_path / "plain.db").keys() == pantry.content().keys()


@on_sqlite("pantry")
def test_wrong_key_changes_no_database(pantry):
    encrypt_backups(pantry.path, with_identity=False)
    create_app_backup(pantry.path)
    pantry.change_data()
    before = pantry.content()
    catch_error(KeyMissingError, lambda: apply_restore(pantry.path))
    create_identity(pantry.path.parent, "other.txt")
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        options = {"identities": [pantry.path.with_name("other.txt")]}
        operation = promptvault_app.create_restore(repository, "latest", **options)
        assert catch_error(KeyWrongError, operation.apply).exit_status == 6
    assert pantry.content() == before
    assert len(list_all_backups(pantry.path).page.items) == 1


# Encrypted files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["gzip", "zstd", "none"])
def test_compressed_data_is_encrypted(encrypted_app, form):
    before = promptvault_app.read_content(encrypted_app)
    backup = create_app_backup(encrypted_app, compress=form)
    (member,) = backup.members
    assert member.file.endswith({"gzip": ".db.gz.age", "zstd": ".db.zst.age", "none": ".db.age"}[form])
    assert (member.compress, member.size) == (form, encrypted_app.stat().st_size)
    assert MARKER not in find_backup_file(encrypted_app, backup).read_bytes()
    assert list_codes(verify_backups(encrypted_app)) == []
    promptvault_app.change_data(encrypted_app)
    apply_restore(encrypted_app)
    assert promptvault_app.read_content(encrypted_app) == before


def test_create_list_and_prune_require_no_key(deployed):
    recipient = encrypt_backups(deployed, with_identity=False)
    deployed.with_name("id.txt").unlink()
    first, last = create_app_backup(deployed), create_app_backup(deployed)
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [last.id, first.id]
    with promptvault_app.open_repository(deployed) as (app, repository):
        verification = VerifyBackups(repository, deep=False, keys=promptvault_app.create_keys(app)).run()
        assert (list_codes(verification.findings), verification.not_decrypted) == ([], 2)
        assert repository.find(last.id).recipients == [recipient]
    with promptvault_app.open_prune(deployed, last=1) as operation:
        operation.apply()
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [last.id]


def test_raw_safety_backup_is_encrypted(encrypted_app):
    create_app_backup(encrypted_app)
    encrypted_app.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    result = apply_restore(encrypted_app)
    with promptvault_app.open_repository(encrypted_app) as (_app, repository):
        (member,) = repository.find(result.safety_backup).members
    assert (member.form, member.encryption, member.file[-7:]) == ("raw", "age", ".db.age")
    assert has_no_plain_files(encrypted_app)
    assert list_codes(verify_backups(encrypted_app)) == []


def test_damaged_database_is_saved_as_raw_files(encrypted_app):
    create_app_backup(encrypted_app)
    raw = bytearray(encrypted_app.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 + 1 : page * 4096 + 8] = b"\xff" * 7
    encrypted_app.write_bytes(raw)
    result = apply_restore(encrypted_app)
    with promptvault_app.open_repository(encrypted_app) as (_app, repository):
        manifest = repository.find(result.safety_backup)
    assert [member.form for member in manifest.members] == ["raw"]
    assert {entry.name for entry in find_backup_folder(encrypted_app, manifest.id).iterdir()} == {
        manifest.members[0].file,
        "manifest.json",
    }
    assert list_codes(verify_backups(encrypted_app)) == []


def test_safety_backup_of_migration_is_encrypted(encrypted_app):
    with promptvault_app.open_repository(encrypted_app) as (app, repository):
        with repository.store.lock("migrate", timeout=1):
            backup_id = operations.create_safety_backup(app, repository, "user")
        (member,) = repository.find(backup_id).members
    assert member.encryption == "age"
    assert has_no_plain_files(encrypted_app)


def test_app_files_are_encrypted_and_extract_command_works(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/.env").write_text("SECRET=marked\n")
    flashpoint_app.run_statements(tmp_path / "app/user.db", "create table t (x)")
    (tmp_path / "keys.toml").write_text(PROFILE)
    answer("init", "./keys.toml", "app", "--app", "keys")
    recipient = create_identity(tmp_path)
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write(f'encrypt = {{ recipients = ["{recipient}"] }}\n')
    backup = answer("backup", "create")["data"]
    assert [member["encryption"] for member in backup["members"]] == ["age", "age"]
    assert has_no_plain_files(tmp_path / "x")
    assert answer("backup", "verify", "--deep", "--identity", "id.txt")["data"]["findings"] == []
    result = answer("restore", "apply", "latest", "--yes", "--identity", "id.txt")["data"]
    (finding,) = [finding for finding in result["findings"] if finding["code"] == "app-files-unchanged"]
    args = shlex.split(finding["hint"].partition(": ")[2])[1:]
    answer(*args, "--identity", "id.txt")
    assert (tmp_path / "DIR/.env").read_text() == "SECRET=marked\n"
    (archive,) = [
        backup_file for backup_file in backup_files(tmp_path / "x") if backup_file.name.startswith("files_")
    ]
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    answer("backup", "verify", status=4)


def test_repository_never_contains_plain_files(encrypted_app, monkeypatch):
    names = set()
    real = os.open

    def record_open(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and "backups" in str(path):
            names.add(Path(str(path)).name)
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", record_open)
    backup = create_app_backup(encrypted_app)
    apply_restore(encrypted_app)
    monkeypatch.undo()
    assert backup.members[0].file in names
    assert {name for name in names if not name.startswith(".") and not name.endswith(".age")} <= {
        "manifest.json"
    }


# Damaged and invalid files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_damage_is_detected_without_key_and_not_restored(encrypted_app, deep):
    backup = create_app_backup(encrypted_app)
    promptvault_app.change_data(encrypted_app)
    before = promptvault_app.read_content(encrypted_app)
    file = find_backup_file(encrypted_app, backup)
    complete = file.read_bytes()
    if not deep:
        configure(encrypted_app, f'{{ recipients = ["{backup.recipients[0]}"] }}')
    header = complete.index(b"\n---")
    for position in (3, 30, header - 5, header + 10, header + 50, len(complete) // 2, len(complete) - 1):
        flipped = bytearray(complete)
        flipped[position] ^= 4
        file.write_bytes(flipped)
        assert list_codes(verify_backups(encrypted_app, deep=deep)) == ["file-changed"], position
        if deep:
            catch_error(BackupCorruptError, lambda: apply_restore(encrypted_app))
    for truncated in (b"", complete[:30], complete[: len(complete) // 2], complete[:-1], complete + b"\0"):
        file.write_bytes(truncated)
        assert list_codes(verify_backups(encrypted_app, deep=deep)) == ["file-changed"]
    assert promptvault_app.read_content(encrypted_app) == before
    assert list_staging_folders() == []


def test_deep_verification_detects_modified_file_with_matching_manifest(encrypted_app):
    backup = create_app_backup(encrypted_app)
    file = find_backup_file(encrypted_app, backup)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    change_manifest(encrypted_app, backup, sha256=hashlib.sha256(content).hexdigest())
    assert list_codes(verify_backups(encrypted_app, deep=False)) == []
    assert list_codes(verify_backups(encrypted_app)) == ["corrupt"]
    catch_error(BackupCorruptError, lambda: apply_restore(encrypted_app))


def test_deep_verification_detects_substituted_file_for_same_recipient(encrypted_app):
    """Recipients are public, so the manifest contains the checksum of the decrypted file."""
    backup = create_app_backup(encrypted_app)
    recipient = pyrage.x25519.Recipient.from_str(backup.recipients[0])
    data = gzip.compress(encrypted_app.read_bytes())
    substitute = pyrage.encrypt(data, [recipient])
    find_backup_file(encrypted_app, backup).write_bytes(substitute)
    change_manifest(
        encrypted_app, backup, bytes=len(substitute), sha256=hashlib.sha256(substitute).hexdigest()
    )
    assert list_codes(verify_backups(encrypted_app)) == ["corrupt"]
    catch_error(BackupCorruptError, lambda: apply_restore(encrypted_app))


def test_decompression_is_limited_to_manifest_size(encrypted_app):
    backup = create_app_backup(encrypted_app)
    recipient = pyrage.x25519.Recipient.from_str(backup.recipients[0])
    bomb = pyrage.encrypt(gzip.compress(b"\0" * (50 << 20)), [recipient])
    find_backup_file(encrypted_app, backup).write_bytes(bomb)
    change_manifest(encrypted_app, backup, bytes=len(bomb), sha256=hashlib.sha256(bomb).hexdigest())
    (finding,) = verify_backups(encrypted_app).findings
    assert (finding.code, "more than the" in finding.message) == ("corrupt", True)


def test_missing_encryption_package_is_reported_with_hint(encrypted_app, monkeypatch):
    backup = create_app_backup(encrypted_app)
    monkeypatch.setitem(sys.modules, "pyrage", None)
    for operation in (
        lambda: create_app_backup(encrypted_app),
        lambda: apply_restore(encrypted_app),
        lambda: verify_backups(encrypted_app),
    ):
        error = catch_error(DriverMissingError, operation)
        assert (error.exit_status, "pip install 'dbctl[encryption]'" in error.hint) == (2, True)
    assert list_codes(verify_backups(encrypted_app, deep=False)) == []
    assert [backup.id for backup in list_all_backups(encrypted_app).page.items] == [backup.id]


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("{ }", "encrypt", "passphrase_file or passphrase_env is missing"),
        ("{ recipients = [] }", "encrypt", "passphrase_env is missing"),
        ('{ identity_file = "id.txt" }', "encrypt", "passphrase_env is missing"),
        ('{ recipients = ["bob"] }', "encrypt.recipients", "recipient 1: a recipient begins with"),
        ('{ recipients = ["R", "R"] }', "encrypt.recipients", "recipient 2: it is a duplicate"),
        ('{ recipients = ["AGE-SECRET-KEY-1MARKED"] }', "encrypt.recipients", "it is a secret key"),
        (
            '{ recipients = ["R"], passphrase_file = "p" }',
            "encrypt.passphrase_file",
            "use recipients, a file with a passphrase, or a variable",
        ),
        ('{ recipients = ["R"], passphrase = "p" }', "encrypt", "passphrase"),
        ('{ recipients = "R" }', "encrypt.recipients", ""),
        ("true", "encrypt", ""),
        ('{ recipients = ["R"], identity_file = "${UNSET_HERE}" }', "encrypt.identity_file", "UNSET_HERE"),
    ],
)
def test_invalid_configuration_is_reported_with_its_key(deployed, text, key, reason):
    configure(deployed, text.replace('"R"', f'"{create_identity(deployed.parent)}"'))
    error = catch_error(ConfigInvalidError, lambda: create_app_backup(deployed))
    assert f"apps.fp.backup.{key}" in str(error)
    assert reason in str(error)
    assert "MARKED" not in error_text(error)
    assert not deployed.with_name("backups").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "contains no recipient"),
        (b"# no recipient\n\n", "contains no recipient"),
        (b"R\nR\n", "duplicate recipient"),
        (b"age1nonsense\n", "line 1: it is invalid"),
        (b"\xff\xfe\n", "line 1: a recipient begins"),
        (b"AGE-SECRET-KEY-1MARKED\n", "a secret key"),
        (None, "recipients file"),
    ],
)
def test_invalid_recipients_file_prevents_backup(deployed, content, reason):
    recipient = create_identity(deployed.parent)
    if content is not None:
        deployed.with_name("team.txt").write_bytes(
            content.replace(b"R", recipient.encode()) if b"AGE" not in content else content
        )
    configure(deployed, '{ recipients_file = "team.txt" }')
    error = catch_error((KeyInvalidError, FileMissingError), lambda: create_app_backup(deployed))
    assert reason in str(error)
    assert "MARKED" not in error_text(error)
    assert not deployed.with_name("backups").exists()


def test_recipients_of_file_and_list_are_combined(deployed):
    first, second = create_identity(deployed.parent, "one.txt"), create_identity(deployed.parent, "two.txt")
    deployed.with_name("team.txt").write_text(f"# the team\n\n {second} \r\n")
    configure(deployed, f'{{ recipients = ["{first}"], recipients_file = "team.txt" }}')
    assert create_app_backup(deployed).recipients == [first, second]
    for name in ("one.txt", "two.txt"):
        with promptvault_app.open_repository(deployed) as (app, repository):
            keys = promptvault_app.create_keys(app, identities=[deployed.with_name(name)])
            assert list_codes(VerifyBackups(repository, deep=True, keys=keys).run().findings) == []


# Keys -------------------------------------------------------------------------------------------------------------


def test_older_backups_require_the_older_identity(deployed):
    encrypt_backups(deployed)
    old = create_app_backup(deployed)
    deployed.with_name("id.txt").rename(deployed.with_name("old.txt"))
    encrypt_backups(deployed)
    new = create_app_backup(deployed)
    (finding,) = verify_backups(deployed).findings
    assert (finding.code, finding.severity, old.id in finding.message) == ("key-wrong", "error", True)
    items = {backup.id: backup for backup in list_all_backups(deployed).page.items}
    assert items[new.id].verified_at > new.verified_at
    # A missing key is not recorded as a failure of the backup.
    with promptvault_app.open_repository(deployed) as (_app, repository):
        assert verification_record.read(repository.store, old.id).failed is None
    catch_error(KeyWrongError, lambda: apply_restore(deployed, old.id))
    with deployed.with_name("id.txt").open("a") as file:
        file.write(deployed.with_name("old.txt").read_text())
    assert list_codes(verify_backups(deployed)) == []
    apply_restore(deployed, old.id)


def test_identity_file_from_environment_is_used(deployed, monkeypatch):
    encrypt_backups(deployed, with_identity=False)
    create_app_backup(deployed)
    catch_error(KeyMissingError, lambda: verify_backups(deployed))
    monkeypatch.setenv("DBCTL_BACKUP_IDENTITY_FILE", str(deployed.with_name("id.txt")))
    assert list_codes(verify_backups(deployed)) == []


def test_restore_without_undo_key_warns_before_and_after(deployed):
    create_app_backup(deployed)
    encrypt_backups(deployed, with_identity=False)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        operation = promptvault_app.create_restore(repository, "latest")
        assert "its identity is not available" in operation.plan().steps[1]
        result = operation.apply()
    assert [finding.code for finding in result.findings if finding.severity == "warning"] == [
        "undo-needs-identity"
    ]
    catch_error(KeyMissingError, lambda: undo_restore(deployed))
    with promptvault_app.open_repository(deployed) as (_app, repository):
        safety = find_undo_backup(repository)
        options = {"identities": [deployed.with_name("id.txt")]}
        promptvault_app.create_restore(repository, safety, **options).apply()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\nmarked\n", "is empty"),
        (b"\xff\xfemarked", "not UTF-8"),
        (b"marked" * 1000, "longer than"),
        (None, "passphrase file"),
    ],
)
def test_invalid_passphrase_file_prevents_backup(deployed, content, reason):
    if content is not None:
        deployed.with_name("pass").write_bytes(content)
    configure(deployed, '{ passphrase_file = "pass" }')
    error = catch_error((KeyInvalidError, FileMissingError), lambda: create_app_backup(deployed))
    assert (reason in str(error), error.exit_status in (2, 5)) == (True, True)
    assert "age-keygen" not in error.hint
    assert "marked" not in error_text(error)
    assert not deployed.with_name("backups").exists()


@pytest.mark.slow
def test_passphrase_protects_one_key_per_backup(deployed):
    before = promptvault_app.read_content(deployed)
    deployed.with_name("pass").write_bytes(b"of the s\xc3\xa9a \r\n")
    configure(deployed, '{ passphrase_file = "pass" }')
    backup = create_app_backup(deployed)
    assert [(member.form, member.file) for member in backup.members] == [
        ("key", f"key_{backup.id}.age"),
        ("dump", f"user_{backup.id}.db.gz.age"),
    ]
    assert backup.databases == ["user"]
    promptvault_app.change_data(deployed)
    # A new passphrase applies only to new backups.
    deployed.with_name("pass").write_text("another")
    error = catch_error(KeyWrongError, lambda: apply_restore(deployed))
    assert "of the" not in error_text(error)
    assert len(list_all_backups(deployed).page.items) == 1
    deployed.with_name("old").write_bytes(b"of the s\xc3\xa9a ")
    with promptvault_app.open_repository(deployed) as (_app, repository):
        options = {"passphrases": [deployed.with_name("old")]}
        promptvault_app.create_restore(repository, backup.id, **options).apply()
    assert promptvault_app.read_content(deployed) == before
    assert has_no_plain_files(deployed)


@pytest.mark.slow
def test_restore_of_a_missing_database_creates_no_safety_backup(deployed):
    deployed.with_name("pass").write_text("of the sea")
    configure(deployed, '{ passphrase_file = "pass" }')
    create_app_backup(deployed)
    deployed.unlink()
    assert apply_restore(deployed).safety_backup is None


# Prompts and secrets ----------------------------------------------------------------------------------------------


#: An identity with the passphrase ``sesame`` and a low work factor, so that it is decrypted quickly.
CHEAP_RECIPIENT = "age12h5kkazjgz4k4wr7cpa79697ckmx4e5cyrqd97ckc3yqxj6kgfmsc0u47y"
CHEAP_IDENTITY = b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBvaXp5bFIwL1pER2hUVlhlODZ6UFJnIDIK"
    "c2poK3kxTm5abnlwa2RuZWdVOGpvTVF4dmI0YkJudjRHbVd5aFFaUGJzNAotLS0gc1dVNEcrdm0x"
    "Z0dMY2M1cXpjc1RPamZFY1I4MFlIQXNhQVA5eHQreUJ0NAp7BTqpuWlJA8f4hJC/tW6OFOz5mdhD"
    "RFumxMA+EvDmVv9MjGQIYhpA7egEqqrMMd4MfCPF1FHbRdxwt/qVJhKRoW7rPRaSt3uYcSoXlpHk"
    "VIHDO0nZE+8GobfO2ISJibiBBdWFi1aPyNyh3A=="
)


def write_protected_identity(folder):
    """Create an identity file with the passphrase ``sesame``; return its recipient."""
    (folder / "id.age").touch(mode=0o600)
    (folder / "id.age").write_bytes(CHEAP_IDENTITY)
    return CHEAP_RECIPIENT


def test_passphrase_prompt_is_not_echoed(deployed, start):
    recipient = write_protected_identity(deployed.parent)
    configure(deployed, f'{{ recipients = ["{recipient}"], identity_file = "id.age" }}')
    create_app_backup(deployed)
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", "--config", str(deployed.with_name("dbctl.toml")), "backup", "verify", "--deep"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        encoding="utf-8",
    )
    terminal.expect("Passphrase of .*id.age: ")
    terminal.sendline("sesame")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, "sesame" in terminal.before) == (0, False)
    error = catch_error(KeyMissingError, lambda: verify_backups(deployed))
    assert error.exit_status == 2


@pytest.mark.slow
def test_output_and_messages_contain_no_secrets(deployed):
    """The secrets are also passed in the wrong option or file."""
    secret = str(pyrage.x25519.Identity.generate())
    deployed.with_name("id.txt").write_text(f"{secret}\n")
    deployed.with_name("pass").write_text("sesame-marked\n")
    recipient = create_identity(deployed.parent, "identity.txt")
    configure(deployed, f'{{ recipients = ["{recipient}"], identity_file = "identity.txt" }}')
    create_app_backup(deployed)
    commands = [
        ["backup", "verify", "--deep", "--identity", "id.txt"],
        ["backup", "verify", "--deep", "--identity", "pass"],
        ["restore", "apply", "latest", "--identity", "id.txt", "--passphrase-file", "pass", "--dry-run"],
        ["restore", "apply", "latest", "--identity", "pass", "--yes"],
        ["restore", "preview"],
        ["backup", "show", "latest"],
        ["doctor"],
        ["apps", "check"],
    ]
    for encrypt in (f'{{ recipients = ["{recipient}"] }}', f'{{ recipients = ["{secret}"] }}'):
        configure(deployed, encrypt)
        for args in commands:
            result = subprocess.run(
                [sys.executable, "-m", "dbctl", *args, "-o", "json", "-v"],
                cwd=deployed.parent,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DBCTL_STATE": "off"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            output = result.stdout + result.stderr
            assert json.loads(result.stdout)
            assert b"sesame-marked" not in output, args
            assert secret.encode() not in output, args
            assert b"Traceback" not in output, args


def read_processes():
    """Yield the command line and the environment of each process."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["postgresql", "mysql"]
)  # each hands its password to its programs in its own way
def test_child_processes_show_no_secrets(tmp_path, kind):
    with larder_app.open_pantry(kind, tmp_path / "app") as pantry:
        pantry.path.with_name("pass").write_text("sesame-marked")
        configure(pantry.path, '{ passphrase_file = "pass" }')
        process_texts, read_at = [], 0.0

        def advance(_bytes):
            nonlocal read_at
            if time.monotonic() - read_at > READ_SECONDS:
                process_texts.append(b"".join(read_processes()))
                read_at = time.monotonic()

        with promptvault_app.open_repository(pantry.path) as (app, repository):
            with observe_progress(advance):
                backup = CreateBackup(repository).apply()
            identities = promptvault_app.create_keys(app).identities_for(
                repository.store, repository.find(backup.id)
            )
        assert any(b"dump" in text for text in process_texts)
        assert not any(
            b"sesame-marked" in text or str(identities[0]).encode() in text for text in process_texts
        )


KILL_SCRIPT = """
import os, signal, sys
from dbctl.files import compression
from dbctl.cli.main import main
compression.{function} = lambda *_args, **_kwargs: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("function", ["compress_file", "decompress_file"])
def test_plain_leftovers_of_killed_process_are_removed(encrypted_app, function):
    create_app_backup(encrypted_app)
    args = ["backup", "create"] if function == "compress_file" else ["restore", "apply", "latest", "--yes"]
    result = subprocess.run(
        [sys.executable, "-c", KILL_SCRIPT.format(function=function), *args],
        cwd=encrypted_app.parent,
        env={
            "DBCTL_STATE": "off",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(environment.default_staging_folder()),
        },
        capture_output=True,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL
    (leftover,) = list_staging_folders()
    assert leftover.stat().st_mode & 0o777 == leftover.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.stat().st_mode & 0o777 for entry in leftover.iterdir()] == [0o600] * (
        function == "compress_file"
    )
    create_app_backup(encrypted_app)
    assert not leftover.exists()


def test_insufficient_staging_space_is_reported_with_path(encrypted_app, monkeypatch):
    create_app_backup(encrypted_app)
    real = mounts.free_space
    monkeypatch.setattr(mounts, "free_space", lambda path: 1 if "dbctl-" in path.name else real(path))
    for operation in (create_app_backup, apply_restore, verify_backups):
        assert str(environment.default_staging_folder()) in str(
            catch_error(InsufficientSpaceError, lambda operation=operation: operation(encrypted_app))
        )
    monkeypatch.undo()
    assert len(list_all_backups(encrypted_app).page.items) == 1


@pytest.mark.parametrize("failing", range(2))
def test_full_disk_leaves_no_backup_and_no_plain_files(encrypted_app, monkeypatch, failing):
    real, calls = NewFile.write, 0

    def write(self, block):
        nonlocal calls
        calls += 1
        if calls > failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, block)

    monkeypatch.setattr(NewFile, "write", write)
    catch_error(DiskFullError, lambda: create_app_backup(encrypted_app))
    monkeypatch.setattr(NewFile, "write", real)
    assert list_all_backups(encrypted_app).page.items == []
    assert backup_files(encrypted_app) == []
    assert has_no_plain_files(encrypted_app)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_drill_of_encrypted_backup_writes_no_plain_files(tmp_path, kind):
    with larder_app.open_pantry(kind, tmp_path / "app") as pantry:
        encrypt_backups(pantry.path)
        backup = create_app_backup(pantry.path)
        with promptvault_app.open_repository(pantry.path) as (app, repository):
            result = RunDrills([app], promptvault_app.create_keys).apply()
            assert [(database.backup, database.passed) for database in result.databases] == [
                (backup.id, True)
            ]
            assert list(verification_record.read(repository.store, backup.id).drills) == ["pantry"]
        pantry.path.with_name("id.txt").unlink()
        create_identity(pantry.path.parent)
        with promptvault_app.open_repository(pantry.path) as (app, repository):
            catch_error(KeyWrongError, RunDrills([app], promptvault_app.create_keys).apply)
            assert verification_record.read(repository.store, backup.id).failed is None
        encrypt_backups(pantry.path, with_identity=False)
        with promptvault_app.open_repository(pantry.path) as (app, _repository):
            catch_error(KeyMissingError, lambda: RunDrills([app], promptvault_app.create_keys))
        assert has_no_plain_files(pantry.path)


# Doctor -----------------------------------------------------------------------------------------------------------


def examine_codes(path):
    report = examine([Selection(config=str(path.with_name("dbctl.toml")))], timeout=1)
    return {finding.code for finding in report.findings.findings}


@pytest.fixture
def reachable_app(deployed, monkeypatch):
    """An app in a folder that other users can enter, unlike the temporary folders of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        app_dir = Path(folder)
        app_dir.chmod(0o755)
        if not all(parent.stat().st_mode & 0o001 for parent in app_dir.parents):
            pytest.skip("other users cannot enter the temporary folder")
        shutil.copytree(deployed.parent, app_dir, dirs_exist_ok=True)
        app_dir.chmod(0o755)
        path = app_dir / deployed.name
        encrypt_backups(path)
        yield path


def test_doctor_reports_exposed_missing_and_wrong_keys(reachable_app):
    identity_file = reachable_app.with_name("id.txt")
    create_app_backup(reachable_app)
    valid_codes = examine_codes(reachable_app)
    identity_file.chmod(0o644)
    assert "readable-by-all" in examine_codes(reachable_app)
    identity_file.chmod(0o600)
    create_identity(reachable_app.parent, "id.txt")
    assert examine_codes(reachable_app) - valid_codes == {"key-mismatch"}
    identity_file.unlink()
    assert examine_codes(reachable_app) - valid_codes == {"identity-missing"}
    configure(reachable_app, '{ recipients = ["age1nonsense"] }')
    assert examine_codes(reachable_app) - valid_codes == {"key-invalid"}


def test_manifest_is_readable_and_contains_no_rows(encrypted_app):
    backup = create_app_backup(encrypted_app)
    text = (find_backup_folder(encrypted_app, backup) / "manifest.json").read_bytes()
    (member,) = backup_manifest.parse(text).members
    assert (member.rows["users"] > 0, member.digests) == (True, {})
    assert MARKER not in text
    with closing(sqlite3.connect(encrypted_app)) as connection:
        for (email,) in connection.execute("select email from users").fetchall():
            assert email.encode() not in text


# Remote storage ---------------------------------------------------------------------------------------------------


def test_remote_storage_receives_only_encrypted_files(deployed, monkeypatch):
    bucket = storage.use_new_bucket(monkeypatch, environment.default_staging_folder())
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', f'"s3://{bucket.name}"'))
    encrypt_backups(deployed)
    before = promptvault_app.read_content(deployed)
    backup = create_app_backup(deployed)
    assert list_codes(verify_backups(deployed)) == []
    promptvault_app.change_data(deployed)
    changed_content = promptvault_app.read_content(deployed)
    apply_restore(deployed)
    assert promptvault_app.read_content(deployed) == before
    undo_restore(deployed)
    assert promptvault_app.read_content(deployed) == changed_content
    names = bucket.keys()
    objects = {name: bucket.get(name) for name in names}
    encrypted_objects = {name: raw for name, raw in objects.items() if not name.endswith(".json")}
    assert any(backup.members[0].file in name for name in encrypted_objects)
    assert all(raw.startswith(MAGIC) for raw in encrypted_objects.values())
    assert not any(MARKER in raw for raw in objects.values())
    assert list_staging_folders() == []


def test_unreadable_identity_file_is_named_in_error(deployed):
    configure(deployed, f'{{ recipients = ["{create_identity(deployed.parent)}"] }}')
    create_app_backup(deployed)
    with promptvault_app.open_repository(deployed) as (app, repository):
        keys = promptvault_app.create_keys(app, identities=[Path("/dev/zero")])
        error = catch_error(
            FileFailedError, lambda: keys.prepare(repository.store, repository.find("latest"))
        )
    assert "/dev/zero: cannot read this identity file: not a regular file" in str(error)
    with pytest.raises(FileFailedError, match="cannot read this passphrase file"):
        read_passphrase(Path("/dev/zero"))
