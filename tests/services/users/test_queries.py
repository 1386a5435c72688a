"""List, select and show users, and check passwords."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors.usage import (
    AmbiguousLoginError,
    PasswordWrongError,
    RoleMissingError,
    UsageError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.model import PageRequest, Secret
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import passwords, queries
from dbctl.services.users.detail import show_users
from dbctl.services.users.queries import UserFilter
from tests.databases import empty_database
from tests.services import flashpoint_app
from tests.services.flashpoint_app import catch_error, drop_nocase, open_app, run_statements
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    return flashpoint_app.create_app(tmp_path, request.param)


def list_logins(path, filters=None, **window):
    with open_app(path) as app:
        return [
            user.login
            for user in queries.list_users(app, filters or UserFilter(), PageRequest(**window)).items
        ]


def show(path, *logins, ids=()):
    with open_app(path) as app:
        return show_users(app, UserSelector(logins=logins, ids=ids))


# Lists ---------------------------------------------------------------------------------------------------------


def test_list_has_all_users_ordered_by_id(path):
    assert list_logins(path) == ["root", "ann", "bob"]


@pytest.mark.parametrize(("login", "omitted"), [("username", []), ("email", ["email"])])
def test_table_of_users_omits_the_column_that_repeats_the_login(tmp_path, login, omitted):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    profile = path.with_name("quick.toml")
    if login == "email":
        text = profile.read_text(encoding="utf-8")
        profile.write_text(
            text.replace('login = ["username", "email"]', 'login = ["email"]'), encoding="utf-8"
        )
    run_statements(path, "update users set email = 'zed@example.org' where username = 'ann'")
    with open_app(path) as app:
        page = queries.list_users(app, UserFilter(), PageRequest(sort="-login"))
    assert page.omitted_columns == omitted
    assert {"login", "email"} < {*page.column_names}
    logins = [user.login for user in page.items]
    assert logins == sorted(logins, reverse=True)


@pytest.mark.parametrize(
    ("filters", "logins"),
    [
        (UserFilter(role="ADMIN"), ["root"]),
        (UserFilter(active=True), ["root", "ann"]),
        (UserFilter(active=False), ["bob"]),
        (UserFilter(never_signed_in=True), ["bob"]),
        (UserFilter(inactive_for=timedelta(days=90)), ["ann", "bob"]),
        (UserFilter(inactive_for=timedelta(days=365 * 500)), []),
        (UserFilter(role="user", active=True), ["ann"]),
        (UserFilter(fields={"email": "ANN@example.ORG"}), ["ann"]),
        (UserFilter(fields={"login": "Ann@Example.org"}), ["ann"]),
        (UserFilter(fields={"id": "3"}), ["bob"]),
        (UserFilter(fields={"id": "three"}), []),
        (UserFilter(fields={"role": "user"}), ["ann", "bob"]),
        (UserFilter(fields={"active": "no"}), ["bob"]),
        (UserFilter(fields={"last_login_at": "2025-02-03"}), ["ann"]),
        (UserFilter(fields={"last_login_at": "2025-02-02"}), []),
        (UserFilter(fields={"created_at": "9999-12-31"}), []),
        (UserFilter(fields={"username": "%"}), []),
        (UserFilter(fields={"username": "[bold]'\"; --"}), []),
    ],
)
def test_filter_returns_and_counts_matches(path, filters, logins):
    assert list_logins(path, filters) == logins
    with open_app(path) as app:
        assert queries.list_users(app, filters, PageRequest(limit=1)).total == len(logins)


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        (UserFilter(role="nobody"), RoleMissingError),
        (UserFilter(fields={"colour": "blue"}), UsageError),
        (UserFilter(fields={"password_hash": "x"}), UsageError),
        (UserFilter(fields={"active": "maybe"}), ValueInvalidError),
        (UserFilter(fields={"created_at": "soon"}), ValueInvalidError),
        (UserFilter(fields={"created_at": "0001-01-01T00:00+14:00"}), ValueInvalidError),
    ],
)
def test_impossible_filter_is_refused(path, filters, error):
    catch_error(error, lambda: list_logins(path, filters))


@pytest.mark.parametrize(
    ("sort", "logins"),
    [
        ("username", ["ann", "bob", "root"]),
        ("-login", ["root", "bob", "ann"]),
        ("-id", ["bob", "ann", "root"]),
        ("role", ["root", "ann", "bob"]),
        ("last_login_at", ["ann", "root", "bob"]),
        ("-last_login_at", ["root", "ann", "bob"]),
        ("active", ["bob", "root", "ann"]),
    ],
)
def test_list_sorts_by_any_field_with_null_last(path, sort, logins):
    assert list_logins(path, sort=sort) == logins


def test_last_day_of_the_calendar_is_a_day_like_others(path):
    run_statements(path, "update users set created_at = '9999-12-31T10:00:00.000Z' where username = 'ann'")
    assert list_logins(path, UserFilter(fields={"created_at": "9999-12-31"})) == ["ann"]


def test_sort_ignores_case_and_refuses_unknown_column(path):
    add_user(path, "BERT")
    assert list_logins(path, sort="username") == ["ann", "BERT", "bob", "root"]
    assert "colour" in str(catch_error(UsageError, lambda: list_logins(path, sort="colour")))


def test_page_has_total(path):
    with open_app(path) as app:
        page = queries.list_users(app, UserFilter(), PageRequest(limit=2))
        assert ([user.login for user in page.items], page.total, page.has_more) == (["root", "ann"], 3, True)
        # every field of a user with one role; roles and further columns are no columns of lists
        assert set(page.column_names) == {
            "id", "login", "username", "name", "email", "role", "active", "created_at", "updated_at", "last_login_at",
        }  # fmt: skip
        last = queries.list_users(app, UserFilter(), PageRequest(limit=2, offset=2))
        assert ([user.login for user in last.items], last.has_more) == (["bob"], False)
        assert queries.list_users(app, UserFilter(), PageRequest(limit=2, offset=10**18)).items == []


def test_user_with_null_active_flag_is_inactive(path):
    run_statements(path, "update users set is_active = null where username = 'ann'")
    assert list_logins(path, UserFilter(active=False)) == ["ann", "bob"]
    assert show(path, "ann").active is False


# One user ------------------------------------------------------------------------------------------------------


def test_show_returns_all_details(path):
    ann = show(path, "ann")
    assert (ann.id, ann.login, ann.email, ann.role, ann.active) == (2, "ann", "ann@example.org", "user", True)
    assert ann.last_login_at == datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert "games.play" in ann.permissions
    assert (ann.tokens.valid, ann.tokens.expired, ann.tokens.revoked) == (1, 1, 1)
    assert ann.settings == {"theme_mode": "light"}
    assert ann.statistics["total_sessions"] == 7
    assert ann.statistics["first_play_at"] == datetime(2024, 2, 2, tzinfo=UTC)
    assert ann.last_activity.action == "play.start"


def test_show_masks_secret_settings_of_users(path):
    profile = path.with_name("quick.toml")
    text = profile.read_text(encoding="utf-8")
    scope = 'scope = "user"\n'
    assert scope in text
    profile.write_text(text.replace(scope, f'{scope}secret = ["theme_*"]\n'), encoding="utf-8")
    assert show(path, "ann").settings == {"theme_mode": "***"}


def test_show_of_user_without_details_returns_null(path):
    bob = show(path, "bob")
    assert (bob.tokens.valid, bob.settings, bob.last_activity) == (0, {}, None)
    assert set(bob.statistics.values()) == {None}


def test_show_of_several_users_keeps_order(path):
    page = show(path, "bob", "ANN@example.org", "ann", ids=["1"])
    assert [user.login for user in page.items] == ["bob", "ann", "root"]


def test_missing_optional_tables_are_ignored(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    run_statements(path, "drop table user_stats", "drop table activity_logs")
    ann = show(path, "ann")
    assert (ann.statistics, ann.last_activity) == (None, None)


def test_last_activity_is_the_latest_in_any_form_of_times(path):
    run_statements(
        path,
        "insert into activity_logs (user_id, username, action, resource, created_at)"
        " values (2, 'ann', 'later', 'x', '2025-01-01 11:30:00')",
    )
    assert show(path, "ann").last_activity.action == "later"
    run_statements(path, "alter table activity_logs rename column action to deed")
    assert show(path, "ann").last_activity is None


def test_invalid_times_are_null(path):
    run_statements(
        path,
        "update users set last_login_at = 'yesterday', created_at = '0001-01-01T00:00:00+14:00' where id = 2",
    )
    assert (show(path, "ann").last_login_at, show(path, "ann").created_at) == (None, None)


# Selection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["ann", "ANN", "ann@example.org", "Ann@Example.ORG"])
def test_login_matches_name_or_email_in_any_case(path, login):
    assert show(path, login).id == 2


@pytest.mark.parametrize(
    "login",
    ["nobody", "", "an%", "a_n", "ann ", "ann\x00", "\udcff\udcfe", "\x1b[31mann", "ann\u202e", "a" * 10_000],
)
def test_missing_user_error_is_one_printable_line(path, login):
    message = str(catch_error(UserMissingError, lambda: show(path, login)))
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize("key", ["9", "--5", "-1", "x", "", "1e0", "²", "1" * 5000, str(2**63), " 1"])
def test_unknown_id_is_not_found(path, key):
    assert catch_error(UserMissingError, lambda: show(path, ids=[key])).exit_status == 5


def test_empty_selector_is_refused(path):
    catch_error(UsageError, lambda: show(path))


def test_name_equal_to_other_email_is_ambiguous(path):
    add_user(path, "ANN@example.org", email="other@example.org")
    message = str(catch_error(AmbiguousLoginError, lambda: show(path, "ann@example.org")))
    assert "2, 4" in message
    assert show(path, ids=["4"]).email == "other@example.org"
    assert show(path, "other@example.org").id == 4


def test_names_that_differ_in_case_are_ambiguous(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    drop_nocase(path)
    add_user(path, "ANN", email="big@example.org")
    for login in ("ann", "ANN", "Ann"):
        assert "2, 4" in str(catch_error(AmbiguousLoginError, lambda login=login: show(path, login)))
    assert [show(path, ids=[key]).username for key in "24"] == ["ann", "ANN"]


# Passwords -----------------------------------------------------------------------------------------------------


def check_password(path, login, password):
    with open_app(path) as app:
        result = passwords.compare_password(
            app, queries.find_single_user(app, UserSelector(logins=[login])), Secret(password)
        )
    assert result.closing.text == f"The password of {result.login} matches"
    return result.matches


def test_password_is_checked_against_stored_hash(path):
    assert check_password(path, "Ann", flashpoint_app.PASSWORD)
    for password in ("correct horse ", "", "x" * 5000, "\udcff", "a\x00b"):
        assert "ann" in str(
            catch_error(PasswordWrongError, lambda password=password: check_password(path, "ann", password))
        )


def test_node_hashes_are_verified_and_invalid_ones_never_match(path):
    run_statements(
        path, f"update users set password_hash = '{PASSWORD_HASH.replace('$2b$', '$2a$')}' where id = 2"
    )
    assert check_password(path, "ann", flashpoint_app.PASSWORD)
    for invalid_hash in ("", "$2b$", "md5:abc", "$2b$99$" + "a" * 53):
        run_statements(path, f"update users set password_hash = '{invalid_hash}' where id = 2")
        catch_error(PasswordWrongError, lambda: check_password(path, "ann", flashpoint_app.PASSWORD))


def test_password_check_requires_one_user(path):
    with open_app(path) as app:
        for selector in (UserSelector(logins=["ann", "bob"]), UserSelector()):
            catch_error(UsageError, lambda selector=selector: queries.find_single_user(app, selector))


PROFILE = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["postgresql", "mysql"]
[users]
admin = false
table = "people"
id = { column = "id", codec = "given" }
login = ["login"]
fields = { login = "login", created_at = "created", confirmed_at = "confirmed" }
"""


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
@pytest.mark.parametrize("field", ["created_at", "confirmed_at"])
def test_filter_by_the_shown_time_finds_its_user(answer, tmp_path, engine, field):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "club.db") as database:
        kind = {"postgresql": "timestamptz", "mysql": "datetime(6)"}[engine]
        database.run(
            f"create table people (id integer primary key, login varchar(9), created {kind}, confirmed {kind})"
        )
        for number, time in enumerate(("01-02 03:04:05.999600", "01-03 03:04:05.900000", "01-05 00:00:00")):
            database.run(f"insert into people values ({number}, 'p{number}', '2026-{time}', '2026-{time}')")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        shown = answer("users", "list", *options)["data"]["items"][0][field]
        listed = answer("users", "list", "--filter", f"{field}={shown}", *options)["data"]["items"]
        assert [user["login"] for user in listed] == ["p0", "p1"]
        assert answer("users", "list", "--filter", f"{field}=2026-01-04", *options)["data"]["total"] == 0


def test_fields_that_the_app_stores_as_bytes_are_accepted_as_rows_show_them(answer, tmp_path):
    """As those of MediaWiki, whose times have 14 digits."""
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database("mysql", tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varbinary(99), created binary(14), confirmed varbinary(99))",
            "insert into people values (1, 'ida', '20260102030405', null), (2, 'bo', '20260103030405', null)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        before = database.content()
        row = answer("data", "show", "people", "1", *options)["data"]
        for created in (json.dumps(row["created"]), "2026-01-02T03:04:05Z", "20260102030405"):
            values = (f"login={json.dumps(row['login'])}", f"created={created}")
            assert answer("data", "set", "people", "1", *values, *options)["data"]["effect"] is None
            listed = answer("data", "rows", "people", "--filter", f"created={created}", *options)
            assert [item["id"] for item in listed["data"]["items"]] == [1]
        assert database.content() == before
        answer("data", "set", "people", "1", r"login=\x496461", "created=2026-01-02T03:04:06Z", *options)
        assert database.rows("select login, created from people where id = 1") == [
            (b"Ida", b"20260102030406")
        ]


ENGINES = [("sqlite", "datetime"), ("postgresql", "timestamptz"), ("mysql", "datetime(6)")]


@pytest.mark.parametrize(("engine", "kind"), ENGINES)
def test_fields_of_the_profile_are_read_written_and_filtered_by_the_types_of_their_columns(
    answer, tmp_path, engine, kind
):
    fields = (
        'fields = { login = "login", approved = "approved", confirmed_at = "confirmed", posts = "posts" }'
    )
    (tmp_path / "club.toml").write_text(re.sub("fields = .*", fields, PROFILE))
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            f"create table people (id integer primary key, login varchar(9), approved boolean, confirmed {kind}, posts integer)",
            "insert into people values (1, 'ida', true, '2026-01-02 03:04:05', 7), (2, 'bo', false, null, 8)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        for word, login in (("yes", "ida"), ("1", "ida"), ("no", "bo"), ("false", "bo")):
            listed = answer("users", "list", "--filter", f"approved={word}", *options)["data"]["items"]
            assert [user["login"] for user in listed] == [login], word
        before = database.content()
        for value in ("approved=maybe", "confirmed_at=yes", "posts=many"):
            answer("users", "update", "ida", "--set", value, *options, status=2)
        assert database.content() == before
        values = ("approved=no", "confirmed_at=2026-01-31T12:00:00Z", "posts=9")
        words = [word for value in values for word in ("--set", value)]
        assert answer("users", "update", "ida", *words, *options)["data"]["changed"] == 1
        ((approved, confirmed, posts),) = database.rows(
            "select approved, confirmed, posts from people where id = 1"
        )
        assert (approved, posts) == (0, 9)
        assert str(confirmed).startswith("2026-01-31 12:00:00")
        answer("users", "update", "ida", "--set", "confirmed_at=2026-01-31T12:00:00.123456Z", *options)
        ((confirmed,),) = database.rows("select confirmed from people where id = 1")
        assert str(confirmed).startswith("2026-01-31 12:00:00.123456")
        listed = answer("users", "list", "--filter", "confirmed_at=2026-01-31T12:00:00.000Z", *options)
        assert [user["login"] for user in listed["data"]["items"]] == ["ida"]
        answer("users", "update", "ida", "--set", "confirmed_at=", *options)
        assert database.rows("select confirmed from people where id = 1") in ([(None,)], ((None,),))


def test_day_of_a_user_in_sqlite_gets_no_time_of_day(answer, tmp_path):
    fields = 'fields = { login = "login", born = "born" }'
    (tmp_path / "club.toml").write_text(re.sub("fields = .*", fields, PROFILE))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9), born date)",
            "insert into people values (1, 'ida', '1990-01-31'), (2, 'bo', null)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        assert answer("users", "update", "ida", "--set", "born=1990-01-31", *options)["data"]["changed"] == 0
        answer("users", "update", "bo", "--set", "born=1991-05-05T12:00", *options, status=2)
        for login in ("ida", "bo"):
            answer("users", "update", login, "--set", "born=1991-05-05", *options)
        assert database.rows("select born from people") == [("1991-05-05",), ("1991-05-05",)]
        listed = answer("users", "list", "--filter", "born=1991-05-05", *options)["data"]
        assert listed["total"] == 2


@pytest.mark.parametrize(("engine", "kind"), ENGINES)
def test_update_to_the_shown_values_changes_nothing(answer, tmp_path, engine, kind):
    fields = 'fields = { login = "login", created_at = "created", confirmed_at = "confirmed", approved = "approved", updated_at = "updated" }'
    (tmp_path / "club.toml").write_text(re.sub("fields = .*", fields, PROFILE))
    with empty_database(engine, tmp_path / "club.db") as database:
        times = ", ".join(f"{name} {kind}" for name in ("created", "confirmed", "updated"))
        database.run(
            f"create table people (id integer primary key, login varchar(9), approved boolean, {times})",
            "insert into people values (1, 'ida', true, '2026-01-02', '2026-01-02 03:04:05.123456', '2026-01-02')",
        )
        before = database.content()
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        (user,) = answer("users", "list", *options)["data"]["items"]
        for field in ("confirmed_at", "approved"):
            value = json.dumps(user[field]).strip('"')
            data = answer("users", "update", "ida", "--set", f"{field}={value}", *options)["data"]
            assert (data["changed"], data["effect"]) == (0, None), field
        assert database.content() == before
        assert (
            answer("users", "update", "ida", "--set", "confirmed_at=2026-01-03", *options)["data"]["changed"]
            == 1
        )
