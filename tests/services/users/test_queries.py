"""Users: who there is, who is meant, and all that is known of one of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors import (
    AmbiguousLoginError,
    PasswordWrongError,
    RoleMissingError,
    UsageError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.model import Secret, Window
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import queries
from dbctl.services.users.detail import show_users
from dbctl.services.users.queries import Filter
from tests.services import flashpoint_app
from tests.services.flashpoint_app import caught, opened, run, without_nocase
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    return flashpoint_app.settle(tmp_path, request.param)


def names(path, wanted=None, **window):
    with opened(path) as app:
        return [user.login for user in queries.list_users(app, wanted or Filter(), Window(**window)).items]


def show(path, *logins, ids=()):
    with opened(path) as app:
        return show_users(app, UserSelector(logins=logins, ids=ids))


# Lists ---------------------------------------------------------------------------------------------------------


def test_a_list_has_every_user_in_the_order_of_ids(path):
    assert names(path) == ["root", "ann", "bob"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(role="ADMIN"), ["root"]),
        (Filter(active=True), ["root", "ann"]),
        (Filter(active=False), ["bob"]),
        (Filter(never_signed_in=True), ["bob"]),
        (Filter(inactive=timedelta(days=90)), ["ann", "bob"]),
        (Filter(inactive=timedelta(days=365 * 500)), []),
        (Filter(role="user", active=True), ["ann"]),
        (Filter(fields={"email": "ANN@example.ORG"}), ["ann"]),
        (Filter(fields={"login": "Ann@Example.org"}), ["ann"]),
        (Filter(fields={"id": "3"}), ["bob"]),
        (Filter(fields={"id": "three"}), []),
        (Filter(fields={"role": "user"}), ["ann", "bob"]),
        (Filter(fields={"active": "no"}), ["bob"]),
        (Filter(fields={"last_login_at": "2025-02-03"}), ["ann"]),
        (Filter(fields={"last_login_at": "2025-02-02"}), []),
        (Filter(fields={"created_at": "9999-12-31"}), []),
        (Filter(fields={"username": "%"}), []),
        (Filter(fields={"username": "[bold]'\"; --"}), []),
    ],
)
def test_a_filter_finds_those_and_counts_them(path, wanted, found):
    assert names(path, wanted) == found
    with opened(path) as app:
        assert queries.list_users(app, wanted, Window(limit=1)).total == len(found)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Filter(role="nobody"), RoleMissingError),
        (Filter(fields={"colour": "blue"}), UsageError),
        (Filter(fields={"password_hash": "x"}), UsageError),
        (Filter(fields={"active": "maybe"}), ValueInvalidError),
        (Filter(fields={"created_at": "soon"}), ValueInvalidError),
        (Filter(fields={"created_at": "0001-01-01T00:00+14:00"}), ValueInvalidError),
    ],
)
def test_a_filter_that_can_hold_for_nobody_is_refused(path, wanted, error):
    caught(error, lambda: names(path, wanted))


@pytest.mark.parametrize(
    ("sort", "found"),
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
def test_a_list_sorts_by_any_field_and_never_comes_last(path, sort, found):
    assert names(path, sort=sort) == found


def test_sorting_disregards_case_and_an_unknown_column_is_refused(path):
    add_user(path, "BERT")
    assert names(path, sort="username") == ["ann", "BERT", "bob", "root"]
    assert "colour" in str(caught(UsageError, lambda: names(path, sort="colour")))


def test_a_page_knows_what_follows(path):
    with opened(path) as app:
        page = queries.list_users(app, Filter(), Window(limit=2))
        assert ([user.login for user in page.items], page.total, page.has_more) == (["root", "ann"], 3, True)
        last = queries.list_users(app, Filter(), Window(limit=2, offset=2))
        assert ([user.login for user in last.items], last.has_more) == (["bob"], False)
        assert queries.list_users(app, Filter(), Window(limit=2, offset=10**18)).items == []


def test_a_row_with_no_active_flag_at_all_may_not_sign_in_as_the_app_sees_it(path):
    run(path, "update users set is_active = null where username = 'ann'")
    assert names(path, Filter(active=False)) == ["ann", "bob"]
    assert show(path, "ann").active is False


# One user ------------------------------------------------------------------------------------------------------


def test_show_has_all_that_is_known(path):
    ann = show(path, "ann")
    assert (ann.id, ann.login, ann.email, ann.role, ann.active) == (2, "ann", "ann@example.org", "user", True)
    assert ann.last_login_at == datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert "games.play" in ann.permissions
    assert (ann.tokens.valid, ann.tokens.expired, ann.tokens.revoked) == (1, 1, 1)
    assert ann.settings == {"theme_mode": "light"}
    assert ann.statistics["total_sessions"] == 7
    assert ann.statistics["first_play_at"] == datetime(2024, 2, 2, tzinfo=UTC)
    assert ann.last_activity.action == "play.start"


def test_show_of_a_user_without_anything_says_so(path):
    bob = show(path, "bob")
    assert (bob.tokens.valid, bob.settings, bob.last_activity) == (0, {}, None)
    assert set(bob.statistics.values()) == {None}


def test_show_of_several_is_a_page_in_the_order_they_were_named(path):
    page = show(path, "bob", "ANN@example.org", "ann", ids=["1"])
    assert [user.login for user in page.items] == ["bob", "ann", "root"]


def test_a_deployment_may_lack_what_its_profile_knows(tmp_path):
    path = flashpoint_app.settle(tmp_path, "deployed")
    run(path, "drop table user_stats", "drop table activity_logs")
    ann = show(path, "ann")
    assert (ann.statistics, ann.last_activity) == (None, None)


def test_times_that_are_none_are_shown_as_none(path):
    run(
        path,
        "update users set last_login_at = 'yesterday', created_at = '0001-01-01T00:00:00+14:00' where id = 2",
    )
    assert (show(path, "ann").last_login_at, show(path, "ann").created_at) == (None, None)


# Who is meant --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["ann", "ANN", "ann@example.org", "Ann@Example.ORG"])
def test_a_login_is_a_name_or_an_address_in_any_case(path, login):
    assert show(path, login).id == 2


@pytest.mark.parametrize(
    "login",
    ["nobody", "", "an%", "a_n", "ann ", "ann\x00", "\udcff\udcfe", "\x1b[31mann", "ann\u202e", "a" * 10_000],
)
def test_whoever_is_not_there_is_not_found_and_said_in_one_printable_line(path, login):
    told = str(caught(UserMissingError, lambda: show(path, login)))
    assert told.isprintable()
    assert len(told) < 200


@pytest.mark.parametrize("key", ["9", "--5", "-1", "x", "", "1e0", "²", "1" * 5000, str(2**63), " 1"])
def test_an_id_that_nobody_has_is_not_found(path, key):
    assert caught(UserMissingError, lambda: show(path, ids=[key])).exit_status == 5


def test_nobody_is_not_everybody(path):
    caught(UsageError, lambda: show(path))


def test_a_name_that_is_another_ones_address_is_ambiguous_and_an_id_is_not(path):
    add_user(path, "ANN@example.org", email="other@example.org")
    told = str(caught(AmbiguousLoginError, lambda: show(path, "ann@example.org")))
    assert "2, 4" in told
    assert show(path, ids=["4"]).email == "other@example.org"
    assert show(path, "other@example.org").id == 4


def test_names_that_differ_only_in_case_are_ambiguous_where_the_database_lets_them_be(tmp_path):
    path = flashpoint_app.settle(tmp_path, "deployed")
    without_nocase(path)
    add_user(path, "ANN", email="big@example.org")
    for login in ("ann", "ANN", "Ann"):
        assert "2, 4" in str(caught(AmbiguousLoginError, lambda login=login: show(path, login)))
    assert [show(path, ids=[key]).username for key in "24"] == ["ann", "ANN"]


# Passwords -----------------------------------------------------------------------------------------------------


def check(path, login, password):
    with opened(path) as app:
        return queries.check_password(
            app, queries.find_single_user(app, UserSelector(logins=[login])), Secret(password)
        ).matches


def test_a_password_is_checked_against_the_stored_hash(path):
    assert check(path, "Ann", flashpoint_app.PASSWORD)
    for wrong in ("correct horse ", "", "x" * 5000, "\udcff", "a\x00b"):
        assert "ann" in str(caught(PasswordWrongError, lambda wrong=wrong: check(path, "ann", wrong)))


def test_the_hashes_of_node_are_understood_and_what_is_none_fits_nothing(path):
    run(
        path,
        f"update users set password_hash = '{PASSWORD_HASH.replace('$2b$', '$2a$')}' where id = 2",
    )
    assert check(path, "ann", flashpoint_app.PASSWORD)
    for stored in ("", "$2b$", "md5:abc", "$2b$99$" + "a" * 53):
        run(path, f"update users set password_hash = '{stored}' where id = 2")
        caught(PasswordWrongError, lambda: check(path, "ann", flashpoint_app.PASSWORD))


def test_a_password_is_checked_for_one_user(path):
    with opened(path) as app:
        for who in (UserSelector(logins=["ann", "bob"]), UserSelector()):
            caught(UsageError, lambda who=who: queries.find_single_user(app, who))
