"""The whole life of backups in storage that speaks S3, on every engine; and copies between repositories of either kind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbctl.config import Keep, Selection
from dbctl.errors import BackupMissingError, BusyError, Exit, StorageFailedError, UsageError
from dbctl.services.app import app as apps
from dbctl.services.backup import copy as backup_copy
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import verification_record
from dbctl.services.backup.copy import Copying
from dbctl.services.backup.create import Creation
from dbctl.services.backup.prune import Pruning
from dbctl.services.backup.repository import BackupShown, Repository
from dbctl.services.restore import preview
from dbctl.services.restore.restore_test import Drilling
from tests import storage
from tests.fault_proxy import Meddler, refused
from tests.services import flashpoint_app, larder_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, codes, create, listed, pruning, settle, undo, verified

ROOT = Path(__file__).parents[3]


def keep_in(path, address):
    """Let the app beside ``path`` keep its backups elsewhere."""
    file = path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('repository = "backups"', f'repository = "{address}"'))


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    (tmp_path / "staging").mkdir(mode=0o700)
    return storage.given_to(monkeypatch, tmp_path / "staging")


@pytest.fixture
def meddler(bucket, monkeypatch):
    with Meddler(storage.port()).running() as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


@pytest.fixture
def deployed(tmp_path, bucket):
    path = settle(tmp_path / "app", "deployed")
    keep_in(path, f"s3://{bucket.name}/offsite")
    return path


def staged(tmp_path):
    """Return what is left of what waited on its way."""
    return [one.name for one in (tmp_path / "staging").rglob(".dbctl-unpacked-*")]


# The whole life --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_backups_in_storage_do_all_that_those_in_a_directory_do(engine, tmp_path, bucket):
    with larder_app.settled(engine, tmp_path / "app") as pantry:
        keep_in(pantry.path, f"s3://{bucket.name}/offsite")
        before = pantry.content()
        made = create(pantry.path)
        assert made.path == f"s3://{bucket.name}/offsite/larder/{made.id}"
        assert set(bucket.keys()) == {
            f"offsite/larder/{made.id}/{made.members[0].file}",
            f"offsite/larder/{made.id}/manifest.json",
        }
        assert codes(verified(pantry.path)) == []
        (found,) = listed(pantry.path).page.items
        assert found.verified_at > made.verified_at
        with promptvault_app.opened(pantry.path) as (app, repository):
            shown = repository.told(repository.find("latest"), BackupShown)
            assert [one.sha256 for one in shown.members] == [one.sha256 for one in made.members]
            assert (
                preview.preview(
                    app, repository, repository.find("latest"), promptvault_app.keys_of(app)
                ).backup
                == made.id
            )
        pantry.spoil()
        spoiled = pantry.content()
        done = apply(pantry.path)
        assert pantry.content() == before
        assert undo(pantry.path).backup == done.safety_backup
        assert pantry.content() == spoiled
        pantry.destroy()
        apply(pantry.path, made.id)
        assert pantry.content() == before
        latest = create(pantry.path)
        with pruning(pantry.path, last=1) as work:
            assert made.id in work.apply().deleted
        assert latest.id in [one.id for one in listed(pantry.path).page.items]
        assert codes(verified(pantry.path)) == []
    assert staged(tmp_path) == []


def test_a_changed_missing_or_cut_file_is_told_and_not_restored(deployed, bucket):
    made = create(deployed)
    before = flashpoint_app.content(deployed)
    key = f"offsite/fp/{made.id}/{made.members[0].file}"
    whole = bucket.get(key)
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        bucket.put(key, content)
        for deep in (False, True):
            assert codes(verified(deployed, deep=deep)) == ["file-changed"]
        assert caught(Exception, lambda: apply(deployed)).code == "backup-unsound"
    bucket.delete(key)
    assert codes(verified(deployed)) == ["file-missing"]
    assert flashpoint_app.content(deployed) == before


def test_what_is_proven_is_what_is_loaded_it_is_fetched_once(deployed, meddler):
    made = create(deployed, compress="none")
    flashpoint_app.run(deployed, "delete from user_settings")
    meddler.asked.clear()
    apply(deployed)
    fetched = [
        one for one in meddler.asked if one.method == "GET" and one.path.endswith(made.members[0].file)
    ]
    assert len(fetched) == 1


def test_storage_that_fails_while_a_backup_is_proven_is_no_damage(deployed, meddler):
    made = create(deployed)
    meddler.meddle = lambda asked: (
        refused(403, "AccessDenied") if asked.path.endswith(made.members[0].file) else None
    )
    error = caught(StorageFailedError, lambda: verified(deployed))
    assert error.exit_status == Exit.UNREACHABLE
    caught(StorageFailedError, lambda: apply(deployed))


def test_pruning_never_goes_by_half_a_list(deployed, meddler):
    made = [create(deployed).id for _ in range(3)]
    meddler.meddle = lambda asked: refused(403, "AccessDenied") if made[0] in asked.path else None
    with pruning(deployed, last=1) as work:
        caught(StorageFailedError, work.apply)
    meddler.meddle = lambda _asked: None
    assert [one.id for one in listed(deployed).page.items] == made[::-1]


def test_what_a_backup_that_was_cut_off_left_is_no_backup_and_is_pruned(deployed, bucket):
    made = create(deployed)
    bucket.put("offsite/fp/20200101_000000/.dbctl-incomplete", b"")
    bucket.put("offsite/fp/20200101_000000/user.db.gz", b"x" * 100)
    assert ([one.id for one in listed(deployed).page.items], listed(deployed).incomplete) == (
        [made.id],
        ["20200101_000000"],
    )
    with pruning(deployed, last=1) as work:
        assert work.apply().leftovers == ["20200101_000000"]
    assert not bucket.keys("offsite/fp/20200101_000000")


def test_no_room_where_files_wait_is_told_before_anything_is_sent(deployed, monkeypatch, bucket):
    monkeypatch.setattr("dbctl.stores.local.room", lambda _place: 100)
    error = caught(Exception, lambda: create(deployed))
    assert (error.code, "staging" in str(error)) == ("room-missing", True)
    assert bucket.keys() == []


def test_the_place_where_files_wait_can_be_configured(deployed, tmp_path):
    with deployed.with_name("dbctl.toml").open("a") as file:
        file.write('staging = "wait"\n')
    create(deployed)
    assert deployed.with_name("wait").is_dir()
    assert not (tmp_path / "staging").exists() or staged(tmp_path) == []
    deployed.with_name("wait").chmod(0o777)
    assert caught(Exception, lambda: create(deployed)).code == "repository-unsafe"


def begin(path, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", *words, "-o", "json"],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_backup_that_is_ended_half_way_leaves_earlier_ones_and_the_next_one_is_made(
    deployed, bucket, meddler, number, tmp_path
):
    first = create(deployed)
    kept = bucket.keys()
    running = []

    def end(asked):
        if asked.method == "PUT" and asked.path.endswith(".db.gz") and running:
            running.pop().send_signal(number)
            time.sleep(0.5)  # and then it is done all the same

    meddler.meddle = end
    process = begin(deployed, "backup", "create")
    running.append(process)
    out, err = process.communicate(timeout=60)
    assert not running
    if number == signal.SIGKILL:
        assert len(listed(deployed).incomplete) == 1
    else:
        assert (process.returncode, json.loads(out)["error"]["code"]) == (128 + number, "interrupted"), err
        assert bucket.keys() == kept
        assert staged(tmp_path) == []
    second = create(deployed)
    assert [one.id for one in listed(deployed).page.items] == [second.id, first.id]
    with pruning(deployed, last=5) as work:
        work.apply()
    assert not listed(deployed).incomplete
    assert staged(tmp_path) == []


def test_two_at_once_make_two_backups(deployed):
    both = [begin(deployed, "backup", "create", "--timeout", "60") for _ in range(2)]
    answers = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert len({json.loads(out)["data"]["id"] for out, _ in answers}) == 2
    assert codes(verified(deployed)) == []


def test_what_the_command_line_says_of_storage_that_cannot_be_reached(deployed, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for words, status in {
        ("backup", "list"): 10,
        ("backup", "create"): 10,
        ("restore", "apply", "latest", "--yes"): 10,
        ("doctor",): 10,
        ("status", "--check"): 10,
    }.items():
        process = begin(deployed, *words, "--timeout", "0")
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (words, out, err)
        assert b"nobody listens at its endpoint" in out
        assert b"Traceback" not in err
        assert storage.SECRET.encode() not in out + err


# Copied ----------------------------------------------------------------------------------------------------------


@contextmanager
def copying(path, to, *names, source="", advance=lambda _bytes: None, timeout=5, only=""):
    selection = Selection(config=str(path.with_name("dbctl.toml")))
    with apps.opened(selection, timeout=timeout, only=only) as app:
        here, there = Repository(app, source), Repository(app, to)
        chosen = backup_copy.choose(app, here, there, names)
        yield Copying(app, here, there, chosen, timeout=timeout, advance=advance)


def copy(path, to, *names, **more):
    with copying(path, to, *names, **more) as work:
        return work.apply()


def within(path, address, what):
    """Do ``what`` with an app and the repository at an address."""
    with apps.opened(Selection(config=str(path.with_name("dbctl.toml"))), timeout=5) as app:
        return what(app, Repository(app, address))


def held(path, address):
    """Return every byte of the backups in a repository, by backup and file."""

    def read(_app, repository):
        store = repository.store
        return {
            (folder, name): b"".join(store.read(folder, name))
            for folder in store.folders()
            for name in [*store.files(folder), "manifest.json"]
        }

    return within(path, address, read)


def drilled(path, address):
    """Restore the latest backup on trial; return when that was, as the repository tells."""
    within(
        path,
        address,
        lambda app, kept: Drilling(app, kept, promptvault_app.keys_of(app)).drill(lambda _bytes: None),
    )
    return drills(path, address)


def drills(path, address):
    """Return when which backups were restored on trial."""

    def read(_app, repository):
        found = {
            one.id: verification_record.read(repository.store, one.id) for one in repository.manifests()[0]
        }
        return {
            (name, database): one.at for name, told in found.items() for database, one in told.drills.items()
        }

    return within(path, address, read)


#: Where from and where to.
WAYS = [
    ("directory", "storage"),
    ("storage", "directory"),
    ("storage", "storage"),
    ("directory", "directory"),
]
each_way = pytest.mark.parametrize(("one", "other"), WAYS, indirect=True)


def place(request, tmp_path, bucket, usual):
    kind = getattr(request, "param", usual)
    return (
        f"s3://{bucket.name}/{request.fixturename}"
        if kind == "storage"
        else str(tmp_path / request.fixturename)
    )


@pytest.fixture
def one(request, tmp_path, bucket):
    return place(request, tmp_path, bucket, "directory")


@pytest.fixture
def other(request, tmp_path, bucket):
    return place(request, tmp_path, bucket, "storage")


@pytest.fixture
def source(tmp_path, one):
    """Return an app with three backups in ``one``."""
    path = settle(tmp_path / "app", "deployed")
    keep_in(path, one)
    for number in range(3):
        flashpoint_app.run(path, f"update users set email = 'e{number}@example.org' where id = 1")
        create(path)
    return path


@each_way
def test_that_a_backup_was_restored_on_trial_is_known_of_its_copy_too(source, one, other):
    at = drilled(source, one)
    assert at
    copy(source, other)
    assert drills(source, other) == at
    later = drilled(source, one)
    assert later != at
    done = copy(source, other)
    assert (len(done.there), done.failed) == (3, [])
    assert drills(source, other) == later


def test_that_a_backup_could_not_be_loaded_follows_it_and_that_its_disk_was_bad_does_not(source, one, other):
    deep, shallow, _sound = (found for found, _ in held(source, one) if _ == "manifest.json")

    def note(_app, repository):
        for name in (deep, shallow):
            verification_record.record(repository.store, name, ["broken"], whole=True, deep=name == deep)

    within(source, one, note)
    copy(source, other)

    def failed(_app, repository):
        return [
            found.id
            for found in repository.manifests()[0]
            if verification_record.read(repository.store, found.id).failed
        ]

    assert within(source, other, failed) == [deep]


@each_way
def test_copies_are_the_same_byte_for_byte_and_restore_as_the_first(source, one, other):
    ids = [found.id for found in listed(source).page.items]
    done = copy(source, other)
    assert (done.copied, done.there, done.failed, done.exit_status) == (ids, [], [], 0)
    assert held(source, other) == held(source, one)
    assert done.copied_bytes == sum(found.bytes for found in listed(source).page.items)
    before = flashpoint_app.content(source)
    flashpoint_app.run(source, "delete from user_settings")
    keep_in(source, other)
    file = source.with_name("dbctl.toml")
    file.write_text(file.read_text().replace(f'repository = "{one}"', f'repository = "{other}"'))
    assert codes(verified(source)) == []
    apply(source)
    assert flashpoint_app.rows(source, "select count(*) from user_settings") == [
        (len(before["user_settings"]),)
    ]
    again = copy(source, other, source=one)
    assert (again.copied, again.there, again.exit_status) == ([], ids, 0)


def test_a_plan_tells_what_would_be_copied_and_writes_nothing(source, one, other):
    ids = [found.id for found in listed(source).page.items]
    copy(source, other, ids[1])
    before = held(source, other)
    with copying(source, other) as work:
        plan = work.plan()
    assert [step.split(" (")[0] for step in plan.steps] == [f"copy {ids[0]}", f"copy {ids[2]}"]
    assert held(source, other) == before
    copy(source, other)
    with copying(source, other) as work:
        assert work.plan().empty


def test_those_that_are_named_are_copied_and_no_other(source, other):
    ids = [found.id for found in listed(source).page.items]
    assert copy(source, other, "latest", ids[2], ids[2]).copied == [ids[0], ids[2]]
    caught(BackupMissingError, lambda: copy(source, other, "20200101_000000"))


def alter(path, address, folder, change):
    """Change a file of a backup, behind the back of dbctl."""

    def altered(_app, repository):
        store = repository.store
        (name,) = store.files(folder)
        content = change(b"".join(store.read(folder, name)))
        if address.startswith("s3://"):
            store.client.put(store.key(folder, name), content)
        else:
            store.path(folder, name).write_bytes(content)

    within(path, address, altered)


@pytest.mark.parametrize(
    "change", [lambda whole: whole[:-1], lambda whole: b"\0" + whole[1:]], ids=["cut", "flipped"]
)
def test_a_damaged_backup_is_refused_and_told_and_the_others_are_copied(source, one, other, change):
    ids = [found.id for found in listed(source).page.items]
    alter(source, one, ids[1], change)
    done = copy(source, other)
    assert (done.copied, [bad.id for bad in done.failed]) == ([ids[0], ids[2]], [ids[1]])
    assert (done.failed[0].code, done.exit_status) == ("backup-unsound", Exit.PARTIAL)
    assert ids[1] in done.remarks[0]
    assert {folder for folder, _ in held(source, other)} == {ids[0], ids[2]}
    assert copy(source, other, ids[1]).exit_status == Exit.UNSOUND


@each_way
def test_another_backup_of_the_same_id_is_a_conflict_and_stays(source, one, other, tmp_path):
    ids = [found.id for found in listed(source).page.items]
    copy(source, other, ids[0])
    alter(source, other, ids[0], lambda whole: whole[:-1])
    before = held(source, other)
    alone = copy(source, other, ids[0])
    assert (alone.failed[0].code, alone.exit_status) == ("backup-differs", Exit.REFUSED)
    with copying(source, other) as work:
        assert any(step.startswith(f"refuse {ids[0]}") for step in work.plan().steps)
        assert work.apply().exit_status == Exit.PARTIAL
    after = held(source, other)
    assert {name: content for name, content in after.items() if name in before} == before


def test_a_backup_made_elsewhere_in_the_same_second_is_a_conflict(source, other, monkeypatch):
    ids = [found.id for found in listed(source).page.items]
    at = datetime.strptime(ids[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    monkeypatch.setattr(backup_create, "now", lambda: at)
    within(source, other, lambda app, there: Creation(app, there, timeout=5).apply())
    done = copy(source, other)
    assert [(bad.id, bad.code) for bad in done.failed] == [(ids[1], "backup-differs")]
    assert "another one" in done.failed[0].message


@each_way
def test_a_copy_that_was_cut_off_goes_on_with_the_next_run(source, one, other):
    class CutError(Exception):
        pass

    ids, moved = [found.id for found in listed(source).page.items], []

    def cut(_moved):
        moved.append(_moved)
        if len(moved) == 2:
            raise CutError

    with pytest.raises(CutError):
        copy(source, other, advance=cut)
    assert {folder for folder, _ in held(source, other)} == {ids[0]}
    # and one that was killed, so that nobody took away what it had begun
    within(source, other, lambda _app, there: leave(there.store, ids[1]))
    done = copy(source, other)
    assert (done.copied, done.there) == (ids[1:], [ids[0]])
    assert held(source, other) == held(source, one)


def leave(store, folder):
    """Leave a folder as somebody leaves it who is killed while filling it."""
    filling = store.begin(folder)
    made = filling.__enter__()
    made.write("half", iter([b"x"]), 1)
    made.undo = lambda: None
    assert not filling.__exit__(ValueError, ValueError(), None)
    assert store.folders()[folder].value == "incomplete"


def test_a_manifest_that_cannot_be_read_is_told_and_the_others_are_copied(tmp_path, bucket):
    path = settle(tmp_path / "app", "deployed")
    bad, good = create(path), create(path)
    manifest = promptvault_app.folder_of(path, bad) / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    done = copy(path, f"s3://{bucket.name}")
    assert (done.copied, [one.id for one in done.failed], done.exit_status) == (
        [good.id],
        [bad.id],
        Exit.PARTIAL,
    )


def test_a_backup_that_is_pruned_meanwhile_is_no_failure(tmp_path, bucket):
    path = settle(tmp_path / "app", "deployed")
    gone, stays = create(path), create(path)
    with copying(path, f"s3://{bucket.name}") as work:
        shutil.rmtree(promptvault_app.folder_of(path, gone))
        done = work.apply()
    assert (done.copied, done.failed) == ([stays.id], [])


def test_storage_that_fails_in_the_middle_ends_it_and_says_what_was_not_tried(tmp_path, meddler, bucket):
    path = settle(tmp_path / "app", "deployed")
    ids = [create(path).id for _ in range(3)][::-1]
    meddler.meddle = lambda asked: (
        refused(403, "AccessDenied") if asked.method == "PUT" and ids[1] in asked.path else None
    )
    done = copy(path, f"s3://{bucket.name}")
    assert (done.copied, [one.id for one in done.failed], done.untried) == ([ids[0]], [ids[1]], [ids[2]])
    assert done.exit_status == Exit.PARTIAL
    assert ids[2] in done.remarks[-1]
    meddler.meddle = lambda asked: refused(403, "AccessDenied") if asked.method == "PUT" else None
    caught(StorageFailedError, lambda: copy(path, f"s3://{bucket.name}", ids[1]))


def test_what_another_copy_has_brought_meanwhile_is_there(source, other):
    ids = [found.id for found in listed(source).page.items]
    with copying(source, other) as work:
        copy(source, other)
        done = work.apply()
    assert (done.copied, sorted(done.there), done.exit_status) == ([], sorted(ids), 0)


def test_a_copy_waits_for_whoever_works_on_the_other_repository(source, other):
    def locked(_app, there):
        with there.store.lock("backup prune", timeout=0):
            caught(BusyError, lambda: copy(source, other, timeout=0))

    within(source, other, locked)


def test_where_the_backups_are_is_nowhere_to_copy_them_to(source, one):
    caught(UsageError, lambda: copy(source, one))


def test_one_database_of_a_backup_is_not_copied_alone(source, other):
    caught(UsageError, lambda: copy(source, other, only="user"))


def test_the_latest_of_what_was_copied_together_is_the_last_one_made(tmp_path, bucket, monkeypatch):
    """Each repository counts for itself; what counts is the moment."""
    path, away = settle(tmp_path / "app", "deployed"), f"s3://{bucket.name}"
    for day in (1, 2, 3):
        monkeypatch.setattr(backup_create, "now", lambda day=day: datetime(2026, 5, day, tzinfo=UTC))
        within(path, away, lambda app, there: Creation(app, there, timeout=5).apply())
    monkeypatch.setattr(backup_create, "now", lambda: datetime(2026, 5, 4, tzinfo=UTC))
    newest = create(path).id
    copy(path, away)

    def look(app, there):
        assert there.find("latest").id == newest
        work = Pruning(app, there, Keep(last=1), timeout=5)
        assert newest not in work.apply().deleted

    within(path, away, look)


def test_a_backup_that_is_complete_is_answered_although_storage_fails_from_then_on(tmp_path, bucket, meddler):
    path = settle(tmp_path / "app", "deployed")
    keep_in(path, f"s3://{bucket.name}")
    finished = []

    def fail(asked, answer):
        if finished:
            return refused(503, "SlowDown")
        finished.extend([asked] if asked.path.endswith("/manifest.json") and asked.method == "PUT" else [])
        return answer

    meddler.change = fail
    made = create(path)
    meddler.change = lambda _asked, answer: answer
    assert [one.id for one in listed(path).page.items] == [made.id]
