"""Backups and restores of one app on every engine that its profile allows: the same rules on each."""

from __future__ import annotations

import os
import random

import pytest

from dbctl.engines.mysql.session import own_sessions
from dbctl.engines.postgresql.session import own_backends
from dbctl.errors import BackupMissingError, BackupUnsoundError, UndoMissingError, UndoNeedlessError
from dbctl.services.backup.create import make
from dbctl.services.backup.encryption import Sealing
from dbctl.services.backup.repository import BackupShown, list_backups
from dbctl.services.backup.safety import Rescue
from dbctl.services.backup.status import stand
from dbctl.services.restore import preview
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, codes, create, folder_of, listed, pruning, undo, verified


@pytest.fixture(params=larder_app.PLACES)
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


def test_a_restore_brings_every_row_back_and_undo_takes_it_back(pantry):
    before = pantry.content()
    made = create(pantry.path)
    pantry.spoil()
    spoiled = pantry.content()
    assert spoiled != before
    done = apply(pantry.path)
    assert (done.backup, done.exit_status) == (made.id, 0)
    assert pantry.content() == before
    assert undo(pantry.path).backup == done.safety_backup
    assert pantry.content() == spoiled
    undo(pantry.path)
    assert pantry.content() == before


def test_a_table_that_every_database_of_this_app_has_comes_back_when_it_was_dropped(pantry):
    before = pantry.content()
    create(pantry.path)
    if pantry.engine == "postgresql":
        pantry.run("drop table members cascade")
    else:
        off = "pragma foreign_keys = off" if pantry.engine == "sqlite" else "set foreign_key_checks = 0"
        pantry.run(off, "drop table members")
    lost = pantry.content()
    assert "members" not in lost
    apply(pantry.path)
    assert pantry.content() == before
    undo(pantry.path)
    assert pantry.content() == lost
    undo(pantry.path)
    assert pantry.content() == before


def test_what_was_destroyed_wholly_is_made_anew(pantry):
    before = pantry.content()
    create(pantry.path)
    pantry.destroy()
    done = apply(pantry.path)
    assert done.safety_backup is None
    assert pantry.content() == before


def test_a_manifest_tells_the_rows_of_each_table_at_the_moment_of_the_backup(pantry):
    made = create(pantry.path)
    (member,) = made.members
    assert member.rows == {name: len(rows) for name, rows in pantry.content().items()}
    assert (member.engine, member.file) == (pantry.engine, f"pantry_{made.id}{pantry.ending}")


def test_a_sound_backup_verifies_also_when_it_is_tried(pantry):
    made = create(pantry.path)
    assert codes(verified(pantry.path, deep=False)) == []
    assert codes(verified(pantry.path, deep=True)) == []
    assert listed(pantry.path).page.items[0].verified_at > made.verified_at


def test_a_changed_or_cut_file_is_found_and_not_restored_and_nothing_is_touched(pantry):
    made = create(pantry.path)
    pantry.spoil()
    held = pantry.content()
    file = promptvault_app.file_of(pantry.path, made)
    whole = file.read_bytes()
    chance = random.Random(5)  # noqa: S311 - places, not secrets
    for _ in range(4):
        changed = bytearray(whole)
        place = chance.randrange(len(whole))
        changed[place] ^= 1 << chance.randrange(8)
        file.write_bytes(changed)
        assert codes(verified(pantry.path, deep=False)) == ["file-changed"]
        caught(BackupUnsoundError, lambda: apply(pantry.path))
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert codes(verified(pantry.path, deep=True)) == ["file-changed"]
        caught(BackupUnsoundError, lambda: apply(pantry.path))
    assert pantry.content() == held


def test_what_was_replaced_is_not_the_latest_and_is_kept_until_it_is_pruned(pantry):
    made = create(pantry.path)
    pantry.spoil()
    done = apply(pantry.path)
    with promptvault_app.opened(pantry.path) as (_app, repository):
        assert repository.find("latest").id == made.id
        assert repository.find(done.safety_backup).kind == "safety"
    with pruning(pantry.path, last=1) as work:
        assert work.apply().deleted == []  # each is the newest of its kind


def test_without_a_restore_there_is_nothing_to_undo(pantry):
    create(pantry.path)
    caught(UndoMissingError, lambda: undo(pantry.path))
    caught(BackupMissingError, lambda: apply(pantry.path, "20200101_000000"))


def test_a_preview_and_a_plan_change_nothing_and_tell_what_would_change(pantry):
    made = create(pantry.path)
    pantry.spoil()
    held = pantry.content()
    with promptvault_app.opened(pantry.path) as (app, repository):
        told = preview.preview(app, repository, repository.find(made.id), promptvault_app.keys_of(app))
        plan = promptvault_app.restoring(app, repository, made.id).plan()
    (one,) = told.databases
    differing = {table.table: (table.now, table.then) for table in one.tables if table.now != table.then}
    assert (one.state, one.schema) == ("readable", "another")
    assert differing == {"recipe_labels": (0, made.members[0].rows["recipe_labels"]), "regrets": (1, None)}
    assert plan.destructive
    assert plan.rows == dict(made.members[0].rows)
    assert pantry.content() == held


def test_old_backups_are_pruned_and_the_newest_stays(pantry):
    for _ in range(3):
        last = create(pantry.path)
    with pruning(pantry.path, last=1) as work:
        assert len(work.apply().deleted) == 2
    assert [one.id for one in listed(pantry.path).page.items] == [last.id]


def test_an_emptied_database_does_not_become_the_latest_backup(pantry):
    made = create(pantry.path)
    before = pantry.content()
    pantry.destroy()
    with pytest.raises(Exception, match="pantry"):
        create(pantry.path)
    assert [one.id for one in listed(pantry.path).page.items] == [made.id]
    apply(pantry.path)
    assert pantry.content() == before


def test_a_restore_is_followed_by_another_backup_of_the_same_content(pantry):
    first = create(pantry.path)
    pantry.spoil()
    apply(pantry.path, first.id)
    second = create(pantry.path)
    assert second.members[0].rows == first.members[0].rows | {
        "history": first.members[0].rows["history"] + 1  # the record of the restore
    }
    assert second.members[0].schema == first.members[0].schema
    assert not listed(pantry.path).incomplete
    assert folder_of(pantry.path, second).is_dir()


def killed(path):
    """Leave what a restore does that is killed once what there is was kept; return its safety backup."""
    with promptvault_app.opened(path) as (app, repository):
        (member,) = repository.find("latest").members
        rescue = Rescue(app, member.database, lambda _bytes: None, member.dump)
        return make(app, repository, [rescue], Sealing(app), kind="safety", restored="latest")


def test_undo_knows_a_restore_that_was_killed_before_it_changed_anything(pantry):
    before = pantry.content()
    create(pantry.path)
    pantry.spoil()
    spoiled = pantry.content()
    done = apply(pantry.path)
    killed(pantry.path)
    pantry.run("update members set mail = handle || '@later.example'")
    later = pantry.content()
    killed(pantry.path)
    undone = undo(pantry.path)
    assert undone.backup == done.safety_backup
    assert pantry.content() == spoiled
    assert undo(pantry.path).backup == undone.safety_backup
    assert pantry.content() == later
    assert later != before


def test_undo_of_the_only_restore_that_was_killed_changes_nothing(pantry):
    create(pantry.path)
    pantry.spoil()
    held, safety = pantry.content(), killed(pantry.path)
    error = caught(UndoNeedlessError, lambda: undo(pantry.path))
    assert "Nothing was changed" in error.hint
    assert pantry.content() == held
    if safety.members[0].form == "dump":
        apply(pantry.path, safety.id)
        assert pantry.content() == held


def test_a_safety_backup_whose_retained_database_is_gone_is_reported_as_gone(pantry):
    create(pantry.path)
    first, second = apply(pantry.path).safety_backup, apply(pantry.path).safety_backup
    # A restore of a file, or of one schema, keeps a copy; elsewhere it drops what the restore before it retained.
    with promptvault_app.opened(pantry.path) as (app, repository):
        retains = any(one.form == "kept" for one in repository.find(first).members)
        gone = {first} if retains else set()
        page = list_backups(repository, promptvault_app.EVERY).page
        assert {one.id for one in page.items if one.verified_at is None} == gone
        assert {one.id for one in page.items if one.note} == gone
        assert (repository.told(repository.find(first), BackupShown).verified_at is None) == retains
        assert repository.told(repository.find(second), BackupShown).verified_at
        standing = stand(app)
        assert standing.repository.gone.keys() == gone
        assert any(first in trouble for trouble in standing.troubles()) == retains
    findings = [one for one in verified(pantry.path).findings if one.code == "retained-gone"]
    assert [first in one.message for one in findings] == [True] * len(gone)


def test_a_preview_does_not_name_its_own_session_as_a_holder(pantry):
    made = create(pantry.path)
    with promptvault_app.opened(pantry.path) as (app, repository):
        app.reader("pantry").tables()  # a session that this process has open
        seen = preview.preview(app, repository, repository.find(made.id), promptvault_app.keys_of(app))
    own = {"postgresql": own_backends, "mysql": own_sessions, "sqlite": {os.getpid()}}[pantry.engine]
    pids = {int(holder.split()[1]) for holder in seen.databases[0].held_by}
    assert not pids & own
