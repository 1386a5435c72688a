"""Changes of users: their effects, their audit rows, and the rules that apply to every command."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import (
    AmbiguousLoginError,
    PlanChangedError,
    RoleMissingError,
    UsageError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.errors.users import DuplicateRowsError, LastAdminError
from dbctl.model import PageRequest, Secret
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import lockout, passwords, queries
from dbctl.services.users import update as role_changes
from dbctl.services.users import update as user_update
from dbctl.services.users.create import NewUser, create_user, ensure_user, hash_password, needs_password
from dbctl.services.users.delete import delete_users
from dbctl.services.users.queries import UserFilter
from tests.services import flashpoint_app
from tests.services.flashpoint_app import (
    catch_error,
    create_app,
    drop_nocase,
    open_app,
    query_rows,
    read_all_rows,
    run_statements,
)
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user

NEW = {"username": "Carl", "email": "carl@example.org"}
ALL = UserSelector(ids=["1", "2", "3"])


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    return flashpoint_app.create_app(tmp_path, request.param)


def create(text="a password", *, with_settings=False, **fields):
    def prepare(app):
        hashed = hash_password(app, Secret(text))
        return create_user(
            app, NewUser(fields=NEW | fields, password_hash=hashed, with_settings=with_settings)
        )

    return prepare


def ensure(hashed="", **fields):
    return lambda app: ensure_user(app, NewUser(fields=fields, password_hash=hashed))


def update(login, **fields):
    return lambda app: user_update.update_user(app, login, fields)


def apply_change(path, prepare):
    with open_app(path) as app:
        prepared = prepare(app)
        plan = prepared.plan()
        return prepared.apply(confirmed=plan.digest)


def plan_change(path, prepare):
    with open_app(path) as app:
        return prepare(app).plan()


def audit_rows(path):
    return query_rows(
        path,
        "select action, resource, resource_id, username, user_id, details from activity_logs where id > 2",
    )


def assert_refused(path, error, prepare):
    """Assert that the plan and the change are refused with the same message and change no row."""
    before = read_all_rows(path)
    message = str(catch_error(error, lambda: plan_change(path, prepare)))

    def apply_without_plan():
        with open_app(path) as app:
            prepare(app).apply()

    assert str(catch_error(error, apply_without_plan)) == message
    assert read_all_rows(path) == before
    assert message.isprintable()
    return message


# Creating ------------------------------------------------------------------------------------------------------


def test_new_user_is_stored_as_by_app(path):
    result = apply_change(path, create())
    assert (result.created, result.changed, result.user.login, result.user.role, result.user.active) == (
        True,
        True,
        "Carl",
        "user",
        True,
    )
    ((name, email, hashed, role, active, created, updated, last_login),) = query_rows(
        path,
        "select username, email, password_hash, role_id, is_active, created_at, updated_at, last_login_at from users where id = 4",
    )
    assert (name, email, role, active, last_login) == ("Carl", "carl@example.org", 2, 1, None)
    assert hashed.startswith("$2b$04$")
    assert created == updated
    creation_time = datetime.strptime(created, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - creation_time) < timedelta(minutes=1)
    assert query_rows(path, "select count(*) from user_settings where user_id = 4") == [(0,)]
    assert (result.ended_sessions, result.effect.details) == (0, ["role user"])


def test_plan_of_a_new_user_names_its_role(path):
    assert plan_change(path, create(role="GUEST")).steps == ["add user Carl with role guest"]
    assert plan_change(path, ensure(**NEW)).steps == ["add user Carl with role user"]


def test_create_is_audited_without_secret(path):
    apply_change(path, create("s3cret-mark"))
    ((action, resource, key, by, user, details),) = audit_rows(path)
    assert (action, resource, key, user) == ("users.create", "users", "4", None)
    assert by.startswith("dbctl (")
    assert json.loads(details) == {"username": "Carl", "role": "user", "by": "dbctl"}


def test_new_user_accepts_role_state_and_times(path):
    user = apply_change(path, create(role="ADMIN", active="no", last_login_at="2025-01-01")).user
    assert (user.role, user.active, user.last_login_at) == ("admin", False, datetime(2025, 1, 1, tzinfo=UTC))


def test_default_settings_are_added_on_request(path):
    document = any(row[1] == "value_type" for row in query_rows(path, "pragma table_info(system_settings)"))
    theme = ("category = 'app' and key", "defaultTheme") if document else ("key", "app.default_theme")
    run_statements(path, f"update system_settings set value = 'light' where {theme[0]} = '{theme[1]}'")
    steps = plan_change(path, create(with_settings=True)).steps
    (step,) = [
        step
        for step in steps
        if step.startswith("add the app's default user settings: theme_mode, primary_color")
    ]
    assert not [step for step in plan_change(path, create()).steps if "settings" in step]
    result = apply_change(path, create(with_settings=True))
    stored = dict(query_rows(path, "select setting_key, setting_value from user_settings where user_id = 4"))
    other_settings = (
        {"card_size": "medium", "view_mode": "grid", "sidebar_collapsed": "false"} if document else {}
    )
    expected = {"theme_mode": "light", "primary_color": "blue", **other_settings}
    assert (stored, list(result.default_settings)) == (expected, list(expected))
    assert step == f"add the app's default user settings: {', '.join(expected)}"


@pytest.mark.parametrize("fields", [{"username": "ann"}, {"username": "ANN"}, {"email": "Ann@Example.org"}])
def test_existing_login_in_any_case_is_refused(path, fields):
    assert_refused(path, AlreadyExistsError, create(**fields))


def test_existing_login_is_refused_without_unique_index(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    drop_nocase(path)
    assert_refused(path, AlreadyExistsError, create(username="ANN"))
    bob = UserSelector(logins=["bob"])
    assert_refused(path, AlreadyExistsError, update(bob, email="ANN@example.org"))
    assert_refused(path, AlreadyExistsError, update(bob, active="yes", email="ANN@example.org"))


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
def test_invalid_values_are_refused(path, fields):
    assert len(assert_refused(path, ValueInvalidError, create(**fields))) < 300


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
def test_unusual_names_round_trip(path, name):
    apply_change(path, create(username=name))
    assert query_rows(path, "select username from users where id = 4") == [(name,)]
    with open_app(path) as app:
        assert queries.find_single_user(app, UserSelector(logins=[name])).id == 4


def test_unknown_fields_and_roles_are_refused(path):
    for field in ("password_hash", "password", "id", "role_id", 'x"'):
        assert_refused(path, UsageError, create(**{field: "1"}))
    assert (
        "admin, user, guest"
        in catch_error(RoleMissingError, lambda: apply_change(path, create(role="king"))).hint
    )


def test_missing_required_field_is_named(path):
    without = {"username": "carl"}
    message = assert_refused(
        path, UsageError, lambda app: create_user(app, NewUser(fields=without, password_hash="x"))
    )
    assert "email" in message


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
def test_invalid_password_is_refused_without_showing_it(path, password, reason):
    with open_app(path) as app:
        message = str(catch_error(ValueInvalidError, lambda: hash_password(app, Secret(password))))
    assert reason in message
    assert not password or password not in message


def test_passwords_up_to_limit_are_accepted(path):
    for name, password in (
        ("one", "123456"),
        ("two", "x" * 72),
        ("three", "ü" * 36),
        ("four", " pass word "),
    ):
        apply_change(path, create(password, username=name, email=f"{name}@example.org"))
        with open_app(path) as app:
            assert passwords.compare_password(
                app, queries.find_single_user(app, UserSelector(logins=[name])), Secret(password)
            ).matches


def test_user_without_required_password_is_not_created(path):
    before = read_all_rows(path)
    with open_app(path) as app:
        prepared = create_user(app, NewUser(fields=NEW))
        catch_error(PlanChangedError, prepared.apply)
    assert read_all_rows(path) == before


# Ensure --------------------------------------------------------------------------------------------------------


def test_ensure_is_idempotent(path):
    first = apply_change(path, ensure(hashed=PASSWORD_HASH, **NEW, role="admin"))
    assert (first.created, first.changed) == (True, True)
    before = read_all_rows(path)
    repeated = apply_change(path, ensure(**NEW, role="admin"))
    assert (repeated.created, repeated.changed, repeated.user.login) == (False, False, "Carl")
    assert apply_change(path, ensure(hashed="$2b$another", username="CARL")).changed is False
    assert read_all_rows(path) == before


def test_ensure_changes_only_different_fields(path):
    hashed = query_rows(path, "select password_hash from users where id = 3")
    result = apply_change(path, ensure(username="bob", email="bob@new.example", hashed="$2b$another"))
    assert (result.created, result.changed, result.user.email, result.user.active, result.user.role) == (
        False,
        True,
        "bob@new.example",
        False,
        "user",
    )
    assert query_rows(path, "select password_hash from users where id = 3") == hashed
    assert json.loads(audit_rows(path)[0][5])["changed"] == ["email"]
    assert result.closing.text == "Changed user bob"


def test_ensure_with_new_role_ends_sessions(path):
    result = apply_change(path, ensure(username="ann", role="guest"))
    assert (result.user.role, result.ended_sessions) == ("guest", 2)


def test_ensure_does_not_confuse_names_and_emails(path):
    assert_refused(path, AlreadyExistsError, ensure(username="bob", email="ann@example.org"))
    result = apply_change(
        path, ensure(username="ann@example.org", email="new@example.org", hashed=PASSWORD_HASH)
    )
    assert result.created


def test_ensure_of_ambiguous_name_is_refused(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    drop_nocase(path)
    add_user(path, "ANN", email="big@example.org")
    assert_refused(path, AmbiguousLoginError, ensure(username="ann", role="admin"))


def test_needs_password_is_known_before_prompt(path):
    with open_app(path) as app:
        assert needs_password(app, NewUser(fields=NEW))
        assert not needs_password(app, NewUser(fields={"username": "ANN"}))


# Updating ------------------------------------------------------------------------------------------------------


def test_update_sets_time_and_is_audited(path):
    result = apply_change(path, update(UserSelector(logins=["ann"]), email="ann@new.example"))
    assert (result.changed, result.ended_sessions, result.users[0].email) == (1, 0, "ann@new.example")
    assert query_rows(path, "select updated_at > '2026' from users where id = 2") == [(1,)]
    ((action, _resource, key, _by, _user, details),) = audit_rows(path)
    assert (action, key, json.loads(details)["changed"]) == ("users.update", "2", ["email"])


def test_update_to_same_value_changes_nothing(path):
    before = read_all_rows(path)
    fields = {
        "email": "ann@example.org",
        "active": "yes",
        "role": "USER",
        "last_login_at": "2025-02-03T04:05:06Z",
    }
    result = apply_change(path, update(UserSelector(logins=["ann"]), **fields))
    assert (result.changed, result.effect) == (0, None)
    assert read_all_rows(path) == before


def test_other_fields_of_the_last_admin_can_change(path):
    assert apply_change(path, update(ROOT, email="root@new.example")).changed == 1


def test_update_that_a_trigger_skips_is_refused(path):
    run_statements(path, "create trigger skipped before update on users begin select raise(ignore); end")
    before = read_all_rows(path)
    change = update(UserSelector(logins=["ann"]), email="ann@new.example")
    assert "0 of 1 row" in str(catch_error(ConstraintError, lambda: apply_change(path, change)))
    assert read_all_rows(path) == before


def test_field_that_differs_for_one_of_several_users_is_written(path):
    run_statements(
        path,
        "update users set last_login_at = '2025-01-01T00:00:00.000Z' where id = 2",
        "update users set last_login_at = '2025-02-03T04:05:06.000Z' where id = 3",
    )
    both = UserSelector(logins=["ann", "bob"])
    result = apply_change(path, update(both, active="yes", last_login_at="2025-02-03T04:05:06Z"))
    assert (result.changed, result.effect.names) == (2, ["ann", "bob"])
    assert (
        query_rows(path, "select is_active, last_login_at from users where id in (2, 3)")
        == [(1, "2025-02-03T04:05:06.000Z")] * 2
    )
    assert [json.loads(row[-1])["changed"] for row in audit_rows(path)] == [["active", "last_login_at"]] * 2


def test_result_names_no_user_if_some_are_unchanged(path):
    result = apply_change(path, update(UserSelector(logins=["ann", "bob"]), active="yes"))
    assert (result.changed, result.effect.names, result.effect.counts["unchanged"]) == (1, [], 1)


def test_update_with_the_same_role_ends_no_session(path):
    change = update(UserSelector(logins=["ann"]), email="ann@new.example", role="user")
    steps = plan_change(path, change).steps
    assert [step for step in steps if "session" in step or "role" in step] == []
    result = apply_change(path, change)
    assert (result.changed, result.ended_sessions, open_tokens(path, 2)) == (1, 0, 2)
    assert [json.loads(row[-1])["changed"] for row in audit_rows(path)] == [["email"]]


def test_case_of_own_email_can_change(path):
    assert (
        apply_change(path, update(UserSelector(logins=["ann"]), email="Ann@Example.org")).users[0].email
        == "Ann@Example.org"
    )


def test_update_stores_values_as_by_app(path):
    apply_change(
        path,
        update(UserSelector(logins=["bob"]), active="on", last_login_at="2025-05-05 10:00:00", role="guest"),
    )
    assert query_rows(
        path, "select is_active, typeof(is_active), last_login_at, role_id from users where id = 3"
    ) == [(1, "integer", "2025-05-05T10:00:00.000Z", 3)]
    apply_change(path, update(UserSelector(logins=["bob"]), last_login_at=""))
    assert query_rows(path, "select last_login_at from users where id = 3") == [(None,)]


def test_two_users_cannot_have_the_same_login(path):
    assert_refused(path, UsageError, update(UserSelector(logins=["ann", "bob"]), email="x@example.org"))
    assert (
        apply_change(path, update(UserSelector(logins=["ann", "bob"]), last_login_at="2025-01-01")).changed
        == 2
    )


# Role, state, password -----------------------------------------------------------------------------------------


def open_tokens(path, user):
    return query_rows(
        path, "select count(*) from refresh_tokens where user_id = ? and revoked_at is null", user
    )[0][0]


def test_set_role_changes_other_users_and_ends_sessions(path):
    result = apply_change(
        path, lambda app: role_changes.set_role(app, UserSelector(logins=["ann", "root", "bob"]), "Admin")
    )
    assert (result.changed, result.ended_sessions) == (2, 2)
    assert [user.login for user in result.users] == ["ann", "root", "bob"]
    assert query_rows(path, "select role_id from users") == [(1,), (1,), (1,)]
    assert (open_tokens(path, 2), open_tokens(path, 1)) == (0, 1)
    assert [(action, json.loads(details)["changed"]) for action, *_, details in audit_rows(path)] == [
        ("users.update", ["role"])
    ] * 2


def test_plan_of_a_role_names_the_field_and_the_sessions(path):
    plan = plan_change(path, lambda app: role_changes.set_role(app, UserSelector(logins=["ann"]), "guest"))
    assert plan.steps == ["change role of ann", "end 2 sessions (refresh_tokens)"]


def test_session_that_a_trigger_does_not_end_refuses_the_change(path):
    run_statements(
        path, "create trigger skipped before update on refresh_tokens begin select raise(ignore); end"
    )
    before = read_all_rows(path)
    change = lambda app: role_changes.set_role(app, UserSelector(logins=["ann"]), "guest")  # noqa: E731
    assert "0 of 2 rows" in str(catch_error(ConstraintError, lambda: apply_change(path, change)))
    assert read_all_rows(path) == before


def test_ended_token_gets_the_time_of_its_change(path):
    run_statements(path, "alter table refresh_tokens add column updated_at text")
    apply_change(path, lambda app: role_changes.set_role(app, UserSelector(logins=["ann"]), "guest"))
    changed = query_rows(path, "select count(*) from refresh_tokens where updated_at > '2026'")
    assert changed == [(2,)]


def test_revoked_token_keeps_its_time(path):
    apply_change(path, lambda app: role_changes.set_role(app, UserSelector(logins=["ann"]), "guest"))
    assert query_rows(path, "select revoked_at from refresh_tokens where id = 3") == [
        ("2025-01-01T00:00:00.000Z",)
    ]


def test_tokens_are_deleted_without_revoked_at(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    for (name,) in query_rows(
        path, "select name from sqlite_master where type = 'index' and sql like '%revoked_at%'"
    ):
        run_statements(path, f"drop index {name}")
    run_statements(
        path,
        "alter table refresh_tokens drop column revoked_at",
        "alter table refresh_tokens add column updated_at text",  # which changes in no row
    )
    result = apply_change(
        path, lambda app: user_update.set_active(app, UserSelector(logins=["ann"]), active=False)
    )
    assert result.ended_sessions == 3
    assert query_rows(path, "select user_id from refresh_tokens") == [(1,)]


def test_activation_is_idempotent(path):
    def deactivate(app):
        return user_update.set_active(app, UserSelector(logins=["ann", "bob"]), active=False)

    result = apply_change(path, deactivate)
    assert (result.changed, result.ended_sessions, [user.active for user in result.users]) == (
        1,
        2,
        [False, False],
    )
    before = read_all_rows(path)
    assert apply_change(path, deactivate).changed == 0
    assert read_all_rows(path) == before
    assert (
        apply_change(path, lambda app: user_update.set_active(app, UserSelector(logins=["bob"]), active=True))
        .users[0]
        .active
    )


def test_new_password_matches_ends_sessions_and_is_audited(path):
    def change(app):
        update = user_update.UserUpdate(password_hash=hash_password(app, Secret("new s3cret")))
        return user_update.set_password(app, UserSelector(logins=["ann"]), update)

    assert plan_change(path, change).rows == {"users": 1, "refresh_tokens": 2}
    with open_app(path) as app:
        result = change(app).apply()
        assert passwords.compare_password(
            app, queries.find_single_user(app, UserSelector(logins=["ann"])), Secret("new s3cret")
        ).matches
    assert (result.changed, result.ended_sessions, result.password, open_tokens(path, 2)) == (1, 2, None, 0)
    ((action, *_, details),) = audit_rows(path)
    assert action == "users.changePassword"
    assert "s3cret" not in details
    assert "$2b$" not in details
    assert query_rows(path, "select updated_at > '2026' from users where id = 2") == [(1,)]


def test_set_password_requires_one_user(path):
    assert_refused(
        path,
        UsageError,
        lambda app: user_update.set_password(
            app, UserSelector(logins=["ann", "bob"]), user_update.UserUpdate(password_hash="$2b$x")
        ),
    )


def test_missing_user_stops_command(path):
    assert_refused(
        path,
        UserMissingError,
        lambda app: user_update.set_active(app, UserSelector(logins=["ann", "zoe"]), active=False),
    )


# The last admin ------------------------------------------------------------------------------------------------

ROOT = UserSelector(logins=["root"])


@pytest.mark.parametrize(
    "change",
    [
        lambda app: delete_users(app, ROOT),
        lambda app: delete_users(app, ALL),
        lambda app: user_update.set_active(app, ROOT, active=False),
        lambda app: user_update.set_active(app, ALL, active=False),
        lambda app: role_changes.set_role(app, ROOT, "user"),
        lambda app: role_changes.set_role(app, ALL, "GUEST"),
        update(ROOT, active="0"),
        update(ROOT, role="user"),
        update(ROOT, role="admin", active="off"),
        ensure(username="root", active="false"),
        ensure(username="ROOT", role="guest", email="root@new.example"),
    ],
)
@pytest.mark.parametrize("second", ["none", "inactive"])
def test_last_active_admin_cannot_be_removed(path, change, second):
    if second == "inactive":  # an inactive admin does not count
        add_user(path, "sleeper", 1, active=False)
    assert "root" in assert_refused(path, LastAdminError, change)


def test_one_of_two_admins_can_be_removed(path):
    add_user(path, "queen", 1)
    assert_refused(
        path,
        LastAdminError,
        lambda app: role_changes.set_role(app, UserSelector(logins=["root", "queen"]), "user"),
    )
    assert apply_change(path, lambda app: delete_users(app, ROOT)).rows["users"] == 1
    assert_refused(
        path,
        LastAdminError,
        lambda app: user_update.set_active(app, UserSelector(logins=["queen"]), active=False),
    )


def test_plan_names_five_users_and_counts_the_others(path):
    for name in ("una", "vera", "wim"):
        add_user(path, name, 2)
    for count, title in ((5, "ann, bob, una, vera, wim"), (6, "root, ann, bob, una, vera and 1 more")):
        logins = ["root", "ann", "bob", "una", "vera", "wim"][-count:]
        plan = plan_change(
            path,
            lambda app, names=logins: user_update.set_active(app, UserSelector(logins=names), active=True),
        )
        assert plan.title == f"Activate {title}"


def test_admin_role_in_other_case_is_guarded(path):
    run_statements(path, "update roles set name = 'Admin' where id = 1")
    assert_refused(path, LastAdminError, lambda app: role_changes.set_role(app, ROOT, "user"))
    assert_refused(path, LastAdminError, lambda app: delete_users(app, ROOT))


def test_admin_with_null_active_flag_is_inactive(path):
    add_user(path, "nulled", 1)
    run_statements(path, "update users set is_active = null where username = 'nulled'")
    assert_refused(path, LastAdminError, lambda app: delete_users(app, ROOT))


def test_concurrent_demotions_leave_one_admin(path):
    add_user(path, "queen", 1)
    outcomes = []
    barrier = threading.Barrier(2)

    def demote(name):
        with open_app(path) as app:
            prepared = role_changes.set_role(app, UserSelector(logins=[name]), "user")
            prepared.plan()
            barrier.wait()
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
    assert query_rows(path, "select count(*) from users where role_id = 1") == [(1,)]


# Unlocking -----------------------------------------------------------------------------------------------------


def test_unlock_deletes_attempts_of_spellings_and_addresses(path):
    planned = plan_change(path, lambda app: lockout.unlock(app, UserSelector(logins=["ann"])))
    assert planned.rows == {"login_attempts": 4}
    assert apply_change(path, lambda app: lockout.unlock(app, UserSelector(logins=["ann"]))).cleared == 4
    assert query_rows(path, "select username, ip_address, success from login_attempts") == [
        ("bob", "10.0.0.9", 0),
        ("ann", "10.0.0.1", 1),
    ]
    assert audit_rows(path)[0][0] == "users.unlock"


def test_unlock_without_attempts_is_not_audited(path):
    before = read_all_rows(path)
    result = apply_change(path, lambda app: lockout.unlock(app, UserSelector(logins=["root"])))
    assert (result.cleared, result.effect) == (0, None)
    assert read_all_rows(path) == before


# Deleting ------------------------------------------------------------------------------------------------------


def test_deletion_matches_plan_per_table(path):
    def delete(app):
        return delete_users(app, UserSelector(logins=["ann"]))

    planned = plan_change(path, delete)
    assert planned.destructive
    assert planned.rows == {
        "users": 1, "refresh_tokens": 3, "user_settings": 1, "user_game_plays": 2, "user_stats": 1, "activity_logs": 2,
    }  # fmt: skip
    assert any("keep 2 rows of activity_logs" in step for step in planned.steps)
    result = apply_change(path, delete)
    assert result.rows == planned.rows
    assert result.summary() == {"deleted": ["ann"], "rows": planned.rows}
    for table in ("refresh_tokens", "user_settings", "user_game_plays", "user_stats"):
        assert query_rows(path, f"select count(*) from {table} where user_id = 2") == [(0,)]
    assert (
        query_rows(path, "select user_id, username from activity_logs where id <= 2") == [(None, "ann")] * 2
    )
    assert query_rows(path, "select count(*) from login_attempts where username = 'ann'") == [(2,)]
    assert audit_rows(path)[0][:3] == ("users.delete", "users", "2")
    assert query_rows(path, "pragma foreign_key_check") == []


def test_cascade_rows_are_deleted_before_user(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    quick = path.with_name("quick.toml")
    quick.write_text(
        quick.read_text().replace("[users.fields]", 'cascade = ["notes.author"]\n[users.fields]', 1)
    )
    run_statements(
        path,
        "create table notes (id integer primary key, author integer references users (id))",
        "create table note_parts (note integer references notes (id) on delete cascade)",
        "insert into notes values (1, 2), (2, 2), (3, 1)",
        "insert into note_parts values (1), (1), (3)",
    )
    result = apply_change(path, lambda app: delete_users(app, UserSelector(logins=["ann"])))
    assert (result.rows["notes"], result.rows["note_parts"]) == (2, 2)
    assert query_rows(path, "select id from notes") == [(3,)]
    assert query_rows(path, "select note from note_parts") == [(3,)]


def test_restricting_foreign_key_is_reported_before_change(path):
    run_statements(
        path, "create table notes (author integer references users (id))", "insert into notes values (2)"
    )
    message = assert_refused(
        path, ConstraintError, lambda app: delete_users(app, UserSelector(logins=["ann"]))
    )
    assert "1 row of notes" in message
    for new_owner, hint in (("", "--transfer-to LOGIN"), ("root", "dbctl apps check")):
        change = lambda app, login=new_owner: delete_users(  # noqa: E731
            app, UserSelector(logins=["ann"]), new_owner=login
        )
        assert hint in catch_error(ConstraintError, lambda prepare=change: plan_change(path, prepare)).hint


def test_user_that_a_trigger_removes_is_reported(path):
    run_statements(
        path, "create trigger gone after insert on users begin delete from users where id = new.id; end"
    )
    before = read_all_rows(path)
    error = catch_error(ConstraintError, lambda: apply_change(path, create()))
    assert "does not exist after the insert" in str(error)
    assert read_all_rows(path) == before


def test_deleting_no_inactive_users_changes_nothing(path):
    selector = UserSelector(inactive_for=timedelta(days=365 * 500))
    assert plan_change(path, lambda app: delete_users(app, selector)).is_empty
    before = read_all_rows(path)
    assert apply_change(path, lambda app: delete_users(app, selector)).users == []
    assert read_all_rows(path) == before


def test_deleting_inactive_users_retains_active_ones(path):
    result = apply_change(path, lambda app: delete_users(app, UserSelector(inactive_for=timedelta(days=30))))
    assert [user.login for user in result.users] == ["ann", "bob"]


def test_outdated_plan_is_not_applied(path):
    with open_app(path) as app:
        prepared = delete_users(app, UserSelector(logins=["ann"]))
        confirmed = prepared.plan().digest
        run_statements(
            path, "insert into user_game_plays (user_id, game_id, session_id) values (2, 'g3', 's3')"
        )
        before = read_all_rows(path)
        catch_error(PlanChangedError, lambda: prepared.apply(confirmed=confirmed))
    assert read_all_rows(path) == before


@pytest.mark.parametrize(
    "change",
    [
        create(),
        ensure(username="bob", role="guest"),
        update(UserSelector(logins=["ann"]), email="z@example.org"),
        lambda app: delete_users(app, UserSelector(logins=["ann"])),
        lambda app: lockout.unlock(app, UserSelector(logins=["ann"])),
        lambda app: user_update.set_password(
            app, UserSelector(logins=["ann"]), user_update.UserUpdate(password_hash="$2b$x")
        ),
    ],
)
def test_change_without_audit_row_is_rolled_back(path, change):
    run_statements(
        path,
        "create trigger stop before insert on activity_logs begin select raise(abort, 'no more records'); end",
    )
    before = read_all_rows(path)

    def apply_without_plan():
        with open_app(path) as app:
            change(app).apply()

    assert "no more records" in str(catch_error(DbctlError, apply_without_plan))
    assert read_all_rows(path) == before


# An app without built-in support -------------------------------------------------------------------------------


def test_plan_refuses_no_time_for_a_column_that_is_not_null(tmp_path):
    path = flashpoint_app.create_larder(tmp_path)
    new = NewUser(fields=NEW | {"created_at": ""}, password_hash=PASSWORD_HASH)
    for prepare in (update(UserSelector(logins=["ana"]), created_at=""), lambda app: create_user(app, new)):
        with pytest.raises(ValueInvalidError, match="created_at"):
            plan_change(path, prepare)


def test_rules_hold_with_text_roles_and_keys(tmp_path):
    path = flashpoint_app.create_larder(tmp_path)
    pip = UserSelector(logins=["pip"])

    def demote(app):
        return role_changes.set_role(app, pip, "COOK")

    catch_error(LastAdminError, lambda: apply_change(path, demote))
    assert (
        apply_change(
            path, lambda app: role_changes.set_role(app, UserSelector(logins=["ana"]), "chief")
        ).ended_sessions
        == 2
    )
    assert query_rows(path, "select count(*) from member_logins") == [(1,)]
    assert apply_change(path, demote).changed == 1
    assert query_rows(path, "select kind, typeof(changed_ms) from members where handle = 'pip'") == [
        ("cook", "integer")
    ]
    hashed = PASSWORD_HASH
    created = apply_change(path, lambda app: create_user(app, NewUser(fields=NEW, password_hash=hashed)))
    assert (created.user.role, len(str(created.user.id))) == ("guest", 36)
    assert apply_change(
        path, lambda app: delete_users(app, UserSelector(ids=[str(created.user.id)]))
    ).rows == {"members": 1}
    catch_error(
        UserMissingError, lambda: apply_change(path, lambda app: delete_users(app, UserSelector(ids=["4"])))
    )


def test_admin_with_unusual_active_value_is_last_admin(path):
    """Deployed rows may have any value: 2 for active, which the app treats as true."""
    with open_app(path) as app:
        admins = [
            user.login for user in queries.list_users(app, UserFilter(role="admin"), PageRequest()).items
        ]
    run_statements(path, f"update users set is_active = 2 where username = '{admins[0]}'")
    with open_app(path) as app, pytest.raises(LastAdminError):
        user_update.set_active(app, UserSelector(logins=admins), active=False).apply()


def test_playlists_and_favorites_are_transferred(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "insert into user_playlists (user_id, title) values (2, 'Mine')")
    run_statements(
        path, "insert into user_favorites (user_id, game_id) values (2, 'g1'), (2, 'g2'), (1, 'g1')"
    )
    catch_error(
        DuplicateRowsError,
        lambda: apply_change(
            path, lambda app: delete_users(app, UserSelector(logins=["ann"]), new_owner="root")
        ),
    )
    assert query_rows(path, "select count(*) from user_favorites") == [(3,)]
    with open_app(path) as app:
        result = delete_users(
            app, UserSelector(logins=["ann"]), new_owner="root", delete_duplicates=True
        ).apply()
    assert result.duplicates == {"user_favorites": 1}
    assert result.transferred == {"user_playlists": 1, "user_favorites": 1}
    favorites = query_rows(path, "select user_id, game_id from user_favorites order by game_id")
    assert favorites == [(1, "g1"), (1, "g2")]
    assert query_rows(path, "select count(*) from user_game_plays where user_id in (1, 2)") == [(0,)]


def test_transfer_of_many_rows_is_complete_with_null_keys(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "delete from user_favorites")
    many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)"
    run_statements(path, f"{many} insert into user_favorites (user_id, game_id) select 1, 'g' || i from n")
    run_statements(
        path, f"{many} insert into user_favorites (user_id, game_id) select 2, 'g' || (i + 1000) from n"
    )
    with open_app(path) as app:
        deletion = delete_users(app, UserSelector(logins=["ann"]), new_owner="root", delete_duplicates=True)
        result = deletion.apply(deletion.plan().digest)
    assert (result.duplicates, result.transferred) == ({"user_favorites": 2000}, {"user_favorites": 1000})
    assert query_rows(path, "select user_id, count(*) from user_favorites group by 1") == [(1, 4000)]


def test_duplicate_key_of_two_users_is_transferred_once(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "delete from user_favorites")
    run_statements(
        path, "insert into user_favorites (user_id, game_id) values (2, 'g1'), (3, 'g1'), (3, 'g2')"
    )
    (usernames,) = query_rows(path, "select group_concat(username) from users where id in (2, 3)")

    def delete(app, **options):
        return delete_users(app, UserSelector(logins=usernames[0].split(",")), new_owner="root", **options)

    catch_error(DuplicateRowsError, lambda: apply_change(path, delete))
    result = apply_change(path, lambda app: delete(app, delete_duplicates=True))
    assert (result.duplicates, result.transferred) == ({"user_favorites": 1}, {"user_favorites": 2})
    assert query_rows(path, "select user_id, game_id from user_favorites order by 2") == [
        (1, "g1"),
        (1, "g2"),
    ]
