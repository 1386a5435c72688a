"""Who is locked out now, as the app itself decides it, and that ``users unlock`` lets exactly these in again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl.model import Window
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import update
from dbctl.services.users.lockout import list_locked
from dbctl.services.users.queries import Filter
from tests.services.flashpoint_app import SHAPES, opened, rows, run, settle


@pytest.fixture(params=SHAPES)
def path(request, tmp_path):
    made = settle(tmp_path / "app", request.param)
    run(made, "delete from login_attempts")
    return made


def attempt(path, login, address, number=5, *, ago=timedelta(minutes=1), form="%Y-%m-%d %H:%M:%S", success=0):
    at = (datetime.now(UTC) - ago).strftime(form)
    for _ in range(number):
        run(
            path,
            f"insert into login_attempts (username, ip_address, success, attempted_at)"
            f" values ('{login}', '{address}', {success}, '{at}')",
        )


def locked(path, selection=Filter()):  # noqa: B008 - a frozen value
    with opened(path) as app:
        result = list_locked(app, selection, Window(limit=50))
    return [user.username for user in result.page.items], result


def test_nobody_is_locked_out_below_the_limit_or_after_the_window(path):
    attempt(path, "ann", "10.0.0.1", 4)
    attempt(path, "bob", "10.0.0.2", 9, ago=timedelta(minutes=16))
    attempt(path, "root", "10.0.0.3", 9, success=1)
    assert locked(path)[0] == []


def test_a_login_is_locked_under_each_spelling_of_its_own(path):
    attempt(path, "ann", "10.0.0.1", 4)
    attempt(path, "ANN", "10.0.0.2", 1)
    assert locked(path)[0] == [], "the app counts each spelling for itself"
    attempt(path, "ann", "10.0.0.3", 1)
    names, result = locked(path)
    assert names == ["ann"]
    (user,) = result.page.items
    assert user.extra["failed_attempts"] == 5
    assert timedelta(0) < user.extra["locked_until"] - datetime.now(UTC) <= timedelta(minutes=15)
    assert result.remarks == []
    assert locked(path, Filter(role="admin"))[0] == []


def test_an_address_keeps_out_everybody_who_typed_a_login_there(path):
    attempt(path, "nobody", "10.0.0.1", 4)
    attempt(path, "Ann@Example.org", "10.0.0.1", 1)
    names, result = locked(path)
    assert names == ["ann"]
    assert "10.0.0.1" in result.remarks[0]


def test_a_time_that_the_app_misreads_counts_for_its_whole_day(path):
    now = datetime.now(UTC)
    earlier = now - timedelta(hours=5)
    attempt(path, "ann", "10.0.0.1", ago=timedelta(hours=5), form="%Y-%m-%dT%H:%M:%S.000Z")
    names, result = locked(path)
    since_midnight = now - timedelta(minutes=15)
    if earlier.date() < since_midnight.date():
        assert names == []
        return
    assert names == ["ann"]
    midnight = earlier.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert result.page.items[0].extra["locked_until"] == midnight + timedelta(minutes=15)


def test_the_limit_is_the_one_that_the_app_reads(path):
    deployed = "data_type" in {row[1] for row in rows(path, "pragma table_info(system_settings)")}
    if deployed:  # stored, and never read as a number by the app
        run(path, "update system_settings set value = '3' where key = 'auth.max_login_attempts'")
    else:
        run(
            path,
            "update system_settings set value = '3' where category = 'auth' and key = 'maxLoginAttempts'",
        )
    attempt(path, "ann", "10.0.0.1", 3)
    assert locked(path)[0] == ([] if deployed else ["ann"])


def test_unlocking_lets_in_exactly_those_who_are_listed(path):
    attempt(path, "ann", "10.0.0.1", 5)
    attempt(path, "nobody", "10.0.0.9", 5)
    names, result = locked(path)
    assert (names, len(result.remarks)) == (["ann"], 2)
    with opened(path) as app:
        update.unlock(app, UserSelector(logins=["ann"])).apply()
    assert locked(path)[0] == []
    with opened(path) as app:
        assert update.unlock(app, UserSelector(), ["10.0.0.9"]).apply().cleared == 5
    assert locked(path)[1].remarks == []
    assert rows(path, "select count(*) from login_attempts") == [(0,)]


def test_a_login_or_a_time_that_is_no_text_locks_nobody_by_mistake(path):
    attempt(path, "x''; drop table users; --", "10.0.0.1", 5)
    for _ in range(5):
        run(
            path,
            "insert into login_attempts (username, ip_address, success, attempted_at) values ('bob', '', 0, 'zz')",
        )
    names, result = locked(path)
    assert names == ["bob"]
    assert result.page.items[0].extra["locked_until"] is None
