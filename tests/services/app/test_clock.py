"""Whatever deletes by age refuses under a clock that contradicts what the app and its backups recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl import model
from dbctl.errors import ClockDoubtedError, Exit, LastBackupError, UsageError
from dbctl.services.app import clock
from dbctl.services.app.user_table import UserSelector
from dbctl.services.backup import create as backup_create
from dbctl.services.backup.delete import Deletion
from dbctl.services.backup.status import survey
from dbctl.services.doctor.examine import examine
from dbctl.services.sessions.cleanup import CleanupWork
from dbctl.services.users.delete import delete_users
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import codes, create, folder_of, listed, pruning

DAY = timedelta(days=1)
NOW = model.now()
YEAR = timedelta(days=365)
DOUBTED = ("backup-from-future", "clock-doubted")


@pytest.fixture
def path(tmp_path):
    return promptvault_app.settle(tmp_path / "app", "deployed")


@pytest.fixture
def set_clock(monkeypatch):
    """Set the clock of dbctl by which ages are judged and backups are dated; files keep the clock of the system."""

    def set_to(moment):
        monkeypatch.setattr(model, "now", lambda: moment)
        monkeypatch.setattr(backup_create, "now", lambda: moment)

    return set_to


def backups_of(path, set_clock, *ages):
    """Make a backup at each age, the oldest first; return their ids."""
    ids = []
    for age in ages:
        set_clock(NOW - age)
        ids.append(create(path).id)
    set_clock(NOW)
    return ids


def stored_backups(path):
    return [backup.id for backup in listed(path).page.items]


def prune(path, **rules):
    with pruning(path, **rules) as work:
        return work.apply().deleted


def delete(path, *names):
    with promptvault_app.opened(path) as (app, repository):
        return Deletion(app, repository, names, timeout=1).apply().deleted


# Backups ---------------------------------------------------------------------------------------------------------


def test_a_backup_from_the_future_keeps_prune_from_deleting_until_it_is_deleted_by_id(path, set_clock):
    old, *recent = backups_of(path, set_clock, 20 * DAY, 3 * DAY, 2 * DAY, DAY / 24)
    (future,) = backups_of(path, set_clock, -YEAR)
    for rules in ({"within": "7d"}, {"last": 1}, {"daily": 2}):
        error = caught(ClockDoubtedError, lambda: prune(path, **rules))  # noqa: B023 - called at once
        assert f"dbctl backup delete {future}" in error.hint
    assert set(stored_backups(path)) == {old, future, *recent}
    assert delete(path, future) == [future]
    assert prune(path, within="7d") == [old]
    assert set(stored_backups(path)) == set(recent)


def test_a_backup_from_the_future_takes_the_place_of_no_other(path, set_clock):
    recent = backups_of(path, set_clock, 3 * DAY, 2 * DAY, DAY)
    (future,) = backups_of(path, set_clock, -YEAR)
    with promptvault_app.opened(path) as (app, repository):
        app.trust_clock = True
        work = promptvault_app.Pruning(app, repository, promptvault_app.Keep(last=2), timeout=1)
        assert work.apply().deleted == recent[:1]
    assert set(stored_backups(path)) == {future, *recent[1:]}


def test_retention_within_counts_from_now(path, set_clock):
    ids = backups_of(path, set_clock, 9 * DAY, 6 * DAY, 4 * DAY)
    assert set(prune(path, within="5d")) == set(ids[:2])


@pytest.mark.parametrize("ahead", [20 * DAY, YEAR])
@pytest.mark.parametrize("has_new_backup", [False, True])
def test_prune_refuses_under_a_clock_that_runs_ahead_also_when_backups_were_made_under_it(
    path, set_clock, ahead, has_new_backup
):
    ids = backups_of(path, set_clock, 3 * DAY, 2 * DAY, DAY)
    if has_new_backup:
        ids += backups_of(path, set_clock, -ahead)
    set_clock(NOW + ahead + DAY / 24)
    caught(ClockDoubtedError, lambda: prune(path, within="7d"))
    assert set(stored_backups(path)) == set(ids)


def test_a_backup_from_the_future_is_reported_by_status_and_doctor_also_when_newer_ones_were_made(
    path, set_clock
):
    (future,) = backups_of(path, set_clock, -YEAR)
    create(path)
    selections = [promptvault_app.Selection(config=str(path.with_name("dbctl.toml")))]
    status = survey(selections, timeout=1)
    assert list(status.standing.repositories[0].future) == [future]
    assert status.check == Exit.ACTION_NEEDED
    (finding,) = [
        finding for finding in examine(selections, timeout=1).findings.findings if finding.code in DOUBTED
    ]
    assert (finding.code, finding.hint.partition("backup ")[2].partition(" --")[0]) == (
        "backup-from-future",
        f"delete {future}",
    )


def test_the_last_sound_backup_of_a_database_is_not_deleted_by_id(path):
    first = create(path).id
    caught(LastBackupError, lambda: delete(path, first))
    second = create(path).id
    promptvault_app.file_of(path, listed(path).page.items[0]).write_bytes(b"cut")
    caught(LastBackupError, lambda: delete(path, first))
    assert delete(path, second) == [second]
    caught(UsageError, lambda: delete(path, "latest"))
    assert folder_of(path, first).exists()


# Rows ------------------------------------------------------------------------------------------------------------


def clean(path, *, trust_clock=False):
    with flashpoint_app.opened(path) as app:
        app.trust_clock = trust_clock
        return CleanupWork(app).apply().changed


def delete_inactive(path):
    with flashpoint_app.opened(path) as app:
        return delete_users(app, UserSelector(inactive=timedelta(days=300))).plan()


@pytest.mark.parametrize("destroys", [clean, delete_inactive])
def test_what_deletes_rows_by_age_refuses_under_a_clock_far_ahead_of_rows_backups_and_files(
    path, set_clock, destroys
):
    create(path)
    before = flashpoint_app.content(path)
    set_clock(NOW + YEAR)
    caught(ClockDoubtedError, lambda: destroys(path))
    with flashpoint_app.opened(path) as app:
        caught(ClockDoubtedError, CleanupWork(app).plan)
    assert flashpoint_app.content(path) == before


def test_rows_are_deleted_by_a_clock_that_the_user_trusts(path, set_clock):
    set_clock(NOW + YEAR)
    assert clean(path, trust_clock=True) > 0


def test_doctor_reports_a_clock_far_ahead_of_what_was_recorded(path, set_clock):
    selections = [promptvault_app.Selection(config=str(path.with_name("dbctl.toml")))]
    assert not set(codes(examine(selections, timeout=1).findings)) & set(DOUBTED)
    set_clock(NOW + YEAR)
    assert "clock-doubted" in codes(examine(selections, timeout=1).findings)


# The decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "regular", "is_doubted"),
    [
        ([], True, False),  # nothing was recorded
        ([0], True, False),  # the first day
        ([0, 2, 40], True, False),
        ([29, 400], True, False),
        ([31], True, True),
        ([0, 400], True, True),  # a gap before the last day
        ([0, 400], False, False),
    ],
)
def test_a_clock_is_doubted_where_records_end_long_before_it_or_have_a_gap(ages, regular, is_doubted):
    now = datetime.now(UTC)
    times = clock.Times("backups", [now - timedelta(days=age, seconds=1) for age in ages], regular=regular)
    assert bool(clock.find_contradiction([times])) == is_doubted
