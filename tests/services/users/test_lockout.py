"""Users are locked as in the app; ``users unlock`` unlocks the listed users."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors.connection import ConstraintError
from dbctl.model import Effect, PageRequest
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users.detail import show_users
from dbctl.services.users.lockout import list_locked, unlock
from dbctl.services.users.queries import UserFilter
from tests.services.flashpoint_app import (
    SHAPES,
    catch_error,
    create_app,
    open_app,
    query_rows,
    run_statements,
)


@pytest.fixture(params=SHAPES)
def path(request, tmp_path):
    path_of_app = create_app(tmp_path / "app", request.param)
    run_statements(path_of_app, "delete from login_attempts")
    return path_of_app


def add_attempts(
    path, login, address, number=5, *, ago=timedelta(minutes=1), form="%Y-%m-%d %H:%M:%S", success=0
):
    at = (datetime.now(UTC) - ago).strftime(form)
    for _ in range(number):
        run_statements(
            path,
            f"insert into login_attempts (username, ip_address, success, attempted_at)"
            f" values ('{login}', '{address}', {success}, '{at}')",
        )


def list_locked_logins(path, selection=UserFilter()):  # noqa: B008 - a frozen value
    with open_app(path) as app:
        result = list_locked(app, selection, PageRequest(limit=50))
    return [user.username for user in result.page.items], result


def test_no_lock_below_limit_or_after_window(path):
    add_attempts(path, "ann", "10.0.0.1", 4)
    add_attempts(path, "bob", "10.0.0.2", 9, ago=timedelta(minutes=16))
    add_attempts(path, "root", "10.0.0.3", 9, success=1)
    assert list_locked_logins(path)[0] == []


def test_login_is_locked_per_spelling(path):
    add_attempts(path, "ann", "10.0.0.1", 4)
    add_attempts(path, "ANN", "10.0.0.2", 1)
    assert list_locked_logins(path)[0] == [], "the app counts each spelling separately"
    add_attempts(path, "ann", "10.0.0.3", 1)
    names, result = list_locked_logins(path)
    assert names == ["ann"]
    (user,) = result.page.items
    assert user.extra["failed_attempts"] == 5
    assert timedelta(0) < user.extra["locked_until"] - datetime.now(UTC) <= timedelta(minutes=15)
    assert result.remarks == []
    assert list_locked_logins(path, UserFilter(role="admin"))[0] == []


def test_locked_address_locks_all_its_logins(path):
    add_attempts(path, "nobody", "10.0.0.1", 4)
    add_attempts(path, "Ann@Example.org", "10.0.0.1", 1)
    names, result = list_locked_logins(path)
    assert names == ["ann"]
    assert "10.0.0.1" in result.remarks[0]
    assert f" locked until {datetime.now(UTC):%Y}" in result.remarks[0]


def test_lock_ends_when_fewer_attempts_than_the_limit_count(path):
    for minutes in range(1, 8):
        add_attempts(path, "ann", "", 1, ago=timedelta(minutes=minutes))
    (user,) = list_locked_logins(path)[1].page.items
    remaining = user.extra["locked_until"] - datetime.now(UTC)  # the fifth of the newest is five minutes old
    assert timedelta(minutes=9) < remaining <= timedelta(minutes=10)


@pytest.mark.parametrize("later", ["ann", "ann@example.org"])
def test_longest_of_several_locks_counts(path, later):
    for login in ("ann", "ann@example.org"):
        add_attempts(path, login, "", 5, ago=timedelta(minutes=1 if login == later else 9))
    (user,) = list_locked_logins(path)[1].page.items
    assert user.extra["locked_until"] - datetime.now(UTC) > timedelta(minutes=13)
    run_statements(path, f"update login_attempts set attempted_at = 'zz' where username != '{later}'")
    (user,) = list_locked_logins(path)[1].page.items
    assert user.extra["locked_until"] is None  # unreadable, and so perhaps the longest


@pytest.mark.parametrize("limit", ["1", "0"])
def test_one_attempt_locks_if_the_limit_is_one_or_none(tmp_path, limit):
    path = create_app(tmp_path / "app", "document")
    run_statements(
        path,
        "delete from login_attempts",
        f"update system_settings set value = '{limit}' where category = 'auth' and key = 'maxLoginAttempts'",
    )
    add_attempts(path, "ann", "", 1)
    assert list_locked_logins(path)[0] == ["ann"]


def test_time_misread_by_app_counts_for_whole_day(path):
    since = datetime.now(UTC) - timedelta(minutes=15)
    midnight = since.replace(hour=0, minute=0, second=0, microsecond=0)
    form, age = "%Y-%m-%dT%H:%M:%S.000Z", datetime.now(UTC) - midnight
    add_attempts(path, "ann", "10.0.0.1", ago=age, form=form)
    add_attempts(path, "bob", "10.0.0.2", ago=age + timedelta(hours=1), form=form)
    names, result = list_locked_logins(path)
    assert names == ["ann"]
    assert result.page.items[0].extra["locked_until"] == midnight + timedelta(days=1, minutes=15)


def test_limit_is_read_from_settings(path):
    deployed = "data_type" in {row[1] for row in query_rows(path, "pragma table_info(system_settings)")}
    if deployed:  # the app does not read the stored text as a number
        run_statements(path, "update system_settings set value = '3' where key = 'auth.max_login_attempts'")
    else:
        run_statements(
            path,
            "update system_settings set value = '3' where category = 'auth' and key = 'maxLoginAttempts'",
        )
    add_attempts(path, "ann", "10.0.0.1", 3)
    assert list_locked_logins(path)[0] == ([] if deployed else ["ann"])


def test_unlock_affects_exactly_listed_users(path):
    add_attempts(path, "ann", "10.0.0.1", 5)
    add_attempts(path, "nobody", "10.0.0.9", 5)
    names, result = list_locked_logins(path)
    assert (names, len(result.remarks)) == (["ann"], 2)
    with open_app(path) as app:
        unlock(app, UserSelector(logins=["ann"])).apply()
    assert list_locked_logins(path)[0] == []
    with open_app(path) as app:
        result = unlock(app, UserSelector(), ["10.0.0.9"]).apply()
    assert result.effect == Effect("deleted", "failed attempt", count=5)
    (details,) = query_rows(path, "select details from activity_logs order by id desc limit 1")[0]
    assert json.loads(details)["address"] == "10.0.0.9"
    assert list_locked_logins(path)[1].remarks == []
    assert query_rows(path, "select count(*) from login_attempts") == [(0,)]


def test_invalid_login_or_time_locks_no_user(path):
    add_attempts(path, "x''; drop table users; --", "10.0.0.1", 5)
    for _ in range(5):
        run_statements(
            path,
            "insert into login_attempts (username, ip_address, success, attempted_at) values ('bob', '', 0, 'zz')",
        )
    names, result = list_locked_logins(path)
    assert names == ["bob"]
    assert result.page.items[0].extra["locked_until"] is None


def test_failed_attempts_of_a_user_are_shown(path):
    add_attempts(path, "ann", "10.0.0.1", 2)
    add_attempts(path, "bob", "10.0.0.2", 1)
    with open_app(path) as app:
        shown = show_users(app, UserSelector(logins=["ann", "bob", "root"]))
        assert {user.username: user.failed_attempts for user in shown.items} == {
            "ann": 2,
            "bob": 1,
            "root": 0,
        }


def test_attempts_without_address_lock_only_their_login(path):
    for name in ("ann", "bob", "cy", "dora", "emil"):
        add_attempts(path, name, "", 1)
    assert list_locked_logins(path)[0] == []
    add_attempts(path, "ann", "", 4)
    names, result = list_locked_logins(path)
    assert (names, result.remarks) == (["ann"], [])
    with open_app(path) as app:
        assert unlock(app, UserSelector(logins=["ann"])).apply().cleared == 5
    assert query_rows(path, "select count(*) from login_attempts") == [(4,)]


def test_unlock_of_users_and_addresses_deletes_the_attempts_of_both(path):
    add_attempts(path, "ann", "10.0.0.1", 2)
    add_attempts(path, "nobody", "10.0.0.9", 3)
    add_attempts(path, "bob", "10.0.0.2", 1)
    with open_app(path) as app:
        assert unlock(app, UserSelector(logins=["ann"]), ["10.0.0.9"]).apply().cleared == 5
    assert query_rows(path, "select username from login_attempts") == [("bob",)]


def test_attempt_that_a_trigger_retains_refuses_the_unlock(path):
    add_attempts(path, "ann", "", 2)
    run_statements(
        path, "create trigger retained before delete on login_attempts begin select raise(ignore); end"
    )
    with open_app(path) as app:
        catch_error(ConstraintError, unlock(app, UserSelector(logins=["ann"])).apply)
    assert query_rows(path, "select count(*) from activity_logs where action = 'users.unlock'") == [(0,)]
