"""Commands that delete by age refuse to run if the clock contradicts the times of the app and its backups."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from dbctl import model
from dbctl.errors.backup import ClockImplausibleError, LastBackupError
from dbctl.errors.base import Exit
from dbctl.errors.usage import UsageError
from dbctl.services.app import clock
from dbctl.services.app.user_table import UserSelector
from dbctl.services.backup import create as backup_create
from dbctl.services.backup.retention.delete import DeleteBackups
from dbctl.services.backup.status import collect_status
from dbctl.services.checks.run import examine
from dbctl.services.sessions.cleanup import CleanUp
from dbctl.services.users.delete import delete_users
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    create_app_backup,
    find_backup_folder,
    list_all_backups,
    list_codes,
    open_prune,
)

DAY = timedelta(days=1)
NOW = model.now()
YEAR = timedelta(days=365)
CLOCK_CODES = ("backup-from-future", "clock-implausible")


@pytest.fixture
def path(tmp_path):
    return promptvault_app.create_app(tmp_path / "app", "deployed")


@pytest.fixture
def set_clock(monkeypatch):
    """Return a function that sets the clock of dbctl; the times of files do not change."""

    def set_to(time):
        monkeypatch.setattr(model, "now", lambda: time)
        monkeypatch.setattr(backup_create, "now", lambda: time)

    return set_to


def create_backups(path, set_clock, *ages):
    """Create backups of the given ages, the oldest first; return their ids."""
    ids = []
    for age in ages:
        set_clock(NOW - age)
        ids.append(create_app_backup(path).id)
    set_clock(NOW)
    return ids


def list_backup_ids(path):
    return [backup.id for backup in list_all_backups(path).page.items]


def prune(path, **rules):
    with open_prune(path, **rules) as operation:
        return operation.apply().deleted


def delete(path, *names):
    with promptvault_app.open_repository(path) as (_app, repository):
        return DeleteBackups(repository, names).apply().deleted


# Backups ---------------------------------------------------------------------------------------------------------


def test_future_backup_blocks_prune_until_deleted(path, set_clock):
    old, *recent = create_backups(path, set_clock, 20 * DAY, 3 * DAY, 2 * DAY, DAY / 24)
    (future,) = create_backups(path, set_clock, -YEAR)
    for rules in ({"within": "7d"}, {"last": 1}, {"daily": 2}):
        error = catch_error(ClockImplausibleError, lambda: prune(path, **rules))  # noqa: B023
        assert f"dbctl backup delete {future}" in error.hint
    assert set(list_backup_ids(path)) == {old, future, *recent}
    assert delete(path, future) == [future]
    assert prune(path, within="7d") == [old]
    assert set(list_backup_ids(path)) == set(recent)


def test_future_backup_does_not_displace_others(path, set_clock):
    recent = create_backups(path, set_clock, 3 * DAY, 2 * DAY, DAY)
    (future,) = create_backups(path, set_clock, -YEAR)
    with promptvault_app.open_repository(path) as (app, repository):
        app.trust_clock = True
        operation = promptvault_app.PruneBackups(repository, promptvault_app.Retention(last=2))
        assert operation.apply().deleted == recent[:1]
    assert set(list_backup_ids(path)) == {future, *recent[1:]}


def test_retention_within_counts_from_now(path, set_clock):
    ids = create_backups(path, set_clock, 9 * DAY, 6 * DAY, 4 * DAY)
    assert set(prune(path, within="5d")) == set(ids[:2])


@pytest.mark.parametrize("ahead", [20 * DAY, YEAR])
@pytest.mark.parametrize("has_new_backup", [False, True])
def test_prune_is_refused_with_fast_clock(path, set_clock, ahead, has_new_backup):
    ids = create_backups(path, set_clock, 3 * DAY, 2 * DAY, DAY)
    if has_new_backup:
        ids += create_backups(path, set_clock, -ahead)
    set_clock(NOW + ahead + DAY / 24)
    catch_error(ClockImplausibleError, lambda: prune(path, within="7d"))
    assert set(list_backup_ids(path)) == set(ids)


def test_future_backup_is_reported_by_status_and_doctor(path, set_clock):
    (future,) = create_backups(path, set_clock, -YEAR)
    create_app_backup(path)
    selections = [promptvault_app.Selection(config=str(path.with_name("dbctl.toml")))]
    status = collect_status(selections, timeout=1)
    assert list(status.backups.repositories[0].future) == [future]
    assert status.check_status == Exit.ACTION_NEEDED
    (finding,) = [
        finding for finding in examine(selections, timeout=1).findings.findings if finding.code in CLOCK_CODES
    ]
    assert finding.code == "backup-from-future"
    assert f" backup delete {future} " in finding.hint
    assert "if it is right" in finding.hint  # with a clock that is behind, the backup is valid


def test_last_verified_backup_is_not_deleted(path):
    first = create_app_backup(path).id
    catch_error(LastBackupError, lambda: delete(path, first))
    second = create_app_backup(path).id
    promptvault_app.find_backup_file(path, list_all_backups(path).page.items[0]).write_bytes(b"truncated")
    catch_error(LastBackupError, lambda: delete(path, first))
    assert delete(path, second) == [second]
    catch_error(UsageError, lambda: delete(path, "latest"))
    assert find_backup_folder(path, first).exists()


# Rows ------------------------------------------------------------------------------------------------------------


def clean(path, *, trust_clock=False):
    with flashpoint_app.open_app(path) as app:
        app.trust_clock = trust_clock
        return CleanUp(app).apply().changed


def delete_inactive(path):
    with flashpoint_app.open_app(path) as app:
        return delete_users(app, UserSelector(inactive_for=timedelta(days=300))).plan()


@pytest.mark.parametrize("operation", [clean, delete_inactive])
def test_deletion_by_age_is_refused_with_fast_clock(path, set_clock, operation):
    create_app_backup(path)
    before = flashpoint_app.read_all_rows(path)
    set_clock(NOW + YEAR)
    catch_error(ClockImplausibleError, lambda: operation(path))
    with flashpoint_app.open_app(path) as app:
        catch_error(ClockImplausibleError, CleanUp(app).plan)
    assert flashpoint_app.read_all_rows(path) == before


def test_trusted_clock_allows_deletion(path, set_clock):
    set_clock(NOW + YEAR)
    assert clean(path, trust_clock=True) > 0


def test_doctor_reports_fast_clock(path, set_clock):
    selections = [promptvault_app.Selection(config=str(path.with_name("dbctl.toml")))]
    assert not set(list_codes(examine(selections, timeout=1).findings)) & set(CLOCK_CODES)
    set_clock(NOW + YEAR)
    assert "clock-implausible" in list_codes(examine(selections, timeout=1).findings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folder_of_another_user_has_no_times(path):
    with promptvault_app.open_repository(path) as (app, _):
        assert clock.find_app_contradiction(app) == ""  # which imports what the other user cannot read
    path.parent.chmod(0o700)
    with promptvault_app.open_repository(path) as (app, _):
        os.seteuid(65534)
        try:
            assert clock.find_app_contradiction(app) == ""
        finally:
            os.seteuid(0)


# Contradictions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "regular", "is_contradiction"),
    [
        ([], True, False),  # no times are recorded
        ([0], True, False),  # the first day
        ([0, 2, 40], True, False),
        ([29, 400], True, False),
        ([31], True, True),
        ([0, 400], True, True),  # a gap before the last day
        ([0, 400], False, False),
    ],
)
def test_clock_contradicts_old_records_or_gap(ages, regular, is_contradiction):
    now = datetime.now(UTC)
    recorded = [now - timedelta(days=age, seconds=1) for age in ages]
    times = clock.Records("backups", regular, partial(clock.has_time, recorded))
    assert bool(clock.find_contradiction([times])) == is_contradiction
