"""``backup drill`` restores into a temporary location, verifies and records the result, and leaves no other files."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta

import pytest
from msgspec import structs

from dbctl.errors.backup import BackupMissingError, BackupPartialError, RepositoryMissingError
from dbctl.errors.base import Exit
from dbctl.errors.connection import DiskFullError
from dbctl.errors.usage import NotSupportedError
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import verification_record
from dbctl.services.backup.copy import CopyBackups
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.retention.delete import DeleteBackups
from dbctl.services.restore.drill import RunDrills
from dbctl.stores.base import MANIFEST
from tests.databases import on_sqlite
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error, run_statements
from tests.services.promptvault_app import (
    apply_restore,
    create_app,
    create_app_backup,
    find_backup_file,
    find_backup_folder,
    list_codes,
    open_prune,
    verify_backups,
)
from tests.services.restore.test_apply import pair  # noqa: F401
from tests.small_disk import mount_disk


@pytest.fixture(params=larder_app.ENGINES)
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


@pytest.fixture
def deployed(tmp_path):
    return create_app(tmp_path / "app", "deployed")


def drill(path, name="latest", **options):
    with promptvault_app.open_repository(path, **options) as (app, _repository):
        return RunDrills([app], promptvault_app.create_keys, name=name).apply()


def read_verification(path, backup):
    with promptvault_app.open_repository(path) as (_app, repository):
        return verification_record.read(repository.store, backup.id)


def rewrite_manifest(path, backup, change):
    """Rewrite the manifest of a backup with changed members and a valid checksum."""
    file = find_backup_folder(path, backup) / "manifest.json"
    manifest = backup_manifest.parse(file.read_bytes())
    members = [change(member) for member in manifest.members]
    file.write_text(backup_manifest.serialize(structs.replace(manifest, members=members)))


def test_drill_leaves_only_its_record(pantry):
    backup, before = create_app_backup(pantry.path), pantry.content()
    names = pantry.databases() if pantry.engine != "sqlite" else None
    files = {path.name for path in pantry.folder.rglob("*")}
    result = drill(pantry.path)
    (database,) = result.databases
    assert (result.exit_status, database.passed, database.backup) == (Exit.OK, True, backup.id)
    assert (database.rows, database.tables) == (
        sum(backup.members[0].rows.values()),
        len(backup.members[0].rows),
    )
    assert database.digests == len(backup.members[0].digests) > 0
    assert database.checks > 0
    assert database.duration > timedelta(0)
    assert pantry.content() == before
    assert (pantry.databases() if pantry.engine != "sqlite" else None) == names
    assert {path.name for path in pantry.folder.rglob("*")} - files == {"verified.json"}


def test_drill_of_forged_database_name_writes_only_temporary_files(deployed):
    backup = create_app_backup(deployed)
    forged = str(deployed.parent / "forged")
    rewrite_manifest(deployed, backup, lambda member: structs.replace(member, database=forged))
    result = drill(deployed)
    assert (result.exit_status, result.databases[0].passed) == (Exit.CHECK_FAILED, False)
    assert not list(deployed.parent.glob("forged*"))


@on_sqlite("pantry")
def test_result_is_recorded_next_to_the_backup(pantry):
    backup = create_app_backup(pantry.path)
    drill(pantry.path)
    (name, record), *others = read_verification(pantry.path, backup).drills.items()
    assert (name, others) == ("pantry", [])
    assert record.rows == sum(backup.members[0].rows.values())
    assert record.host
    assert record.dbctl
    assert record.at >= backup.created_at
    (listed_backup,) = promptvault_app.list_all_backups(pantry.path).page.items
    assert listed_backup.verified_at > backup.verified_at
    assert listed_backup.drills["pantry"] == record


def test_drill_fails_if_rows_differ_with_equal_row_count(pantry):
    """A dump of a server is loaded to compare its rows."""
    backup = create_app_backup(pantry.path)
    digests = dict.fromkeys(backup.members[0].digests, "exact:" + "0" * 64)
    rewrite_manifest(
        pantry.path, backup, lambda member: structs.replace(member, digests={**member.digests, **digests})
    )
    result = drill(pantry.path)
    assert (result.exit_status, result.databases[0].passed) == (Exit.CHECK_FAILED, False)
    assert "differ" in result.findings[0].message
    assert not read_verification(pantry.path, backup).drills
    assert list_codes(verify_backups(pantry.path)) == [result.findings[0].code]
    if pantry.engine != "sqlite":
        assert sorted(pantry.databases()) == [pantry.own.path]


@on_sqlite("pantry")
def test_digests_of_an_older_form_are_neither_compared_nor_counted(pantry):
    backup = create_app_backup(pantry.path)
    digests = dict.fromkeys(backup.members[0].digests, "0" * 64)
    rewrite_manifest(pantry.path, backup, lambda member: structs.replace(member, digests=digests))
    result = drill(pantry.path)
    assert (result.exit_status, result.databases[0].digests) == (Exit.OK, 0)
    assert list_codes(verify_backups(pantry.path)) == []


#: Values with special formats, which must be restored unchanged.
ODD_VALUES = {
    "postgresql": """
create table odd (t timestamptz, d date, i interval, n numeric, r real, f float8, j jsonb, b bytea, a text[], u uuid,
    bits bit(5), doubled text generated always as ('x' || n::text) stored);
insert into odd values ('infinity', '-infinity', '1 mon -2 days', 'NaN', 0.1, 1e-320, '{"b": 1.10, "a": null}',
    '\\x00ff', array['a,b', null, '"'], '00000000-0000-0000-0000-000000000001', b'10101');
insert into odd values ('2024-01-01 00:00:00.123456+05:30', '4713-01-01 BC', null, 1e40, 'NaN', '-Infinity', 'null');
""",
    "mysql": """
create table odd (t timestamp(6) null, d datetime(3), n decimal(30, 10), f float, g double, j json, b blob, y year,
    h time(3), bits bit(9), e enum('a', 'b'), s set('x', 'y'), doubled int generated always as (year(d)) stored);
insert into odd (t, d, n, f, g, j, b, y, h, bits, e, s) values ('2024-06-01 00:00:00.123456', '9999-12-31 23:59:59.999',
    12345678901234567890.0000000001, 0.1, 1e-300, '{"b": 1.10}', x'00ff5c27', 1999, '-838:59:59.000', b'101010101',
    'b', 'x,y');
""",
    "sqlite": """
create table odd (a, b, c);
insert into odd values (1.5, x'00ff', 9e999), ('1.5', '', null), (9223372036854775807, cast(x'ff' as text), -0.0);
""",
}


def test_values_of_every_type_are_restored_unchanged(pantry):
    pantry.run(*ODD_VALUES[pantry.engine].strip().removesuffix(";").split(";\n"))
    backup = create_app_backup(pantry.path)
    assert "odd" in backup.members[0].digests
    result = drill(pantry.path)
    assert (result.exit_status, result.databases[0].digests) == (Exit.OK, len(backup.members[0].digests)), (
        result.findings
    )


def test_drill_of_damaged_file_fails_until_it_is_repaired(deployed):
    backup = create_app_backup(deployed)
    file = find_backup_file(deployed, backup)
    complete = file.read_bytes()
    file.write_bytes(complete[:5000] + bytes([complete[5000] ^ 1]) + complete[5001:])
    result = drill(deployed)
    assert (result.exit_status, [finding.code for finding in result.findings]) == (
        Exit.CHECK_FAILED,
        ["file-changed"],
    )
    assert (result.effect.counts["tables"], result.effect.counts["rows"]) == (0, 0)  # nothing was restored
    assert "SHA-256" in read_verification(deployed, backup).failed.message
    file.write_bytes(complete)
    assert drill(deployed).exit_status == Exit.OK
    assert read_verification(deployed, backup).failed is None


@pytest.mark.parametrize("detect", [drill, verify_backups])
def test_comparing_checksums_clears_a_file_that_was_missing(deployed, detect):
    file = find_backup_file(deployed, backup := create_app_backup(deployed))
    complete = file.read_bytes()
    file.unlink()
    detect(deployed)
    assert "missing" in read_verification(deployed, backup).failed.message
    file.write_bytes(complete)
    assert list_codes(verify_backups(deployed, deep=False)) == []
    assert read_verification(deployed, backup).failed is None


def test_shallow_verification_does_not_clear_a_deep_failure(deployed):
    backup = create_app_backup(deployed)
    rewrite_manifest(
        deployed, backup, lambda member: structs.replace(member, rows={**member.rows, "users": 1})
    )
    assert list_codes(verify_backups(deployed)) == ["rows-differ"]
    assert list_codes(verify_backups(deployed, deep=False)) == []
    file = find_backup_file(deployed, backup)
    file.rename(file.with_suffix(".off"))
    assert list_codes(verify_backups(deployed, deep=False))[-1] == "file-missing"
    file.with_suffix(".off").rename(file)
    verify_backups(deployed, deep=False)
    assert read_verification(deployed, backup).failed.deep
    rewrite_manifest(deployed, backup, lambda _member: backup.members[0])
    verify_backups(deployed)
    assert read_verification(deployed, backup).failed is None


def test_invalid_rows_of_the_app_do_not_fail_a_drill(deployed):
    run_statements(deployed, "pragma foreign_keys = off")
    run_statements(
        deployed, "insert into user_settings (user_id, setting_key, setting_value) values (999, 'x', 'y')"
    )
    create_app_backup(deployed)
    result = drill(deployed)
    assert result.exit_status == Exit.OK
    severities = {finding.code: finding.severity for finding in result.findings}
    assert severities["foreign-key-orphans"] == "info"


def test_drill_restores_the_newest_backup_of_each_database(pair):  # noqa: F811
    complete = create_app_backup(pair[0])
    single = create_app_backup(pair[0], only="two")
    result = drill(pair[0])
    assert {database.database: database.backup for database in result.databases} == {
        "one": complete.id,
        "two": single.id,
    }
    assert [database.database for database in drill(pair[0], complete.id).databases] == ["one", "two"]
    assert [database.database for database in drill(pair[0], complete.id, only="one").databases] == ["one"]
    catch_error(BackupMissingError, lambda: drill(pair[0], single.id, only="one"))


def test_drill_of_single_database_does_not_verify_the_backup(pair):  # noqa: F811
    backup = create_app_backup(pair[0])
    drill(pair[0], only="one")
    assert (
        read_verification(pair[0], backup).verified_at,
        set(read_verification(pair[0], backup).drills),
    ) == (None, {"one"})
    drill(pair[0], only="two")
    assert set(read_verification(pair[0], backup).drills) == {"one", "two"}
    drill(pair[0])
    assert read_verification(pair[0], backup).verified_at


def test_failed_drill_of_one_app_does_not_stop_the_others(tmp_path, answer, monkeypatch):
    path = create_app(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    create_app_backup(path)
    text = path.with_name("dbctl.toml").read_text()
    path.with_name("dbctl.toml").write_text(
        text
        + text.replace("apps.fp", "apps.none")
        + text.replace("apps.fp", "apps.unconfigured").partition("[apps.unconfigured.backup]")[0]
    )
    output = answer("backup", "drill", "--all-apps", status=Exit.PARTIAL)
    assert [item["app"] for item in output["data"]["databases"]] == ["fp"]
    assert [(item["target"], item["code"]) for item in output["data"]["failed"]] == [
        ("none", "backup-missing")
    ]
    plan = answer("backup", "drill", "--all-apps", "--dry-run")["data"]["plan"]
    assert [step.split(":")[0] for step in plan["steps"]][-1] == "skip none"
    assert not plan["destructive"]


def test_prune_retains_the_last_drilled_backup(deployed):
    first = create_app_backup(deployed)
    drill(deployed)
    second, third = create_app_backup(deployed), create_app_backup(deployed)
    with open_prune(deployed, last=1) as prune:
        assert f"retain {first.id}: the last one with a drill" in prune.plan().steps
        assert prune.apply().deleted == [second.id]
    drill(deployed)
    with open_prune(deployed, last=1) as prune:
        assert prune.apply().deleted == [first.id]
    assert [backup.id for backup in promptvault_app.list_all_backups(deployed).page.items] == [third.id]


def test_drill_of_missing_backup_is_refused(deployed):
    catch_error(RepositoryMissingError, lambda: drill(deployed))
    create_app_backup(deployed)
    safety = apply_restore(deployed).safety_backup
    assert drill(deployed, safety).databases[0].backup == safety
    catch_error(BackupMissingError, lambda: drill(deployed, "20000101_000000"))


def test_retained_databases_and_partial_backups_are_refused(tmp_path):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as pantry:
        create_app_backup(pantry.path)
        safety = apply_restore(pantry.path).safety_backup
        catch_error(NotSupportedError, lambda: drill(pantry.path, safety))
        with promptvault_app.open_repository(pantry.path) as (_app, repository):
            partial_backup = CreateBackup(repository, tables=["members"]).apply()
        catch_error(BackupPartialError, lambda: drill(pantry.path, partial_backup.id))


def test_unrecorded_result_is_reported_and_is_not_a_failure(deployed):
    backup = create_app_backup(deployed)
    (find_backup_folder(deployed, backup) / "verified.json").mkdir()
    result = drill(deployed)
    assert result.exit_status == Exit.OK
    assert backup.id in result.remarks[0]
    assert "cannot be recorded" in result.remarks[0]


def test_disk_without_inodes_is_no_fault_of_the_backup(tmp_path):
    with mount_disk(tmp_path / "disk", "20m") as disk:
        path = create_app(disk / "app", "deployed")
        create_app_backup(path)
        status = os.statvfs(disk)
        for free in range(20):
            options = f"remount,nr_inodes={status.f_files - status.f_ffree + free}"
            subprocess.run(["mount", "-o", options, disk], check=True)
            try:
                result = drill(path)
            except DiskFullError:
                continue
            assert result.exit_status == Exit.OK
            break
        assert free > 0


def test_invalid_verification_record_is_ignored(deployed):
    backup = create_app_backup(deployed)
    record = find_backup_folder(deployed, backup) / "verified.json"
    for text in ("", "[]", "\xff", "[" * 100_000, '{"verified_at": "9999-12-31T23:59:59Z"}', '{"drills": 3}'):
        record.write_text(text, encoding="latin-1")
        assert read_verification(deployed, backup) == verification_record.Verification()
    drill(deployed)
    assert json.loads(record.read_text())["drills"]["user"]["rows"]


@pytest.mark.parametrize("pantry", ["mysql"], indirect=True)
def test_view_without_definer_is_reported(pantry):
    """The server loads such a view, and rejects each query."""
    account = f"'{pantry.own.path[:40]}'@'localhost'"
    pantry.run(
        f"create user {account}",
        f"create definer = {account} view visible as select 1 as x",
        f"drop user {account}",
    )
    backup = create_app_backup(pantry.path)
    result = drill(pantry.path)
    (finding,) = [finding for finding in result.findings if finding.severity == "error"]
    assert finding.code == "view-unreadable"
    assert "visible" in finding.message
    assert result.exit_status == Exit.CHECK_FAILED
    # The backup contains the view as it was.
    assert read_verification(pantry.path, backup).drills


@pytest.mark.parametrize("pantry", ["sqlite"], indirect=True)
def test_views_are_read_after_a_check_of_text_indexes(pantry):
    pantry.run("create virtual table words using fts5(word)", "create view visible as select word from words")
    create_app_backup(pantry.path)
    assert drill(pantry.path).exit_status == Exit.OK


@pytest.mark.parametrize("pantry", ["postgresql", "mysql"], indirect=True)
def test_deleted_safety_backup_drops_its_database(pantry):
    before = set(pantry.databases())
    create_app_backup(pantry.path)
    safety = apply_restore(pantry.path).safety_backup
    assert len(set(pantry.databases()) - before) == 1
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        operation = DeleteBackups(repository, [safety])
        (name,) = set(pantry.databases()) - before
        assert any(name in step for step in operation.plan().steps)
        result = operation.apply()
    assert (list(result.dropped), list(result.remarks)) == ([name], [])
    assert set(pantry.databases()) == before


@pytest.mark.parametrize("pantry", ["postgresql", "mysql"], indirect=True)
def test_deleted_safety_backup_drops_no_database_of_another_one(pantry, tmp_path):
    """One of another repository may retain it, or one whose manifest cannot be read."""
    before = set(pantry.databases())
    create_app_backup(pantry.path)
    safety = apply_restore(pantry.path).safety_backup
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        copies = Repository(app, str(tmp_path / "copies"))
        CopyBackups(repository, copies, [safety]).apply()
    latest = apply_restore(pantry.path).safety_backup
    (name,) = set(pantry.databases()) - before
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        (promptvault_app.find_backup_folder(pantry.path, latest) / MANIFEST).write_text("{")
        for operation in (
            DeleteBackups(repository, [safety]),
            DeleteBackups(Repository(app, str(tmp_path / "copies")), [safety]),
        ):
            assert not [step for step in operation.plan().steps if step.startswith("drop")]
            assert not operation.apply().dropped
    assert set(pantry.databases()) - before == {name}
