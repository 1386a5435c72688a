"""Backups that are encrypted: nothing of them lies there in plain, the ``age`` command opens them, and no key is needed to make one."""

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
from base64 import b64decode
from contextlib import closing, suppress
from pathlib import Path

import pexpect
import pyrage
import pytest

from dbctl.config import Selection, paths
from dbctl.errors import (
    BackupUnsoundError,
    ConfigInvalidError,
    DiskFullError,
    DriverMissingError,
    FileFailedError,
    FileMissingError,
    KeyInvalidError,
    KeyMissingError,
    KeyWrongError,
    RoomMissingError,
)
from dbctl.files.subprocesses import NewFile
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import verification_record, verify
from dbctl.services.backup.create import Creation
from dbctl.services.backup.encryption import passphrase_in
from dbctl.services.doctor import examine
from dbctl.services.migrations import safety_backup
from dbctl.services.restore.apply import latest_safety
from dbctl.services.restore.restore_test import Drills
from dbctl.services.schedule import crontab
from dbctl.stores import local
from dbctl.stores.base import SCRATCH
from tests import storage
from tests.services import flashpoint_app, larder_app, promptvault_app
from tests.services.backup.test_app_files import PROFILE
from tests.services.backup.test_compression import changed
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, codes, create, file_of, folder_of, listed, undo, verified

ROOT = Path(__file__).parents[3]
#: A row of the sample app, which no encrypted backup shows.
MARK = b"flashpoint.example"
MAGIC = b"age-encryption.org/v1\n"
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")


@pytest.fixture(autouse=True)
def places_of_its_own(tmp_path, monkeypatch):
    """Let what is plain for a moment stand where the test sees it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("DBCTL_BACKUP_IDENTITY_FILE", raising=False)
    monkeypatch.delenv("DBCTL_BACKUP_PASSPHRASE_FILE", raising=False)


def identity(folder, name="id.txt"):
    """Make an identity in a file that only its owner reads; return its recipient."""
    made = pyrage.x25519.Identity.generate()
    (folder / name).touch(mode=0o600)
    (folder / name).write_text(f"{made}\n")
    return str(made.to_public())


def configure(path, text):
    """Let the configuration say how backups are encrypted, in place of what it said."""
    file = path.with_name("dbctl.toml")
    kept = [line for line in file.read_text().splitlines() if not line.startswith("encrypt")]
    file.write_text("\n".join([*kept, f"encrypt = {text}"]) + "\n")


def encrypted(path, *, own=True):
    """Let backups be encrypted for a new identity; return its recipient."""
    recipient = identity(path.parent)
    more = ', identity_file = "id.txt"' if own else ""
    configure(path, f'{{ recipients = ["{recipient}"]{more} }}')
    return recipient


@pytest.fixture
def deployed(tmp_path):
    return promptvault_app.settle(tmp_path / "app", "deployed")


@pytest.fixture
def sealed(deployed):
    encrypted(deployed)
    return deployed


def files(path):
    """Return the files of all backups but what tells of them."""
    return [
        one
        for one in path.with_name("backups").rglob("*")
        if one.is_file() and one.suffix != ".json" and not one.name.startswith(".")
    ]


def plain_places():
    """Return the folders for what is plain for a moment."""
    return list(paths.staging().rglob(f"{SCRATCH}*"))


def nothing_is_plain(path):
    """Whether what was plain for a moment is gone, and what rests is encrypted."""
    left = [*plain_places(), *path.with_name("backups").rglob(f"{SCRATCH}*")]
    return not left and all(one.read_bytes().startswith(MAGIC) for one in files(path))


def told(error):
    return f"{error} {error.hint} {error.facts}"


# On every engine --------------------------------------------------------------------------------------------------


@pytest.fixture(params=larder_app.PLACES)
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


def test_on_every_engine_it_is_made_verified_brought_back_and_undone(pantry):
    recipient = encrypted(pantry.path)
    before = pantry.content()
    made = create(pantry.path)
    (member,) = made.members
    assert (member.encryption, made.recipients) == ("age", [recipient])
    assert member.file == f"pantry_{made.id}{pantry.ending}.age"
    assert member.rows == {name: len(rows) for name, rows in before.items()}
    assert nothing_is_plain(pantry.path)
    assert codes(verified(pantry.path)) == []
    pantry.spoil()
    spoiled = pantry.content()
    done = apply(pantry.path)
    assert (done.exit_status, pantry.content()) == (0, before)
    assert nothing_is_plain(pantry.path)
    undo(pantry.path)
    assert pantry.content() == spoiled
    pantry.destroy()
    apply(pantry.path, made.id)
    assert pantry.content() == before
    assert set(codes(verified(pantry.path))) <= {"retained-gone"}  # destroyed with the database on a server
    assert nothing_is_plain(pantry.path)


@needs_age
def test_on_every_engine_the_age_command_brings_back_what_was_encrypted(pantry, tmp_path):
    encrypted(pantry.path)
    made = create(pantry.path)
    (member,) = made.members
    plain = subprocess.run(
        ["age", "-d", "-i", pantry.path.with_name("id.txt"), file_of(pantry.path, made)],
        capture_output=True,
        check=True,
    ).stdout
    assert len(plain) == member.inner_bytes
    if pantry.engine == "sqlite":
        (tmp_path / "plain.db").write_bytes(gzip.decompress(plain))
        assert flashpoint_app.content(tmp_path / "plain.db").keys() == pantry.content().keys()
    else:
        text = plain if pantry.ending == ".dump" else gzip.decompress(plain)
        assert b"recipe_labels" in text


def test_a_wrong_key_leaves_every_engine_as_it_is(pantry):
    encrypted(pantry.path, own=False)
    create(pantry.path)
    pantry.spoil()
    held = pantry.content()
    caught(KeyMissingError, lambda: apply(pantry.path))
    identity(pantry.path.parent, "other.txt")
    with promptvault_app.opened(pantry.path) as (app, repository):
        named = {"identities": [pantry.path.with_name("other.txt")]}
        work = promptvault_app.restoring(app, repository, "latest", **named)
        assert caught(KeyWrongError, work.apply).exit_status == 6
    assert pantry.content() == held
    assert len(listed(pantry.path).page.items) == 1


# What is encrypted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["gzip", "zstd", "none"])
def test_however_it_is_packed_it_is_encrypted_behind_that(sealed, form):
    before = promptvault_app.content(sealed)
    made = create(sealed, compress=form)
    (member,) = made.members
    assert member.file.endswith({"gzip": ".db.gz.age", "zstd": ".db.zst.age", "none": ".db.age"}[form])
    assert (member.compress, member.size) == (form, sealed.stat().st_size)
    assert MARK not in file_of(sealed, made).read_bytes()
    assert codes(verified(sealed)) == []
    promptvault_app.spoil(sealed)
    apply(sealed)
    assert promptvault_app.content(sealed) == before


def test_to_make_list_show_verify_and_prune_wants_no_key(deployed):
    recipient = encrypted(deployed, own=False)
    deployed.with_name("id.txt").unlink()
    first, last = create(deployed), create(deployed)
    assert [one.id for one in listed(deployed).page.items] == [last.id, first.id]
    with promptvault_app.opened(deployed) as (app, repository):
        checked = verify.verify(app, repository, (), deep=False, keys=promptvault_app.keys_of(app))
        assert (codes(checked.findings), checked.unopened) == ([], 2)
        assert repository.find(last.id).recipients == [recipient]
    with promptvault_app.pruning(deployed, last=1) as work:
        work.apply()
    assert [one.id for one in listed(deployed).page.items] == [last.id]


def test_what_could_only_be_kept_file_by_file_is_encrypted_too(sealed):
    create(sealed)
    sealed.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    done = apply(sealed)
    with promptvault_app.opened(sealed) as (_app, repository):
        (member,) = repository.find(done.safety_backup).members
    assert (member.form, member.encryption, member.file[-7:]) == ("raw", "age", ".db.age")
    assert nothing_is_plain(sealed)
    assert codes(verified(sealed)) == []


def test_a_copy_that_is_not_sound_gives_way_to_the_files_as_they_lie(sealed):
    create(sealed)
    raw = bytearray(sealed.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 + 1 : page * 4096 + 8] = b"\xff" * 7
    sealed.write_bytes(raw)
    done = apply(sealed)
    with promptvault_app.opened(sealed) as (_app, repository):
        manifest = repository.find(done.safety_backup)
    assert [one.form for one in manifest.members] == ["raw"]
    assert {one.name for one in folder_of(sealed, manifest.id).iterdir()} == {
        manifest.members[0].file,
        "manifest.json",
    }
    assert codes(verified(sealed)) == []


def test_the_safety_backup_of_a_migration_is_encrypted_too(sealed):
    with promptvault_app.opened(sealed) as (app, repository):
        with repository.store.lock("migrate", timeout=1):
            made = safety_backup.keep(app, repository, "user")
        (member,) = repository.find(made).members
    assert member.encryption == "age"
    assert nothing_is_plain(sealed)


def test_the_apps_own_files_are_encrypted_and_the_command_that_unpacks_them_works(
    tmp_path, monkeypatch, answer
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/.env").write_text("SECRET=marked\n")
    flashpoint_app.run(tmp_path / "app/user.db", "create table t (x)")
    (tmp_path / "keys.toml").write_text(PROFILE)
    answer("init", "./keys.toml", "app", "--app", "keys")
    recipient = identity(tmp_path)
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write(f'encrypt = {{ recipients = ["{recipient}"] }}\n')
    made = answer("backup", "create")["data"]
    assert [one["encryption"] for one in made["members"]] == ["age", "age"]
    assert nothing_is_plain(tmp_path / "x")
    assert answer("backup", "verify", "--deep", "--identity", "id.txt")["data"]["findings"] == []
    done = answer("restore", "apply", "latest", "--yes", "--identity", "id.txt")["data"]
    (finding,) = [one for one in done["findings"] if one["code"] == "files-left"]
    words = shlex.split(finding["hint"].partition(" unpacks")[0])[1:]
    answer(*words, "--identity", "id.txt")
    assert (tmp_path / "DIR/.env").read_text() == "SECRET=marked\n"
    (archive,) = [one for one in files(tmp_path / "x") if one.name.startswith("files_")]
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    answer("backup", "verify", status=4)


def test_nothing_plain_ever_stands_in_the_repository(sealed, monkeypatch):
    seen = set()
    real = os.open

    def watched(place, flags, *more, **named):
        if flags & os.O_CREAT and "backups" in str(place):
            seen.add(Path(str(place)).name)
        return real(place, flags, *more, **named)

    monkeypatch.setattr(os, "open", watched)
    made = create(sealed)
    apply(sealed)
    monkeypatch.undo()
    assert made.members[0].file in seen
    assert {one for one in seen if not one.startswith(".") and not one.endswith(".age")} <= {"manifest.json"}


# Never trusted, never given up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_a_cut_or_a_flipped_bit_is_found_also_without_a_key_and_not_restored(sealed, deep):
    made = create(sealed)
    promptvault_app.spoil(sealed)
    held = promptvault_app.content(sealed)
    file = file_of(sealed, made)
    whole = file.read_bytes()
    if not deep:
        configure(sealed, f'{{ recipients = ["{made.recipients[0]}"] }}')
    header = whole.index(b"\n---")
    for place in (3, 30, header - 5, header + 10, header + 50, len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        file.write_bytes(flipped)
        assert codes(verified(sealed, deep=deep)) == ["file-changed"], place
        if deep:
            caught(BackupUnsoundError, lambda: apply(sealed))
    for one in (b"", whole[:30], whole[: len(whole) // 2], whole[:-1], whole + b"\0"):
        file.write_bytes(one)
        assert codes(verified(sealed, deep=deep)) == ["file-changed"]
    assert promptvault_app.content(sealed) == held
    assert plain_places() == []


def test_a_manifest_that_was_made_to_agree_with_a_changed_file_is_found_by_deep(sealed):
    made = create(sealed)
    file = file_of(sealed, made)
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 1
    file.write_bytes(whole)
    changed(sealed, made, sha256=hashlib.sha256(whole).hexdigest())
    assert codes(verified(sealed, deep=False)) == []
    assert codes(verified(sealed)) == ["corrupt"]
    caught(BackupUnsoundError, lambda: apply(sealed))


def test_another_file_for_the_same_recipient_is_found_by_deep(sealed):
    """Who knows a recipient can encrypt anything for it; the manifest tells what was in the file."""
    made = create(sealed)
    recipient = pyrage.x25519.Recipient.from_str(made.recipients[0])
    other = gzip.compress(sealed.read_bytes())
    foreign = pyrage.encrypt(other, [recipient])
    file_of(sealed, made).write_bytes(foreign)
    changed(sealed, made, bytes=len(foreign), sha256=hashlib.sha256(foreign).hexdigest())
    assert codes(verified(sealed)) == ["corrupt"]
    caught(BackupUnsoundError, lambda: apply(sealed))


def test_a_bomb_for_the_same_recipient_writes_no_more_than_the_manifest_says(sealed):
    made = create(sealed)
    recipient = pyrage.x25519.Recipient.from_str(made.recipients[0])
    bomb = pyrage.encrypt(gzip.compress(b"\0" * (50 << 20)), [recipient])
    file_of(sealed, made).write_bytes(bomb)
    changed(sealed, made, bytes=len(bomb), sha256=hashlib.sha256(bomb).hexdigest())
    (finding,) = verified(sealed).findings
    assert (finding.code, "more than the" in finding.message) == ("corrupt", True)


def test_without_what_encrypts_there_is_no_backup_and_how_to_get_it_is_told(sealed, monkeypatch):
    made = create(sealed)
    monkeypatch.setitem(sys.modules, "pyrage", None)
    for work in (lambda: create(sealed), lambda: apply(sealed), lambda: verified(sealed)):
        error = caught(DriverMissingError, work)
        assert (error.exit_status, "pip install 'dbctl[encryption]'" in error.hint) == (2, True)
    assert codes(verified(sealed, deep=False)) == []
    assert [one.id for one in listed(sealed).page.items] == [made.id]


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("{ }", "encrypt", "neither recipients nor a passphrase_file"),
        ("{ recipients = [] }", "encrypt", "neither recipients"),
        ('{ identity_file = "id.txt" }', "encrypt", "neither recipients"),
        ('{ recipients = ["bob"] }', "encrypt.recipients", "recipient 1: a recipient begins with"),
        ('{ recipients = ["R", "R"] }', "encrypt.recipients", "recipient 2: it stands here twice"),
        ('{ recipients = ["AGE-SECRET-KEY-1MARKED"] }', "encrypt.recipients", "it is a secret key"),
        ('{ recipients = ["R"], passphrase_file = "p" }', "encrypt.passphrase_file", "never both"),
        ('{ recipients = ["R"], passphrase = "p" }', "encrypt", "passphrase"),
        ('{ recipients = "R" }', "encrypt.recipients", ""),
        ("true", "encrypt", ""),
        ('{ recipients = ["R"], identity_file = "${UNSET_HERE}" }', "encrypt.identity_file", "UNSET_HERE"),
    ],
)
def test_a_mistake_of_the_configuration_is_told_with_its_key_and_nothing_is_made(deployed, text, key, why):
    configure(deployed, text.replace('"R"', f'"{identity(deployed.parent)}"'))
    error = caught(ConfigInvalidError, lambda: create(deployed))
    assert f"apps.fp.backup.{key}" in str(error)
    assert why in str(error)
    assert "MARKED" not in told(error)
    assert not deployed.with_name("backups").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "names no recipient"),
        (b"# nobody\n\n", "names no recipient"),
        (b"R\nR\n", "twice"),
        (b"age1nonsense\n", "line 1: it is mistyped"),
        (b"\xff\xfe\n", "line 1: a recipient begins"),
        (b"AGE-SECRET-KEY-1MARKED\n", "a secret key"),
        (None, "recipients file"),
    ],
)
def test_a_file_of_recipients_that_is_none_makes_no_backup(deployed, content, why):
    recipient = identity(deployed.parent)
    if content is not None:
        deployed.with_name("team.txt").write_bytes(
            content.replace(b"R", recipient.encode()) if b"AGE" not in content else content
        )
    configure(deployed, '{ recipients_file = "team.txt" }')
    error = caught((KeyInvalidError, FileMissingError), lambda: create(deployed))
    assert why in str(error)
    assert "MARKED" not in told(error)
    assert not deployed.with_name("backups").exists()


def test_a_file_of_recipients_and_a_list_add_up_and_each_opens(deployed):
    first, second = identity(deployed.parent, "one.txt"), identity(deployed.parent, "two.txt")
    deployed.with_name("team.txt").write_text(f"# the team\n\n {second} \r\n")
    configure(deployed, f'{{ recipients = ["{first}"], recipients_file = "team.txt" }}')
    assert create(deployed).recipients == [first, second]
    for name in ("one.txt", "two.txt"):
        with promptvault_app.opened(deployed) as (app, repository):
            keys = promptvault_app.keys_of(app, identities=[deployed.with_name(name)])
            assert codes(verify.verify(app, repository, (), deep=True, keys=keys).findings) == []


# Keys -------------------------------------------------------------------------------------------------------------


def test_after_a_rotation_older_backups_want_the_older_identity_and_say_so(deployed):
    encrypted(deployed)
    old = create(deployed)
    deployed.with_name("id.txt").rename(deployed.with_name("old.txt"))
    encrypted(deployed)
    new = create(deployed)
    (finding,) = verified(deployed).findings
    assert (finding.code, finding.severity, old.id in finding.message) == ("key-wrong", "error", True)
    items = {one.id: one for one in listed(deployed).page.items}
    assert items[new.id].verified_at > new.verified_at
    with promptvault_app.opened(deployed) as (
        _app,
        repository,
    ):  # that nobody opened it says nothing of the backup
        assert verification_record.read(repository.store, old.id).failed is None
    caught(KeyWrongError, lambda: apply(deployed, old.id))
    with deployed.with_name("id.txt").open("a") as file:
        file.write(deployed.with_name("old.txt").read_text())
    assert codes(verified(deployed)) == []
    apply(deployed, old.id)


def test_the_environment_names_an_identity_as_well(deployed, monkeypatch):
    encrypted(deployed, own=False)
    create(deployed)
    caught(KeyMissingError, lambda: verified(deployed))
    monkeypatch.setenv("DBCTL_BACKUP_IDENTITY_FILE", str(deployed.with_name("id.txt")))
    assert codes(verified(deployed)) == []


def test_a_restore_that_could_not_be_undone_here_says_so_before_and_after(deployed):
    create(deployed)
    encrypted(deployed, own=False)
    with promptvault_app.opened(deployed) as (app, repository):
        work = promptvault_app.restoring(app, repository, "latest")
        assert "nothing at hand opens it" in work.plan().steps[1]
        done = work.apply()
    assert [one.code for one in done.findings if one.severity == "warning"] == ["no-way-back"]
    caught(KeyMissingError, lambda: undo(deployed))
    with promptvault_app.opened(deployed) as (app, repository):
        safety = latest_safety(app, repository)
        named = {"identities": [deployed.with_name("id.txt")]}
        promptvault_app.restoring(app, repository, safety, **named).apply()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\nmarked\n", "is empty"),
        (b"\xff\xfemarked", "not UTF-8"),
        (b"marked" * 1000, "longer than"),
        (None, "passphrase file"),
    ],
)
def test_a_passphrase_file_that_holds_none_makes_no_backup(deployed, content, why):
    if content is not None:
        deployed.with_name("pass").write_bytes(content)
    configure(deployed, '{ passphrase_file = "pass" }')
    error = caught((KeyInvalidError, FileMissingError), lambda: create(deployed))
    assert (why in str(error), error.exit_status in (2, 5)) == (True, True)
    assert "age-keygen" not in error.hint
    assert "marked" not in told(error)
    assert not deployed.with_name("backups").exists()


def test_by_a_passphrase_each_backup_has_a_key_of_its_own_that_it_protects(deployed):
    before = promptvault_app.content(deployed)
    deployed.with_name("pass").write_bytes(b"of the s\xc3\xa9a \r\n")
    configure(deployed, '{ passphrase_file = "pass" }')
    made = create(deployed)
    assert [(one.form, one.file) for one in made.members] == [
        ("key", f"key_{made.id}.age"),
        ("dump", f"user_{made.id}.db.gz.age"),
    ]
    assert made.databases == ["user"]
    promptvault_app.spoil(deployed)
    # Another passphrase opens what is made from now on.
    deployed.with_name("pass").write_text("another")
    error = caught(KeyWrongError, lambda: apply(deployed))
    assert "of the" not in told(error)
    assert len(listed(deployed).page.items) == 1
    deployed.with_name("old").write_bytes(b"of the s\xc3\xa9a ")
    with promptvault_app.opened(deployed) as (app, repository):
        named = {"passphrase": deployed.with_name("old")}
        promptvault_app.restoring(app, repository, made.id, **named).apply()
    assert promptvault_app.content(deployed) == before
    assert nothing_is_plain(deployed)


def test_a_restore_that_replaces_nothing_has_no_safety_backup_and_no_key_of_one(deployed):
    deployed.with_name("pass").write_text("of the sea")
    configure(deployed, '{ passphrase_file = "pass" }')
    create(deployed)
    deployed.unlink()
    assert apply(deployed).safety_backup is None


# What a person meets ----------------------------------------------------------------------------------------------


#: An identity that ``sesame`` protects, with so little work that it opens at once.
CHEAP_RECIPIENT = "age12h5kkazjgz4k4wr7cpa79697ckmx4e5cyrqd97ckc3yqxj6kgfmsc0u47y"
CHEAP = b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBvaXp5bFIwL1pER2hUVlhlODZ6UFJnIDIK"
    "c2poK3kxTm5abnlwa2RuZWdVOGpvTVF4dmI0YkJudjRHbVd5aFFaUGJzNAotLS0gc1dVNEcrdm0x"
    "Z0dMY2M1cXpjc1RPamZFY1I4MFlIQXNhQVA5eHQreUJ0NAp7BTqpuWlJA8f4hJC/tW6OFOz5mdhD"
    "RFumxMA+EvDmVv9MjGQIYhpA7egEqqrMMd4MfCPF1FHbRdxwt/qVJhKRoW7rPRaSt3uYcSoXlpHk"
    "VIHDO0nZE+8GobfO2ISJibiBBdWFi1aPyNyh3A=="
)


def protected(folder):
    """Make an identity file that the passphrase ``sesame`` protects; return its recipient."""
    (folder / "id.age").touch(mode=0o600)
    (folder / "id.age").write_bytes(CHEAP)
    return CHEAP_RECIPIENT


def test_a_passphrase_is_asked_for_on_a_terminal_and_not_shown(deployed, start):
    recipient = protected(deployed.parent)
    configure(deployed, f'{{ recipients = ["{recipient}"], identity_file = "id.age" }}')
    create(deployed)
    run = pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", "--config", str(deployed.with_name("dbctl.toml")), "backup", "verify", "--deep"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        encoding="utf-8",
    )
    run.expect("Passphrase of .*id.age: ")
    run.sendline("sesame")
    run.expect(pexpect.EOF)
    run.close()
    assert (run.exitstatus, "sesame" in run.before) == (0, False)
    error = caught(KeyMissingError, lambda: verified(deployed))
    assert error.exit_status == 2


def test_no_answer_no_message_and_no_child_shows_a_secret(deployed):
    """Also where a secret is given in the wrong place."""
    secret = str(pyrage.x25519.Identity.generate())
    deployed.with_name("id.txt").write_text(f"{secret}\n")
    deployed.with_name("pass").write_text("sesame-marked\n")
    recipient = identity(deployed.parent, "own.txt")
    configure(deployed, f'{{ recipients = ["{recipient}"], identity_file = "own.txt" }}')
    create(deployed)
    lines = [
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
        for words in lines:
            done = subprocess.run(
                [sys.executable, "-m", "dbctl", *words, "-o", "json", "-v"],
                cwd=deployed.parent,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            said = done.stdout + done.stderr
            assert json.loads(done.stdout)
            assert b"sesame-marked" not in said, words
            assert secret.encode() not in said, words
            assert b"Traceback" not in said, words


def processes():
    """Yield what everybody may see, and what root and the same user may see, of each process."""
    for one in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (one / "cmdline").read_bytes() + (one / "environ").read_bytes()


@pytest.mark.parametrize("place", ["postgresql", "mysql"])
def test_no_program_that_works_for_a_backup_shows_a_secret(tmp_path, place):
    with larder_app.settled(place, tmp_path / "app") as pantry:
        pantry.path.with_name("pass").write_text("sesame-marked")
        configure(pantry.path, '{ passphrase_file = "pass" }')
        seen = []
        with promptvault_app.opened(pantry.path) as (app, repository):
            work = Creation(
                app, repository, timeout=5, advance=lambda _bytes: seen.append(b"".join(processes()))
            )
            made = work.apply()
            key = promptvault_app.keys_of(app).of(repository.store, repository.find(made.id))
        assert any(b"dump" in one for one in seen)
        assert not any(b"sesame-marked" in one or str(key[0]).encode() in one for one in seen)


KILLED = """
import os, signal, sys
from dbctl.files import compression
from dbctl.cli.main import main
compression.{what} = lambda *_words, **_more: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_what_a_killed_dbctl_left_in_plain_is_private_and_gone_with_the_next_run(sealed, what):
    create(sealed)
    words = ["backup", "create"] if what == "pack" else ["restore", "apply", "latest", "--yes"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(what=what), *words],
        cwd=sealed.parent,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(paths.staging())},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = plain_places()
    assert left.stat().st_mode & 0o777 == left.parent.stat().st_mode & 0o777 == 0o700
    assert [one.stat().st_mode & 0o777 for one in left.iterdir()] == [0o600] * (what == "pack")
    create(sealed)
    assert not left.exists()


def test_no_room_for_what_is_plain_is_told_with_its_place(sealed, monkeypatch):
    create(sealed)
    real = local.room
    monkeypatch.setattr(local, "room", lambda place: 1 if "dbctl-" in place.name else real(place))
    for work in (create, apply, verified):
        assert str(paths.staging()) in str(caught(RoomMissingError, lambda work=work: work(sealed)))
    monkeypatch.undo()
    assert len(listed(sealed).page.items) == 1


@pytest.mark.parametrize("failing", range(2))
def test_a_full_disk_at_any_write_leaves_no_backup_and_nothing_plain(sealed, monkeypatch, failing):
    real, calls = NewFile.write, 0

    def write(self, block):
        nonlocal calls
        calls += 1
        if calls > failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, block)

    monkeypatch.setattr(NewFile, "write", write)
    caught(DiskFullError, lambda: create(sealed))
    monkeypatch.setattr(NewFile, "write", real)
    assert listed(sealed).page.items == []
    assert files(sealed) == []
    assert nothing_is_plain(sealed)


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_a_drill_restores_it_on_trial_where_nothing_plain_reaches_the_repository(tmp_path, place):
    with larder_app.settled(place, tmp_path / "app") as pantry:
        encrypted(pantry.path)
        made = create(pantry.path)
        with promptvault_app.opened(pantry.path) as (app, repository):
            done = Drills([app], promptvault_app.keys_of).apply()
            assert [(one.backup, one.sound) for one in done.databases] == [(made.id, True)]
            assert list(verification_record.read(repository.store, made.id).drills) == ["pantry"]
        pantry.path.with_name("id.txt").unlink()
        identity(pantry.path.parent)
        with promptvault_app.opened(pantry.path) as (app, repository):
            caught(KeyWrongError, Drills([app], promptvault_app.keys_of).apply)
            assert verification_record.read(repository.store, made.id).failed is None
        encrypted(pantry.path, own=False)
        with promptvault_app.opened(pantry.path) as (app, _repository):
            caught(KeyMissingError, lambda: Drills([app], promptvault_app.keys_of))
        assert nothing_is_plain(pantry.path)


def test_the_crontab_drills_only_where_something_opens_what_is_encrypted(sealed):
    said = [Selection(config=str(sealed.with_name("dbctl.toml")))]
    assert "drill" in [one.name for one in crontab.jobs(said)]
    encrypted(sealed, own=False)
    assert "drill" not in [one.name for one in crontab.jobs(said)]
    assert "backup" in [one.name for one in crontab.jobs(said)]


# Looked over ------------------------------------------------------------------------------------------------------


def examined(path):
    found = examine.examine([Selection(config=str(path.with_name("dbctl.toml")))], timeout=1)
    return {one.code for one in found.findings.findings}


@pytest.fixture
def reachable(deployed, monkeypatch):
    """The same where everybody may enter every directory above it: what pytest makes is closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        if not all(above.stat().st_mode & 0o001 for above in place.parents):
            pytest.skip("temporary files are closed to others here")
        shutil.copytree(deployed.parent, place, dirs_exist_ok=True)
        place.chmod(0o755)
        path = place / deployed.name
        encrypted(path)
        yield path


def test_doctor_tells_of_keys_that_others_read_that_are_missing_or_do_not_fit(reachable):
    own = reachable.with_name("id.txt")
    create(reachable)
    sound = examined(reachable)
    own.chmod(0o644)
    assert "readable-by-all" in examined(reachable)
    own.chmod(0o600)
    identity(reachable.parent, "id.txt")
    assert examined(reachable) - sound == {"identity-other"}
    own.unlink()
    assert examined(reachable) - sound == {"identity-missing"}
    configure(reachable, '{ recipients = ["age1nonsense"] }')
    assert examined(reachable) - sound == {"key-invalid"}


def test_the_manifest_reads_without_a_key_and_tells_no_row(sealed):
    made = create(sealed)
    text = (folder_of(sealed, made) / "manifest.json").read_bytes()
    (member,) = backup_manifest.read(text).members
    assert (member.rows["users"] > 0, member.digests) == (True, {})
    assert MARK not in text
    with closing(sqlite3.connect(sealed)) as connection:
        for (email,) in connection.execute("select email from users").fetchall():
            assert email.encode() not in text


# Elsewhere --------------------------------------------------------------------------------------------------------


def test_storage_elsewhere_gets_only_what_is_encrypted_and_gives_it_back(deployed, monkeypatch):
    bucket = storage.given_to(monkeypatch, paths.staging())
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', f'"s3://{bucket.name}"'))
    encrypted(deployed)
    before = promptvault_app.content(deployed)
    made = create(deployed)
    assert codes(verified(deployed)) == []
    promptvault_app.spoil(deployed)
    spoiled = promptvault_app.content(deployed)
    apply(deployed)
    assert promptvault_app.content(deployed) == before
    undo(deployed)
    assert promptvault_app.content(deployed) == spoiled
    names = bucket.keys()
    held = {name: bucket.get(name) for name in names}
    sealed = {name: raw for name, raw in held.items() if not name.endswith(".json")}
    assert any(made.members[0].file in name for name in sealed)
    assert all(raw.startswith(MAGIC) for raw in sealed.values())
    assert not any(MARK in raw for raw in held.values())
    assert plain_places() == []


def test_a_file_of_keys_that_cannot_be_read_says_what_it_was_to_be(deployed):
    configure(deployed, f'{{ recipients = ["{identity(deployed.parent)}"] }}')
    create(deployed)
    with promptvault_app.opened(deployed) as (app, repository):
        keys = promptvault_app.keys_of(app, identities=[Path("/dev/zero")])
        error = caught(FileFailedError, lambda: keys.ready(repository.store, repository.find("latest")))
    assert "/dev/zero: this identity file cannot be read: it is no regular file" in str(error)
    with pytest.raises(FileFailedError, match="this passphrase file cannot be read"):
        passphrase_in(Path("/dev/zero"))
