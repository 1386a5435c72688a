"""Changes to users: what each touches, what it records, and the rules that hold on every path to them."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors import (
    AlreadyExistsError,
    AmbiguousLoginError,
    ConstraintError,
    DbctlError,
    DuplicateRowsError,
    LastAdminError,
    PlanChangedError,
    RoleMissingError,
    UsageError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.model import Secret, Window
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import queries
from dbctl.services.users import update as user_changes
from dbctl.services.users.create import NewUser, create_user, ensure_user, hash_password, wants_password
from dbctl.services.users.delete import delete_users
from dbctl.services.users.queries import Filter
from tests.services import flashpoint_app
from tests.services.flashpoint_app import caught, content, opened, rows, run, settle, without_nocase
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user

NEW = {"username": "Carl", "email": "carl@example.org"}
ALL = UserSelector(ids=["1", "2", "3"])


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    return flashpoint_app.settle(tmp_path, request.param)


def new(word="a password", *, with_settings=False, **fields):
    def prepared(app):
        hashed = hash_password(app, Secret(word))
        return create_user(app, NewUser(fields=NEW | fields, hashed=hashed, with_settings=with_settings))

    return prepared


def ensure(hashed="", **fields):
    return lambda app: ensure_user(app, NewUser(fields=fields, hashed=hashed))


def update(who, **fields):
    return lambda app: user_changes.update_user(app, who, fields)


def do(path, prepare):
    with opened(path) as app:
        prepared = prepare(app)
        plan = prepared.plan()
        return prepared.apply(seen=plan.digest)


def plan(path, prepare):
    with opened(path) as app:
        return prepare(app).plan()


def log(path):
    return rows(
        path,
        "select action, resource, resource_id, username, user_id, details from activity_logs where id > 2",
    )


def refused(path, error, prepare):
    """Check that plan and deed are refused alike, and that nothing changed."""
    before = content(path)
    told = str(caught(error, lambda: plan(path, prepare)))

    def deed():
        with opened(path) as app:
            prepare(app).apply()

    assert str(caught(error, deed)) == told
    assert content(path) == before
    assert told.isprintable()
    return told


# Creating ------------------------------------------------------------------------------------------------------


def test_a_new_user_is_stored_as_the_app_stores_one(path):
    done = do(path, new())
    assert (done.created, done.changed, done.user.login, done.user.role, done.user.active) == (
        True,
        True,
        "Carl",
        "user",
        True,
    )
    ((name, email, hashed, role, active, created, updated, seen),) = rows(
        path,
        "select username, email, password_hash, role_id, is_active, created_at, updated_at, last_login_at from users where id = 4",
    )
    assert (name, email, role, active, seen) == ("Carl", "carl@example.org", 2, 1, None)
    assert hashed.startswith("$2b$04$")
    assert created == updated
    moment = datetime.strptime(created, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert rows(path, "select count(*) from user_settings where user_id = 4") == [(0,)]


def test_creating_is_recorded_in_the_same_database_without_a_secret(path):
    do(path, new("s3cret-mark"))
    ((action, resource, key, by, user, details),) = log(path)
    assert (action, resource, key, user) == ("users.create", "users", "4", None)
    assert by.startswith("dbctl (")
    assert json.loads(details) == {"username": "Carl", "role": "user", "by": "dbctl"}


def test_role_state_and_times_of_a_new_user_may_be_given(path):
    user = do(path, new(role="ADMIN", active="no", last_login_at="2025-01-01")).user
    assert (user.role, user.active, user.last_login_at) == ("admin", False, datetime(2025, 1, 1, tzinfo=UTC))


def test_the_apps_own_settings_for_new_users_come_on_request_in_each_variant(path):
    document = any(row[1] == "value_type" for row in rows(path, "pragma table_info(system_settings)"))
    theme = ("category = 'app' and key", "defaultTheme") if document else ("key", "app.default_theme")
    run(path, f"update system_settings set value = 'light' where {theme[0]} = '{theme[1]}'")
    done = do(path, new(with_settings=True))
    stored = dict(rows(path, "select setting_key, setting_value from user_settings where user_id = 4"))
    further = {"card_size": "medium", "view_mode": "grid", "sidebar_collapsed": "false"} if document else {}
    wanted = {"theme_mode": "light", "primary_color": "blue", **further}
    assert (stored, list(done.default_settings)) == (wanted, list(wanted))


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "ann"},
        {"username": "ANN"},
        {"email": "Ann@Example.org"},
    ],
)
def test_a_login_that_is_taken_in_any_case_is_refused(path, fields):
    refused(path, AlreadyExistsError, new(**fields))


def test_it_is_refused_as_well_where_the_database_would_let_it_be(tmp_path):
    path = flashpoint_app.settle(tmp_path, "deployed")
    without_nocase(path)
    refused(path, AlreadyExistsError, new(username="ANN"))
    refused(path, AlreadyExistsError, update(UserSelector(logins=["bob"]), email="ANN@example.org"))


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "ab"},
        {"username": "a" * 51},
        {"username": "a" * 10_000},
        {"username": ""},
        {"username": "   "},
        {"username": " carl"},
        {"username": "car\nl"},
        {"username": "car\x1b[2Jl"},
        {"username": "car\u202el"},
        {"username": "car\u200bl"},
        {"username": "car\x00l"},
        {"username": "car\udcffl"},
        {"username": "car\x85l"},
        {"email": "carl"},
        {"email": "carl@example"},
        {"email": "@example.org"},
        {"email": "a b@example.org"},
        {"email": "a@b@example.org"},
        {"email": "a@example..org"},
        {"email": "carl@example.org\n"},
        {"active": "perhaps"},
        {"created_at": "soon"},
        {"created_at": "99999-01-01"},
    ],
)
def test_what_the_app_would_not_take_is_refused(path, fields):
    assert len(refused(path, ValueInvalidError, new(**fields))) < 300


@pytest.mark.parametrize(
    "name",
    [
        "[bold]x[/bold]",
        "[/foo]",
        'O\'Brien "x"; --',
        "a,b\\c|d",
        "日本語",
        "Ünï",
        "=1+1",
        "-rf",
        "--help",
        "%_%",
        "🎮🎮🎮",
        "a" * 50,
    ],
)
def test_odd_names_are_stored_exactly_and_found_again(path, name):
    do(path, new(username=name))
    assert rows(path, "select username from users where id = 4") == [(name,)]
    with opened(path) as app:
        assert queries.find_single_user(app, UserSelector(logins=[name])).id == 4


def test_unknown_fields_and_roles_are_refused(path):
    for field in ("password_hash", "password", "id", "role_id", 'x"'):
        refused(path, UsageError, new(**{field: "1"}))
    assert "admin, user, guest" in caught(RoleMissingError, lambda: do(path, new(role="king"))).hint


def test_a_column_that_must_be_filled_is_asked_for_by_name(path):
    without = {"username": "carl"}
    told = refused(path, UsageError, lambda app: create_user(app, NewUser(fields=without, hashed="x")))
    assert "email" in told


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("12345", "5 characters"),
        ("", "0 characters"),
        ("x" * 129, "129 characters"),
        ("x" * 73, "72 bytes"),
        ("ü" * 37, "72 bytes"),
        ("abc\x00defg", "NUL"),
        ("abcdef\ud800", "half"),
    ],
)
def test_a_password_that_the_app_or_its_hash_does_not_take_is_refused_unseen(path, password, reason):
    with opened(path) as app:
        told = str(caught(ValueInvalidError, lambda: hash_password(app, Secret(password))))
    assert reason in told
    assert not password or password not in told


def test_passwords_up_to_the_limits_work(path):
    for name, password in (
        ("one", "123456"),
        ("two", "x" * 72),
        ("three", "ü" * 36),
        ("four", " pass word "),
    ):
        do(path, new(password, username=name, email=f"{name}@example.org"))
        with opened(path) as app:
            assert queries.check_password(
                app, queries.find_single_user(app, UserSelector(logins=[name])), Secret(password)
            ).matches


def test_a_user_without_the_password_that_the_app_needs_is_never_written(path):
    before = content(path)
    with opened(path) as app:
        prepared = create_user(app, NewUser(fields=NEW))
        caught(PlanChangedError, prepared.apply)
    assert content(path) == before


# Ensuring ------------------------------------------------------------------------------------------------------


def test_ensure_creates_once_and_changes_nothing_the_second_time(path):
    first = do(path, ensure(hashed=PASSWORD_HASH, **NEW, role="admin"))
    assert (first.created, first.changed) == (True, True)
    before = content(path)
    again = do(path, ensure(**NEW, role="admin"))
    assert (again.created, again.changed, again.user.login) == (False, False, "Carl")
    assert do(path, ensure(hashed="$2b$another", username="CARL")).changed is False
    assert content(path) == before


def test_ensure_changes_only_what_was_given_and_differs(path):
    hashed = rows(path, "select password_hash from users where id = 3")
    done = do(path, ensure(username="bob", email="bob@new.example", hashed="$2b$another"))
    assert (done.created, done.changed, done.user.email, done.user.active, done.user.role) == (
        False,
        True,
        "bob@new.example",
        False,
        "user",
    )
    assert rows(path, "select password_hash from users where id = 3") == hashed
    assert json.loads(log(path)[0][5])["changed"] == ["email"]


def test_ensure_that_changes_a_role_ends_sessions(path):
    done = do(path, ensure(username="ann", role="guest"))
    assert (done.user.role, done.ended_sessions) == ("guest", 2)


def test_ensure_never_takes_another_ones_address_nor_takes_a_name_for_an_address(path):
    refused(path, AlreadyExistsError, ensure(username="bob", email="ann@example.org"))
    done = do(path, ensure(username="ann@example.org", email="new@example.org", hashed=PASSWORD_HASH))
    assert done.created


def test_ensure_of_a_name_that_two_have_is_refused(tmp_path):
    path = flashpoint_app.settle(tmp_path, "deployed")
    without_nocase(path)
    add_user(path, "ANN", email="big@example.org")
    refused(path, AmbiguousLoginError, ensure(username="ann", role="admin"))


def test_whether_a_password_is_wanted_is_known_before_it_is_asked_for(path):
    with opened(path) as app:
        assert wants_password(app, NewUser(fields=NEW))
        assert not wants_password(app, NewUser(fields={"username": "ANN"}))


# Updating ------------------------------------------------------------------------------------------------------


def test_an_update_changes_stamps_and_records(path):
    done = do(path, update(UserSelector(logins=["ann"]), email="ann@new.example"))
    assert (done.changed, done.ended_sessions, done.users[0].email) == (1, 0, "ann@new.example")
    assert rows(path, "select updated_at > '2026' from users where id = 2") == [(1,)]
    ((action, _resource, key, _by, _user, details),) = log(path)
    assert (action, key, json.loads(details)["changed"]) == ("users.update", "2", ["email"])


def test_an_update_to_what_is_there_touches_nothing(path):
    before = content(path)
    fields = {
        "email": "ann@example.org",
        "active": "yes",
        "role": "USER",
        "last_login_at": "2025-02-03T04:05:06Z",
    }
    assert do(path, update(UserSelector(logins=["ann"]), **fields)).changed == 0
    assert content(path) == before


def test_the_case_of_ones_own_address_may_change(path):
    assert (
        do(path, update(UserSelector(logins=["ann"]), email="Ann@Example.org")).users[0].email
        == "Ann@Example.org"
    )


def test_an_update_writes_values_as_the_app_does(path):
    do(
        path,
        update(UserSelector(logins=["bob"]), active="on", last_login_at="2025-05-05 10:00:00", role="guest"),
    )
    assert rows(
        path, "select is_active, typeof(is_active), last_login_at, role_id from users where id = 3"
    ) == [(1, "integer", "2025-05-05T10:00:00.000Z", 3)]
    do(path, update(UserSelector(logins=["bob"]), last_login_at=""))
    assert rows(path, "select last_login_at from users where id = 3") == [(None,)]


def test_two_users_cannot_be_given_one_login(path):
    refused(path, UsageError, update(UserSelector(logins=["ann", "bob"]), email="x@example.org"))
    assert do(path, update(UserSelector(logins=["ann", "bob"]), last_login_at="2025-01-01")).changed == 2


# Role, state, password -----------------------------------------------------------------------------------------


def open_tokens(path, user):
    return rows(path, "select count(*) from refresh_tokens where user_id = ? and revoked_at is null", user)[
        0
    ][0]


def test_set_role_changes_whoever_does_not_have_it_and_ends_their_sessions(path):
    done = do(
        path, lambda app: user_changes.set_role(app, UserSelector(logins=["ann", "root", "bob"]), "Admin")
    )
    assert (done.changed, done.ended_sessions) == (2, 2)
    assert [user.login for user in done.users] == ["ann", "root", "bob"]
    assert rows(path, "select role_id from users") == [(1,), (1,), (1,)]
    assert (open_tokens(path, 2), open_tokens(path, 1)) == (0, 1)
    assert [(action, json.loads(details)["changed"]) for action, *_, details in log(path)] == [
        ("users.update", ["role"])
    ] * 2


def test_a_token_that_was_revoked_before_keeps_its_time(path):
    do(path, lambda app: user_changes.set_role(app, UserSelector(logins=["ann"]), "guest"))
    assert rows(path, "select revoked_at from refresh_tokens where id = 3") == [("2025-01-01T00:00:00.000Z",)]


def test_a_deployment_without_revoked_at_deletes_the_tokens(tmp_path):
    path = flashpoint_app.settle(tmp_path, "deployed")
    for (name,) in rows(
        path, "select name from sqlite_master where type = 'index' and sql like '%revoked_at%'"
    ):
        run(path, f"drop index {name}")
    run(path, "alter table refresh_tokens drop column revoked_at")
    done = do(path, lambda app: user_changes.set_active(app, UserSelector(logins=["ann"]), active=False))
    assert done.ended_sessions == 3
    assert rows(path, "select user_id from refresh_tokens") == [(1,)]


def test_deactivating_and_activating_are_done_once(path):
    def off(app):
        return user_changes.set_active(app, UserSelector(logins=["ann", "bob"]), active=False)

    done = do(path, off)
    assert (done.changed, done.ended_sessions, [user.active for user in done.users]) == (1, 2, [False, False])
    before = content(path)
    assert do(path, off).changed == 0
    assert content(path) == before
    assert (
        do(path, lambda app: user_changes.set_active(app, UserSelector(logins=["bob"]), active=True))
        .users[0]
        .active
    )


def test_a_new_password_fits_ends_sessions_and_is_recorded_as_the_app_does(path):
    def change(app):
        return user_changes.set_password(
            app, UserSelector(logins=["ann"]), hash_password(app, Secret("new s3cret"))
        )

    assert plan(path, change).rows == {"users": 1, "refresh_tokens": 2}
    with opened(path) as app:
        done = change(app).apply()
        assert queries.check_password(
            app, queries.find_single_user(app, UserSelector(logins=["ann"])), Secret("new s3cret")
        ).matches
    assert (done.changed, done.ended_sessions, done.password, open_tokens(path, 2)) == (1, 2, None, 0)
    ((action, *_, details),) = log(path)
    assert action == "users.changePassword"
    assert "s3cret" not in details
    assert "$2b$" not in details
    assert rows(path, "select updated_at > '2026' from users where id = 2") == [(1,)]


def test_several_users_never_share_one_new_password(path):
    refused(
        path,
        UsageError,
        lambda app: user_changes.set_password(app, UserSelector(logins=["ann", "bob"]), "$2b$x"),
    )


def test_one_who_is_not_there_stops_the_whole_command(path):
    refused(
        path,
        UserMissingError,
        lambda app: user_changes.set_active(app, UserSelector(logins=["ann", "zoe"]), active=False),
    )


# The last admin ------------------------------------------------------------------------------------------------

ROOT = UserSelector(logins=["root"])


@pytest.mark.parametrize(
    "change",
    [
        lambda app: delete_users(app, ROOT),
        lambda app: delete_users(app, ALL),
        lambda app: user_changes.set_active(app, ROOT, active=False),
        lambda app: user_changes.set_active(app, ALL, active=False),
        lambda app: user_changes.set_role(app, ROOT, "user"),
        lambda app: user_changes.set_role(app, ALL, "GUEST"),
        update(ROOT, active="0"),
        update(ROOT, role="user"),
        update(ROOT, role="admin", active="off"),
        ensure(username="root", active="false"),
        ensure(username="ROOT", role="guest", email="root@new.example"),
    ],
)
@pytest.mark.parametrize("second", ["none", "inactive"])
def test_the_last_active_admin_stays_on_every_path(path, change, second):
    if second == "inactive":  # one who may not sign in does not count
        add_user(path, "sleeper", 1, active=False)
    assert "root" in refused(path, LastAdminError, change)


def test_with_a_second_active_admin_the_first_may_go_but_not_both(path):
    add_user(path, "queen", 1)
    refused(
        path,
        LastAdminError,
        lambda app: user_changes.set_role(app, UserSelector(logins=["root", "queen"]), "user"),
    )
    assert do(path, lambda app: delete_users(app, ROOT)).rows["users"] == 1
    refused(
        path,
        LastAdminError,
        lambda app: user_changes.set_active(app, UserSelector(logins=["queen"]), active=False),
    )


def test_an_admin_role_in_other_letters_is_guarded_too(path):
    run(path, "update roles set name = 'Admin' where id = 1")
    refused(path, LastAdminError, lambda app: user_changes.set_role(app, ROOT, "user"))
    refused(path, LastAdminError, lambda app: delete_users(app, ROOT))


def test_an_admin_without_an_active_flag_does_not_count_as_active(path):
    add_user(path, "nulled", 1)
    run(path, "update users set is_active = null where username = 'nulled'")
    refused(path, LastAdminError, lambda app: delete_users(app, ROOT))


def test_two_demotions_at_once_leave_one_admin(path):
    add_user(path, "queen", 1)
    outcomes = []
    gate = threading.Barrier(2)

    def demote(name):
        with opened(path) as app:
            prepared = user_changes.set_role(app, UserSelector(logins=[name]), "user")
            prepared.plan()
            gate.wait()
            try:
                prepared.apply()
                outcomes.append("done")
            except LastAdminError:
                outcomes.append("refused")

    threads = [threading.Thread(target=demote, args=(name,)) for name in ("root", "queen")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "refused"]
    assert rows(path, "select count(*) from users where role_id = 1") == [(1,)]


# Unlocking -----------------------------------------------------------------------------------------------------


def test_unlock_clears_every_spelling_and_the_addresses_and_no_success(path):
    planned = plan(path, lambda app: user_changes.unlock(app, UserSelector(logins=["ann"])))
    assert planned.rows == {"login_attempts": 4}
    assert do(path, lambda app: user_changes.unlock(app, UserSelector(logins=["ann"]))).cleared == 4
    assert rows(path, "select username, ip_address, success from login_attempts") == [
        ("bob", "10.0.0.9", 0),
        ("ann", "10.0.0.1", 1),
    ]
    assert log(path)[0][0] == "users.unlock"


def test_unlocking_who_is_not_locked_records_nothing(path):
    before = content(path)
    assert do(path, lambda app: user_changes.unlock(app, UserSelector(logins=["root"]))).cleared == 0
    assert content(path) == before


# Deleting ------------------------------------------------------------------------------------------------------


def test_a_deletion_plan_says_per_table_what_happens_and_the_deed_is_that(path):
    def delete(app):
        return delete_users(app, UserSelector(logins=["ann"]))

    planned = plan(path, delete)
    assert planned.destructive
    assert planned.rows == {
        "users": 1, "refresh_tokens": 3, "user_settings": 1, "user_game_plays": 2, "user_stats": 1, "activity_logs": 2,
    }  # fmt: skip
    assert any("keep 2 rows of activity_logs" in step for step in planned.steps)
    done = do(path, delete)
    assert done.rows == planned.rows
    for table in ("refresh_tokens", "user_settings", "user_game_plays", "user_stats"):
        assert rows(path, f"select count(*) from {table} where user_id = 2") == [(0,)]
    assert rows(path, "select user_id, username from activity_logs where id <= 2") == [(None, "ann")] * 2
    assert rows(path, "select count(*) from login_attempts where username = 'ann'") == [(2,)]
    assert log(path)[0][:3] == ("users.delete", "users", "2")
    assert rows(path, "pragma foreign_key_check") == []


def test_rows_that_the_profile_calls_theirs_go_first_where_a_key_would_refuse(tmp_path):
    path = flashpoint_app.settle(tmp_path, "deployed")
    quick = path.with_name("quick.toml")
    quick.write_text(
        quick.read_text().replace("[users.fields]", 'owns = ["notes.author"]\n[users.fields]', 1)
    )
    run(
        path,
        "create table notes (id integer primary key, author integer references users (id))",
        "create table note_parts (note integer references notes (id) on delete cascade)",
        "insert into notes values (1, 2), (2, 2), (3, 1)",
        "insert into note_parts values (1), (1), (3)",
    )
    done = do(path, lambda app: delete_users(app, UserSelector(logins=["ann"])))
    assert (done.rows["notes"], done.rows["note_parts"]) == (2, 2)
    assert rows(path, "select id from notes") == [(3,)]
    assert rows(path, "select note from note_parts") == [(3,)]


def test_a_key_that_refuses_is_told_before_anything_happens(path):
    run(path, "create table notes (author integer references users (id))", "insert into notes values (2)")
    told = refused(path, ConstraintError, lambda app: delete_users(app, UserSelector(logins=["ann"])))
    assert "1 row of notes" in told


def test_deleting_the_inactive_when_there_are_none_is_nothing(path):
    who = UserSelector(inactive=timedelta(days=365 * 500))
    assert plan(path, lambda app: delete_users(app, who)).empty
    before = content(path)
    assert do(path, lambda app: delete_users(app, who)).users == []
    assert content(path) == before


def test_deleting_the_inactive_spares_who_signed_in(path):
    done = do(path, lambda app: delete_users(app, UserSelector(inactive=timedelta(days=30))))
    assert [user.login for user in done.users] == ["ann", "bob"]


def test_a_plan_that_no_longer_holds_is_not_carried_out(path):
    with opened(path) as app:
        prepared = delete_users(app, UserSelector(logins=["ann"]))
        seen = prepared.plan().digest
        run(path, "insert into user_game_plays (user_id, game_id, session_id) values (2, 'g3', 's3')")
        before = content(path)
        caught(PlanChangedError, lambda: prepared.apply(seen=seen))
    assert content(path) == before


@pytest.mark.parametrize(
    "change",
    [
        new(),
        ensure(username="bob", role="guest"),
        update(UserSelector(logins=["ann"]), email="z@example.org"),
        lambda app: delete_users(app, UserSelector(logins=["ann"])),
        lambda app: user_changes.unlock(app, UserSelector(logins=["ann"])),
        lambda app: user_changes.set_password(app, UserSelector(logins=["ann"]), "$2b$x"),
    ],
)
def test_a_change_whose_record_cannot_be_written_does_not_happen(path, change):
    run(
        path,
        "create trigger stop before insert on activity_logs begin select raise(abort, 'no more records'); end",
    )
    before = content(path)

    def deed():
        with opened(path) as app:
            change(app).apply()

    assert "no more records" in str(caught(DbctlError, deed))
    assert content(path) == before


# An app that dbctl has never heard of --------------------------------------------------------------------------


def test_the_same_rules_hold_where_the_role_is_a_word_and_the_key_no_number(tmp_path):
    path = flashpoint_app.settle_larder(tmp_path)
    pip = UserSelector(logins=["pip"])

    def demote(app):
        return user_changes.set_role(app, pip, "COOK")

    caught(LastAdminError, lambda: do(path, demote))
    assert (
        do(path, lambda app: user_changes.set_role(app, UserSelector(logins=["ana"]), "chief")).ended_sessions
        == 2
    )
    assert rows(path, "select count(*) from member_logins") == [(1,)]
    assert do(path, demote).changed == 1
    assert rows(path, "select kind, typeof(changed_ms) from members where handle = 'pip'") == [
        ("cook", "integer")
    ]
    hashed = PASSWORD_HASH
    made = do(path, lambda app: create_user(app, NewUser(fields=NEW, hashed=hashed)))
    assert (made.user.role, len(str(made.user.id))) == ("guest", 36)
    assert do(path, lambda app: delete_users(app, UserSelector(ids=[str(made.user.id)]))).rows == {
        "members": 1
    }
    caught(UserMissingError, lambda: do(path, lambda app: delete_users(app, UserSelector(ids=["4"]))))


def test_an_admin_whose_row_holds_an_odd_yes_is_still_the_last_one(path):
    """Deployed rows hold whatever was written: here 2 for active, which the app takes for yes."""
    with opened(path) as app:
        admins = [user.login for user in queries.list_users(app, Filter(role="admin"), Window()).items]
    run(path, f"update users set is_active = 2 where username = '{admins[0]}'")
    with opened(path) as app, pytest.raises(LastAdminError):
        user_changes.set_active(app, UserSelector(logins=admins), active=False).apply()


def test_playlists_and_favorites_are_handed_over_where_a_deployment_has_them(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    run(path, "insert into user_playlists (user_id, title) values (2, 'Mine')")
    run(path, "insert into user_favorites (user_id, game_id) values (2, 'g1'), (2, 'g2'), (1, 'g1')")
    caught(
        DuplicateRowsError,
        lambda: do(path, lambda app: delete_users(app, UserSelector(logins=["ann"]), heir="root")),
    )
    assert rows(path, "select count(*) from user_favorites") == [(3,)]
    with opened(path) as app:
        done = delete_users(app, UserSelector(logins=["ann"]), heir="root", delete_duplicates=True).apply()
    assert done.duplicates == {"user_favorites": 1}
    assert done.transferred == {"user_playlists": 1, "user_favorites": 1}
    favorites = rows(path, "select user_id, game_id from user_favorites order by game_id")
    assert favorites == [(1, "g1"), (1, "g2")]
    assert rows(path, "select count(*) from user_game_plays where user_id in (1, 2)") == [(0,)]


def test_a_handover_to_a_user_with_thousands_of_rows_is_complete_and_deletes_no_row_with_null_in_the_key(
    tmp_path,
):
    path = settle(tmp_path / "app", "deployed")
    run(path, "delete from user_favorites")
    many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)"
    run(path, f"{many} insert into user_favorites (user_id, game_id) select 1, 'g' || i from n")
    run(path, f"{many} insert into user_favorites (user_id, game_id) select 2, 'g' || (i + 1000) from n")
    with opened(path) as app:
        deletion = delete_users(app, UserSelector(logins=["ann"]), heir="root", delete_duplicates=True)
        done = deletion.apply(deletion.plan().digest)
    assert (done.duplicates, done.transferred) == ({"user_favorites": 2000}, {"user_favorites": 1000})
    assert rows(path, "select user_id, count(*) from user_favorites group by 1") == [(1, 4000)]


def test_two_leaving_users_with_one_key_hand_it_over_once(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    run(path, "delete from user_favorites")
    run(path, "insert into user_favorites (user_id, game_id) values (2, 'g1'), (3, 'g1'), (3, 'g2')")
    (leaving,) = rows(path, "select group_concat(username) from users where id in (2, 3)")

    def delete(app, **more):
        return delete_users(app, UserSelector(logins=leaving[0].split(",")), heir="root", **more)

    caught(DuplicateRowsError, lambda: do(path, delete))
    done = do(path, lambda app: delete(app, delete_duplicates=True))
    assert (done.duplicates, done.transferred) == ({"user_favorites": 1}, {"user_favorites": 2})
    assert rows(path, "select user_id, game_id from user_favorites order by 2") == [(1, "g1"), (1, "g2")]
