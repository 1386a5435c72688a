"""Status of backups: due jobs, damage, and comparison with the live database."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from dbctl.config.sections import Selection
from dbctl.errors.backup import ClockImplausibleError, RepositoryNotConfiguredError
from dbctl.errors.base import Exit
from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import status, verification_record
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.due import NO_DRILL
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.restore import drill_run
from dbctl.services.restore.drill import RunDrills
from tests.databases import from_url
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error, run_statements
from tests.services.promptvault_app import (
    create_app,
    create_app_backup,
    find_backup_file,
    find_backup_folder,
    list_codes,
    open_prune,
    verify_backups,
)
from tests.services.restore.test_apply import pair  # noqa: F401


@pytest.fixture
def deployed(tmp_path):
    return create_app(tmp_path / "app", "deployed")


@pytest.fixture(params=larder_app.ENGINES)
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


def read_report(path, **options):
    return status.collect_status([Selection(config=str(path.with_name("dbctl.toml")))], timeout=5, **options)


def read_database_status(path, **options):
    (database,) = read_report(path, **options).backups.databases
    return database


def configure(path, text):
    """Replace the backup settings after ``repository`` in the configuration."""
    config = path.with_name("dbctl.toml")
    config_text, _, _ = config.read_text().partition('repository = "backups"')
    config.write_text(f'{config_text}repository = "backups"\n{text}\n')


def drill(path):
    with promptvault_app.open_repository(path) as (app, _repository):
        return RunDrills([app], promptvault_app.create_keys).apply()


def backdate(path, backup, days):
    """Move the times in the manifest of a backup back by ``days``."""
    file = find_backup_folder(path, backup) / "manifest.json"
    manifest = backup_manifest.parse(file.read_bytes())
    changes = {name: getattr(manifest, name) - timedelta(days=days) for name in ("created_at", "verified_at")}
    file.write_text(backup_manifest.serialize(structs.replace(manifest, **changes)))


def test_jobs_without_configured_interval_are_never_due(deployed):
    backdate(deployed, create_app_backup(deployed), 1000)
    assert (dict(read_database_status(deployed).due), read_report(deployed).check_status) == ({}, Exit.OK)


def test_only_create_is_due_without_backup(deployed):
    configure(deployed, 'max_age = "1h"\nverify_within = "1h"\ndrill_within = "1h"')
    database = read_database_status(deployed)
    assert list(database.due) == ["create"]
    assert database.due["create"].startswith("no backup exists (backup directory not found")
    assert (database.backups, database.newest, database.age, database.bytes, database.drilled_at) == (
        0,
        None,
        None,
        None,
        None,
    )
    assert read_report(deployed).check_status == Exit.ACTION_NEEDED


def test_each_job_is_due_after_its_configured_interval(deployed):
    backup = create_app_backup(deployed)
    configure(deployed, 'max_age = "26h"\nverify_within = "8d"\ndrill_within = "32d"')
    assert dict(read_database_status(deployed).due) == {"drill": NO_DRILL}
    drill(deployed)
    assert dict(read_database_status(deployed).due) == {}
    backdate(deployed, backup, 2)
    assert dict(read_database_status(deployed).due) == {"create": "the newest backup is older than 26h"}
    configure(deployed, 'verify_within = "0s"\ndrill_within = "0s"')
    due = read_database_status(deployed).due
    assert due["verify"] == f"1 backup not verified within 0s, the oldest {backup.id}"
    assert due["drill"] == "no drill within 0s"
    hints = {finding.code: finding.hint for finding in read_database_status(deployed).find_warnings()}
    assert re.search(r"dbctl backup verify .*--app ", hints["verification-due"])
    assert re.search(r"dbctl backup drill .*--app ", hints["drill-due"])


def test_old_unverified_backup_is_due_despite_newer_one(deployed):
    configure(deployed, 'verify_within = "8d"')
    old, _new = create_app_backup(deployed), create_app_backup(deployed)
    backdate(deployed, old, 9)
    assert f"the oldest {old.id}" in read_database_status(deployed).due["verify"]
    verify_backups(deployed, deep=False)
    assert dict(read_database_status(deployed).due) == {}


def test_status_contains_last_drill_and_sizes(deployed):
    first = create_app_backup(deployed)
    drill(deployed)
    second = create_app_backup(deployed)
    database = read_database_status(deployed)
    assert (database.newest, database.backups, database.drilled_backup) == (second.id, 2, first.id)
    assert (database.bytes, database.growth_bytes) == (second.bytes, second.bytes - first.bytes)
    assert database.drill_duration > timedelta(0)
    (repository,) = read_report(deployed).backups.repositories
    assert (repository.backups, repository.bytes, repository.free_bytes > 0) == (
        2,
        first.bytes + second.bytes,
        True,
    )


@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_damaged_backup_is_reported_and_not_newest(deployed, damage):
    good, bad = create_app_backup(deployed), create_app_backup(deployed)
    file = find_backup_file(deployed, bad)
    raw = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(raw[:-1] + (b"" if damage == "truncated" else bytes([raw[-1] ^ 1])))
    if damage == "flipped":  # only a verification detects and records it
        assert read_database_status(deployed).newest == bad.id
        verify_backups(deployed, deep=False)
    assert read_database_status(deployed).newest == good.id
    report = read_report(deployed)
    assert (report.check_status, report.status) == (Exit.CHECK_FAILED, Exit.OK)
    assert list(report.backups.repositories[0].damaged) == [bad.id]
    assert bad.id in report.problems[0]


def test_incomplete_and_unreadable_backups_are_reported(deployed):
    create_app_backup(deployed)
    unreadable, interrupted = create_app_backup(deployed), create_app_backup(deployed)
    (find_backup_folder(deployed, unreadable) / "manifest.json").write_text("{")
    (find_backup_folder(deployed, interrupted) / "manifest.json").rename(
        find_backup_folder(deployed, interrupted) / ".dbctl-incomplete"
    )
    (repository,) = read_report(deployed).backups.repositories
    assert (repository.incomplete, list(repository.unreadable)) == ([interrupted.id], [unreadable.id])
    assert read_report(deployed).check_status == Exit.CHECK_FAILED


def test_incomplete_backup_without_writer_requires_action(deployed, answer, monkeypatch):
    create_app_backup(deployed)
    interrupted = create_app_backup(deployed)
    (find_backup_folder(deployed, interrupted) / "manifest.json").rename(
        find_backup_folder(deployed, interrupted) / ".dbctl-incomplete"
    )
    monkeypatch.chdir(deployed.parent)
    with (
        promptvault_app.open_repository(deployed) as (_, repository),
        repository.store.lock("test", timeout=5),
    ):
        assert read_report(deployed).check_status == Exit.OK
    assert read_report(deployed).check_status == Exit.ACTION_NEEDED
    (repository_status,) = read_report(deployed).backups.repositories
    assert repository_status.interrupted == [interrupted.id]
    assert interrupted.id in " ".join(answer("status", "--check", status=3)["warnings"])
    codes = {finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]}
    assert "backup-incomplete" in codes


@pytest.mark.parametrize("keep", ["", "keep = { last = 2 }"])
def test_hint_about_incomplete_backup_removes_only_that_backup(tmp_path, answer, monkeypatch, keep):
    monkeypatch.chdir(tmp_path)
    from_url("shop.db").run("create table things (id integer primary key)")
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "shop.db"\n[apps.shop.backup]\nrepository = "backups"\n{keep}\n'
    )
    complete = [answer("backup", "create")["data"]["id"] for _ in range(2)]
    interrupted = tmp_path / "backups/shop/20201101_010203"
    for words in (["backup", "verify"], ["backup", "status"], ["doctor"]):
        interrupted.mkdir()
        (interrupted / ".dbctl-incomplete").touch()
        result = answer(*words, status=None)
        texts = [
            finding["hint"]
            for finding in result["data"].get("findings", ())
            if finding["code"] == "backup-incomplete"
        ]
        (command,) = {
            match[1]
            for match in re.finditer(r"(backup prune[^;)]*)", " ".join([*texts, *result["warnings"]]))
        }
        pruned = answer(*command.split())["data"]
        assert (pruned["leftovers"], pruned["deleted"]) == ([interrupted.name], [])
    assert sorted(path.name for path in interrupted.parent.glob("2*")) == sorted(complete)


def test_backup_from_future_does_not_prevent_due_create(deployed, monkeypatch):
    configure(deployed, 'max_age = "26h"')
    monkeypatch.setattr(backup_create, "now", lambda: datetime(2099, 1, 1, tzinfo=UTC))
    create_app_backup(deployed)
    assert "a clock is or was wrong" in read_database_status(deployed).due["create"]
    assert read_database_status(deployed).age == timedelta(0)


def test_verification_from_future_is_not_counted(deployed, monkeypatch):
    configure(deployed, 'verify_within = "8d"\ndrill_within = "32d"')
    create_app_backup(deployed)
    for module in (drill_run, verification_record):
        monkeypatch.setattr(module, "now", lambda: datetime(2099, 1, 1, tzinfo=UTC))
    drill(deployed)
    assert list(read_database_status(deployed).due) == ["verify", "drill"]


def test_each_database_has_a_separate_status(pair):  # noqa: F811
    configure(pair[0], 'max_age = "26h"')
    complete = create_app_backup(pair[0])
    backdate(pair[0], complete, 2)
    partial = create_app_backup(pair[0], only="two")
    first, second = read_report(pair[0]).backups.databases
    assert (first.newest, list(first.due)) == (complete.id, ["create"])
    assert (second.newest, list(second.due)) == (partial.id, [])
    assert [database.database for database in read_report(pair[0], only="two").backups.databases] == ["two"]


LIMITS = """max_age = "26h"
keep = { last = 1 }
[apps.pair.backup.databases.two]
max_age = "7d"
keep = { last = 3 }
"""


def test_databases_may_have_their_own_maximum_age(pair, answer, monkeypatch):  # noqa: F811
    monkeypatch.chdir(pair[0].parent)
    configure(pair[0], LIMITS)
    complete = create_app_backup(pair[0])
    backdate(pair[0], complete, 2)
    first, second = read_report(pair[0]).backups.databases
    assert first.due == {"create": "the newest backup is older than 26h"}
    assert dict(second.due) == {}
    codes = [
        finding["target"]
        for finding in answer("doctor", status=None)["data"]["findings"]
        if finding["code"] == "backup-due"
    ]
    assert codes == ["pair/one"]
    warnings = " ".join(answer("status", "--check", status=3)["warnings"])
    assert ("pair/one: the newest backup is older than 26h" in warnings, "pair/two" in warnings) == (
        True,
        False,
    )
    backdate(pair[0], complete, 6)
    assert read_report(pair[0]).backups.databases[1].due == {"create": "the newest backup is older than 7d"}
    create_app_backup(pair[0], only="one")
    first, second = read_report(pair[0]).backups.databases
    assert (list(first.due), list(second.due)) == ([], ["create"])


def test_prune_counts_each_database_by_its_own_rules(pair):  # noqa: F811
    configure(pair[0], LIMITS)
    ids = {name: [create_app_backup(pair[0], only=name).id for _ in range(4)] for name in ("two", "one")}
    with open_prune(pair[0]) as operation:
        assert sorted(operation.apply().deleted) == sorted([*ids["two"][:1], *ids["one"][:3]])
    complete = [create_app_backup(pair[0]).id for _ in range(4)]
    with open_prune(pair[0]) as operation:
        result = operation.apply()
    assert [retained.id for retained in result.retained] == complete[:0:-1], "two requires the last three"
    with open_prune(pair[0], last=2) as operation:
        assert operation.apply().deleted == [complete[1]], "options apply to all databases"


def test_rules_of_one_database_retain_all_backups_of_the_others(pair):  # noqa: F811
    configure(pair[0], "[apps.pair.backup.databases.two]\nkeep = { last = 1 }")
    ids = {name: [create_app_backup(pair[0], only=name).id for _ in range(2)] for name in ("one", "two")}
    with open_prune(pair[0]) as operation:
        assert operation.apply().deleted == ids["two"][:1]


@pytest.mark.needs_extension("schedule")
def test_prune_is_scheduled_for_the_rules_of_one_database(pair, answer, monkeypatch):  # noqa: F811
    monkeypatch.chdir(pair[0].parent)
    assert "backup prune" not in str(answer("schedule", "cron")["data"])
    configure(pair[0], "[apps.pair.backup.databases.two]\nkeep = { last = 1 }")
    assert "backup prune" in str(answer("schedule", "cron")["data"])


def test_limits_of_space_delete_no_newest_backup_of_a_database(pair):  # noqa: F811
    configure(pair[0], LIMITS.replace("last = 1", 'last = 1, max_bytes = "1"'))
    oldest = create_app_backup(pair[0], only="two").id
    newer = [create_app_backup(pair[0], only="one").id for _ in range(3)]
    with open_prune(pair[0]) as operation:
        result = operation.apply()
    assert sorted(result.deleted) == sorted(newer[:2])
    assert [retained.id for retained in result.retained] == [newer[2], oldest]


def test_age_of_one_database_is_checked_for_the_clock(pair):  # noqa: F811
    configure(pair[0], '[apps.pair.backup.databases.two]\nkeep = { within = "1d" }')
    old = create_app_backup(pair[0], only="two")
    backdate(pair[0], old, 400)
    create_app_backup(pair[0], only="two")
    with open_prune(pair[0]) as operation:
        catch_error(ClockImplausibleError, operation.plan)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[apps.pair.backup.databases.two]\nmax_age = "soon"', "databases.two.max_age"),
        ('[apps.pair.backup.databases.two]\nkeep = { within = "soon" }', "databases.two.keep.within"),
        ('[apps.pair.backup.databases.two]\nkeep = { max_bytes = "1G" }', "databases.two.keep.max_bytes"),
        ('[apps.pair.backup.databases.two]\nkeep = { min_free = "1G" }', "databases.two.keep.min_free"),
        ('[apps.pair.backup.databases.three]\nmax_age = "1d"', "databases.three"),
    ],
)
def test_invalid_limit_of_a_database_is_reported_with_its_key(pair, text, key, answer, monkeypatch):  # noqa: F811
    monkeypatch.chdir(pair[0].parent)
    configure(pair[0], text)
    (finding,) = answer("config", "validate", status=2)["data"]["findings"]
    assert f"apps.pair.backup.{key}:" in finding["message"]
    assert answer("backup", "prune", "--yes", status=None)["exit_code"] in (2, 5)


def test_taken_within_is_the_time_between_first_and_last_copy(pair):  # noqa: F811
    backup = create_app_backup(pair[0])
    times = [member.taken_at for member in backup.members]
    assert len(times) == 2
    assert backup.taken_within == max(times) - min(times)
    single = create_app_backup(pair[0], only="two")
    assert single.taken_within == timedelta(0)


def test_app_without_repository_is_refused(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().partition("[apps.fp.backup]")[0])
    catch_error(RepositoryNotConfiguredError, lambda: read_report(path))


def test_invalid_time_span_is_a_configuration_error(deployed, answer, monkeypatch):
    monkeypatch.chdir(deployed.parent)
    for key in ("verify_within", "drill_within"):
        configure(deployed, f'{key} = "a month"')
        assert key in answer("backup", "status", status=Exit.USAGE)["error"]["message"]


def test_table_selects_the_only_database_with_it(pair):  # noqa: F811
    run_statements(pair[0], "create table first_only (x)")
    run_statements(pair[1], "create table second_only (x)")
    with promptvault_app.open_repository(pair[0]) as (_app, repository):

        def prepare_backup(*tables):
            return lambda: CreateBackup(repository, tables=tables)

        assert "--db one or --db two" in str(catch_error(UsageError, prepare_backup("t")))
        assert "missing" in str(catch_error(TableMissingError, prepare_backup("second_only", "missing")))
        assert "several" in str(catch_error(UsageError, prepare_backup("first_only", "second_only")))
        # The database with the table is selected, but single tables of a SQLite file cannot be backed up.
        assert "pair/two" in str(catch_error(NotSupportedError, prepare_backup("second_only")))


# Comparison with the live database ---------------------------------------------------------------------------------


def verify_with_live(path, **options):
    with promptvault_app.open_repository(path, **options) as (app, repository):
        keys = promptvault_app.create_keys(app)
        return VerifyBackups(repository, ["latest"], deep=False, keys=keys, live=True).run()


def test_differences_from_live_database_have_different_severities(pantry):
    create_app_backup(pantry.path)
    assert list_codes(verify_with_live(pantry.path).findings) == []
    ((row_count,),) = pantry.rows("select count(*) from history")
    pantry.run("delete from history")
    pantry.run("create table fresh (x int)", "insert into fresh values (1)")
    verification = verify_with_live(pantry.path)
    findings = {finding.code: finding for finding in verification.findings.findings}
    assert verification.status == Exit.OK
    assert f"history has 0 live rows, {row_count} in the backup" in findings["rows-fewer"].message
    assert findings["rows-fewer"].severity == findings["schema-changed"].severity == "warning"
    assert (findings["table-new"].severity, "fresh" in findings["table-new"].message) == ("info", True)
    create_app_backup(pantry.path)
    pantry.run("insert into fresh values (2), (3)")
    (added,) = verify_with_live(pantry.path).findings.findings
    assert (added.severity, added.code, "3 live rows, 1 in the backup" in added.message) == (
        "info",
        "rows-more",
        True,
    )
    pantry.run("drop table fresh")
    verification = verify_with_live(pantry.path)
    assert verification.status == Exit.CHECK_FAILED
    assert "table-missing" in list_codes(verification.findings)


def test_migration_after_backup_is_reported(deployed):
    create_app_backup(deployed)
    run_statements(deployed, "insert into migrations (id, name) values (99, 'later')")
    (finding,) = verify_with_live(deployed).findings.findings
    assert (finding.severity, finding.code) == ("warning", "migrations-differ")
    assert "migrate up" in finding.hint
