"""How backups stand: what is due by the configuration, what is damaged, and what a backup is beside the live database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from dbctl.config import Selection
from dbctl.errors import Exit, NotSupportedError, RepositoryUnsetError, SchemaLacksError, UsageError
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import status, verification_record, verify
from dbctl.services.backup.create import Creation
from dbctl.services.restore import restore_test
from dbctl.services.restore.restore_test import Drills
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import caught, run
from tests.services.promptvault_app import codes, create, file_of, folder_of, settle, verified
from tests.services.restore.test_apply import pair  # noqa: F401 - a fixture


@pytest.fixture
def deployed(tmp_path):
    return settle(tmp_path / "app", "deployed")


@pytest.fixture(params=larder_app.PLACES)
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


def surveyed(path, **more):
    return status.survey([Selection(config=str(path.with_name("dbctl.toml")))], timeout=5, **more)


def standing(path, **more):
    (one,) = surveyed(path, **more).standing.databases
    return one


def wanted(path, text):
    """Say in the configuration what is wanted of backups, in place of what was said before."""
    config = path.with_name("dbctl.toml")
    told, _, _ = config.read_text().partition('repository = "backups"')
    config.write_text(f'{told}repository = "backups"\n{text}\n')


def drill(path):
    with promptvault_app.opened(path) as (app, _repository):
        return Drills([app], promptvault_app.keys_of).apply()


def older(path, made, days):
    """Let a backup be made so many days ago, as far as its manifest tells."""
    file = folder_of(path, made) / "manifest.json"
    manifest = backup_manifest.read(file.read_bytes())
    ago = {name: getattr(manifest, name) - timedelta(days=days) for name in ("created_at", "verified_at")}
    file.write_text(backup_manifest.written(structs.replace(manifest, **ago)))


def test_what_the_configuration_sets_no_time_for_is_never_due(deployed):
    older(deployed, create(deployed), 1000)
    assert (dict(standing(deployed).due), surveyed(deployed).check) == ({}, Exit.OK)


def test_without_a_backup_one_is_due_and_nothing_else(deployed):
    wanted(deployed, 'max_age = "1h"\nverify_within = "1h"\ndrill_within = "1h"')
    told = standing(deployed)
    assert list(told.due) == ["create"]
    assert told.due["create"].startswith("there is no backup (there is no directory")
    assert (told.backups, told.newest, told.age, told.bytes, told.drilled_at) == (0, None, None, None, None)
    assert surveyed(deployed).check == Exit.ACTION_NEEDED


def test_a_backup_is_overdue_unverified_and_undrilled_each_by_its_own_time(deployed):
    made = create(deployed)
    wanted(deployed, 'max_age = "26h"\nverify_within = "8d"\ndrill_within = "32d"')
    assert dict(standing(deployed).due) == {"drill": status.UNDRILLED}
    drill(deployed)
    assert dict(standing(deployed).due) == {}
    older(deployed, made, 2)
    assert dict(standing(deployed).due) == {"create": "the newest backup is older than 26h"}
    wanted(deployed, 'verify_within = "0s"\ndrill_within = "0s"')
    due = standing(deployed).due
    assert due["verify"] == f"1 backup not read whole within 0s, the oldest {made.id} (dbctl backup verify)"
    assert due["drill"] == "no backup was restored on trial within 0s (dbctl backup drill)"


def test_an_old_backup_that_nobody_has_read_again_is_unverified_though_the_newest_is_not(deployed):
    wanted(deployed, 'verify_within = "8d"')
    old, _new = create(deployed), create(deployed)
    older(deployed, old, 9)
    assert f"the oldest {old.id}" in standing(deployed).due["verify"]
    verified(deployed, deep=False)
    assert dict(standing(deployed).due) == {}


def test_it_tells_what_was_proven_and_how_much_room_it_takes(deployed):
    first = create(deployed)
    drill(deployed)
    second = create(deployed)
    told = standing(deployed)
    assert (told.newest, told.backups, told.drilled) == (second.id, 2, first.id)
    assert (told.bytes, told.growth_bytes) == (second.bytes, second.bytes - first.bytes)
    assert told.drill_duration > timedelta(0)
    (where,) = surveyed(deployed).standing.repositories
    assert (where.backups, where.bytes, where.room_bytes > 0) == (2, first.bytes + second.bytes, True)


@pytest.mark.parametrize("harm", ["cut", "gone", "flipped"])
def test_a_damaged_one_is_not_the_newest_and_is_told(deployed, harm):
    good, bad = create(deployed), create(deployed)
    file = file_of(deployed, bad)
    raw = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(raw[:-1] + (b"" if harm == "cut" else bytes([raw[-1] ^ 1])))
    if harm == "flipped":  # which only somebody who reads it sees, and that is remembered
        assert standing(deployed).newest == bad.id
        verified(deployed, deep=False)
    assert standing(deployed).newest == good.id
    told = surveyed(deployed)
    assert (told.check, told.status) == (Exit.UNSOUND, Exit.OK)
    assert list(told.standing.repositories[0].damaged) == [bad.id]
    assert bad.id in told.troubles[0]


def test_leftovers_and_manifests_that_cannot_be_read_are_told(deployed):
    create(deployed)
    unread, cut = create(deployed), create(deployed)
    (folder_of(deployed, unread) / "manifest.json").write_text("{")
    (folder_of(deployed, cut) / "manifest.json").rename(folder_of(deployed, cut) / ".dbctl-incomplete")
    (where,) = surveyed(deployed).standing.repositories
    assert (where.incomplete, list(where.unread)) == ([cut.id], [unread.id])
    assert surveyed(deployed).check == Exit.UNSOUND


def test_an_incomplete_backup_that_no_process_writes_is_due_for_removal(deployed, answer, monkeypatch):
    create(deployed)
    cut = create(deployed)
    (folder_of(deployed, cut) / "manifest.json").rename(folder_of(deployed, cut) / ".dbctl-incomplete")
    monkeypatch.chdir(deployed.parent)
    with promptvault_app.opened(deployed) as (_, repository), repository.store.lock("test", timeout=5):
        assert surveyed(deployed).check == Exit.OK
    assert surveyed(deployed).check == Exit.ACTION_NEEDED
    (where,) = surveyed(deployed).standing.repositories
    assert where.cut_off == [cut.id]
    assert cut.id in " ".join(answer("status", "--check", status=3)["warnings"])
    codes = {finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]}
    assert "backup-incomplete" in codes


def test_a_backup_of_a_time_to_come_keeps_none_from_being_due(deployed, monkeypatch):
    wanted(deployed, 'max_age = "26h"')
    monkeypatch.setattr(backup_create, "now", lambda: datetime(2099, 1, 1, tzinfo=UTC))
    create(deployed)
    assert "a clock is wrong, or was" in standing(deployed).due["create"]
    assert standing(deployed).age == timedelta(0)


def test_a_proof_of_a_time_to_come_proves_nothing(deployed, monkeypatch):
    wanted(deployed, 'verify_within = "8d"\ndrill_within = "32d"')
    create(deployed)
    for module in (restore_test, verification_record):
        monkeypatch.setattr(module, "now", lambda: datetime(2099, 1, 1, tzinfo=UTC))
    drill(deployed)
    assert list(standing(deployed).due) == ["verify", "drill"]


def test_each_database_is_told_of_by_itself(pair):  # noqa: F811 - a fixture
    wanted(pair[0], 'max_age = "26h"')
    both = create(pair[0])
    older(pair[0], both, 2)
    alone = create(pair[0], only="two")
    one, two = surveyed(pair[0]).standing.databases
    assert (one.newest, list(one.due)) == (both.id, ["create"])
    assert (two.newest, list(two.due)) == (alone.id, [])
    assert [each.database for each in surveyed(pair[0], only="two").standing.databases] == ["two"]


def test_a_backup_tells_how_close_together_its_databases_were_taken(pair):  # noqa: F811 - a fixture
    made = create(pair[0])
    moments = [one.taken_at for one in made.members]
    assert len(moments) == 2
    assert made.taken_within == max(moments) - min(moments)
    assert made.brief()["taken_within"] == made.taken_within
    alone = create(pair[0], only="two")
    assert (alone.taken_within, "taken_within" in alone.brief()) == (timedelta(0), False)


def test_an_app_without_a_repository_is_refused_alone(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().partition("[apps.fp.backup]")[0])
    caught(RepositoryUnsetError, lambda: surveyed(path))


def test_a_span_that_is_none_is_a_mistake_of_the_configuration(deployed, answer, monkeypatch):
    monkeypatch.chdir(deployed.parent)
    for key in ("verify_within", "drill_within"):
        wanted(deployed, f'{key} = "a month"')
        assert key in answer("backup", "status", status=Exit.USAGE)["error"]["message"]


def test_the_database_of_a_table_is_found_where_only_one_has_it(pair):  # noqa: F811 - a fixture
    run(pair[1], "create table only_here (x)")
    with promptvault_app.opened(pair[0]) as (app, repository):

        def asked(*tables):
            return lambda: Creation(app, repository, timeout=5, tables=tables)

        assert "--db one or --db two" in str(caught(UsageError, asked("t")))
        assert "one, two" in str(caught(SchemaLacksError, asked("nowhere")))
        # Found, and then refused, for a file is copied whole.
        assert "pair/two" in str(caught(NotSupportedError, asked("only_here")))


# Beside the live database ------------------------------------------------------------------------------------------


def beside_live(path, **more):
    with promptvault_app.opened(path, **more) as (app, repository):
        return verify.verify(
            app, repository, ["latest"], deep=False, keys=promptvault_app.keys_of(app), live=True
        )


def test_rows_that_came_are_no_fault_rows_that_went_are_a_warning_and_a_table_that_went_is_an_error(pantry):
    create(pantry.path)
    assert codes(beside_live(pantry.path).findings) == []
    ((number,),) = pantry.rows("select count(*) from history")
    pantry.run("delete from history")
    pantry.run("create table fresh (x int)", "insert into fresh values (1)")
    checked = beside_live(pantry.path)
    found = {one.code: one for one in checked.findings.findings}
    assert checked.status == Exit.OK
    assert f"history has 0 rows now, {number} in it" in found["rows-fewer"].message
    assert found["rows-fewer"].severity == found["schema-changed"].severity == "warning"
    assert (found["table-new"].severity, "fresh" in found["table-new"].message) == ("info", True)
    create(pantry.path)
    pantry.run("insert into fresh values (2), (3)")
    (more,) = beside_live(pantry.path).findings.findings
    assert (more.severity, more.code, "3 rows now, 1 in it" in more.message) == ("info", "rows-more", True)
    pantry.run("drop table fresh")
    checked = beside_live(pantry.path)
    assert checked.status == Exit.UNSOUND
    assert "table-gone" in codes(checked.findings)


def test_a_migration_that_ran_since_is_told_as_such(deployed):
    create(deployed)
    run(deployed, "insert into migrations (id, name) values (99, 'later')")
    (found,) = beside_live(deployed).findings.findings
    assert (found.severity, found.code) == ("warning", "migrations-differ")
    assert "migrate up" in found.hint
