"""Roles and permissions, on the document variant and on the deployed variant."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import (
    AmbiguousNameError,
    FeatureMissingError,
    NotSupportedError,
    PlanChangedError,
    RoleMissingError,
    SchemaMismatchError,
    UsageError,
    ValueInvalidError,
)
from dbctl.errors.users import BuiltInRoleError, LastAdminError, PermissionMissingError, RoleInUseError
from dbctl.model import Effect, KeyText, PageRequest
from dbctl.services.app.user_table import UserSelector
from dbctl.services.roles import changes, queries
from dbctl.services.users.queries import UserFilter, list_users
from dbctl.services.users.update import set_role
from tests.services.flashpoint_app import (
    SHAPES,
    catch_error,
    create_app,
    open_app,
    query_rows,
    read_all_rows,
    run_statements,
)

GAMES = ["games.read", "games.play", "games.download"]


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture
def path(tmp_path, shape):
    return create_app(tmp_path / "app", shape)


def create(app, name="editor", *, description="", priority=None, permissions=()):
    return changes.create_role(
        app, name, description=description, priority=priority, permissions=permissions
    ).apply()


def list_names(path):
    with open_app(path) as app:
        return [role.name for role in queries.list_roles(app, PageRequest()).items]


def list_permissions(path, role):
    with open_app(path) as app:
        return queries.show_role(app, role).permissions


def read_audit_entries(path):
    entries = query_rows(
        path,
        "select action, resource, resource_id, details, username from activity_logs where resource = 'roles'",
    )
    return [
        (action, resource, int(key), json.loads(details)) for action, resource, key, details, _ in entries
    ]


# Queries ---------------------------------------------------------------------------------------------------------


def test_list_has_users_permissions_and_built_in_flag_of_each_role(path, shape):
    with open_app(path) as app:
        page = queries.list_roles(app, PageRequest())
    roles_by_name = {
        role.name: (role.id, role.users, len(role.permissions), role.built_in) for role in page.items
    }
    assert roles_by_name == {
        "admin": (1, 1, 18, True),
        "user": (2, 2, 7, True),
        "guest": (3, 0, 3 if shape == "deployed" else 2, True),
    }
    assert page.items[0].summary()["permissions"] == 18
    assert {role.name: role.priority for role in page.items} == (
        {"admin": None, "user": None, "guest": None}
        if shape == "deployed"
        else {"admin": 100, "user": 50, "guest": 0}
    )


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", ["admin", "user", "guest"]),
        ("name", ["admin", "guest", "user"]),
        ("-name", ["user", "guest", "admin"]),
        ("-users", ["user", "admin", "guest"]),
        ("permissions", ["guest", "user", "admin"]),
    ],
)
def test_list_is_sorted(path, sort, order):
    with open_app(path) as app:
        assert [role.name for role in queries.list_roles(app, PageRequest(sort=sort)).items] == order


def test_list_is_paginated(path):
    with open_app(path) as app:
        page = queries.list_roles(app, PageRequest(limit=1, offset=1))
        assert ([role.name for role in page.items], page.total, page.has_more) == (["user"], 3, True)
        assert queries.list_roles(app, PageRequest(limit=5, offset=10**18)).items == []
        with pytest.raises(UsageError, match="known: id, name"):
            queries.list_roles(app, PageRequest(sort="-colour"))


def test_role_names_are_case_insensitive(path):
    with open_app(path) as app:
        role = queries.show_role(app, "ADMIN")
    assert (role.name, role.summary()) == ("admin", {})


@pytest.mark.parametrize("name", ["nix", "admin\n", KeyText("999"), KeyText("admin")])
@pytest.mark.parametrize("change", [changes.delete_role, lambda app, name: changes.grant(app, name, GAMES)])
def test_change_of_a_missing_role_lists_existing_roles(path, change, name):
    with open_app(path) as app:
        error = catch_error(RoleMissingError, lambda: change(app, name).plan())
    assert {"admin", "user", "guest"} <= set(re.findall(r"[a-z]+", error.hint))


@pytest.mark.parametrize("name", ["nix", "", "a'b", "100%", "admin\n", "\udcff", "[bold]"])
def test_missing_role_error_lists_existing_roles(path, name):
    with open_app(path) as app, pytest.raises(RoleMissingError) as caught:
        queries.show_role(app, name)
    assert "admin, user, guest" in caught.value.hint


def test_matrix_has_a_column_per_role_and_a_row_per_permission(path):
    with open_app(path) as app:
        matrix = queries.read_matrix(app)
    rows = matrix.summary()
    assert len(rows) == len(matrix.permissions) == 18
    assert {"permission": "users.delete", "admin": True, "user": False, "guest": False} in rows


def test_permission_has_its_roles(path):
    with open_app(path) as app:
        page = queries.list_permissions(app, PageRequest(limit=1))
    (permission,) = page.items
    assert (permission.name, permission.resource, permission.action, list(permission.roles)) == (
        "games.read",
        "games",
        "read",
        ["admin", "user", "guest"],
    )
    assert page.total == 18


@pytest.mark.parametrize(
    ("login", "permission", "allowed", "reason"),
    [
        ("ann", "games.play", True, "role user has games.play"),
        ("ANN@example.org", "users.delete", False, "role user lacks users.delete"),
        ("bob", "games.play", False, "bob is deactivated and has no permissions"),
        ("root", "settings.update", True, "role admin has settings.update"),
    ],
)
def test_permission_check_lists_reasons(path, login, permission, allowed, reason):
    with open_app(path) as app:
        check = queries.check_permission(app, login, permission, explain=True)
        assert not queries.check_permission(app, login, permission, explain=False).reasons
    assert check.allowed is allowed
    assert reason in check.reasons
    verb, name = "has" if allowed else "lacks", login.lower().partition("@")[0]
    assert check.closing.text == f"{name} {verb} the permission {permission}"
    assert check.summary() == {
        "login": name, "permission": permission, "allowed": allowed, "because": check.reasons,
    }  # fmt: skip
    holders = "admin" if permission in ("users.delete", "settings.update") else "admin, user"
    assert check.reasons[-1].removesuffix(", guest") == f"roles with it: {holders}"


def test_user_without_existing_role_has_no_permissions(path):
    run_statements(path, "pragma foreign_keys = off", "update users set role_id = 99 where username = 'ann'")
    with open_app(path) as app:
        check = queries.check_permission(app, "ann", "games.read", explain=True)
    assert not check.allowed
    assert any("does not exist" in reason for reason in check.reasons)
    assert list_names(path) == ["admin", "user", "guest"]


def test_permission_that_no_role_has_is_reported_as_such(path):
    run_statements(path, "delete from role_permissions where permission_id = 1")
    with open_app(path) as app:
        (name,) = (item.name for item in queries.list_permissions(app, PageRequest()).items if not item.roles)
        check = queries.check_permission(app, "ann", name, explain=True)
    assert "roles with it: none" in check.reasons


def test_permission_check_refuses_a_pattern(path):
    with open_app(path) as app, pytest.raises(UsageError):
        queries.check_permission(app, "ann", "games.*", explain=False)


# Changes ---------------------------------------------------------------------------------------------------------


def test_new_role_has_values_and_column_defaults(path, shape):
    with open_app(path) as app:
        result = create(app, description="d", permissions=["games.*", "games.read"])
    assert (result.created, result.changed) == (True, ["name", "description", *GAMES])
    assert result.effect == Effect("created", "role", ["editor"], details=["description", *GAMES])
    columns = "name, description" + (", priority" if shape == "document" else "")
    expected = ("editor", "d", 0) if shape == "document" else ("editor", "d")
    assert query_rows(path, f"select {columns} from roles where id = {result.role.id}") == [expected]
    assert query_rows(path, f"select count(*) from role_permissions where role_id = {result.role.id}") == [
        (3,)
    ]
    assert read_audit_entries(path) == [
        ("roles.create", "roles", result.role.id, {"name": "editor", "permissions": GAMES, "by": "dbctl"})
    ]


def test_plan_of_a_role_without_permissions_has_its_row_alone(path):
    with open_app(path) as app:
        plan = changes.create_role(app, "editor", description="", priority=None, permissions=()).plan()
    assert (plan.rows, plan.steps) == ({"roles": 1}, ["add role editor"])


def test_priority_requires_a_column(path, shape):
    with open_app(path) as app:
        if shape == "document":
            assert create(app, priority=7).role.priority == 7
        else:
            with pytest.raises(NotSupportedError, match="a priority"):
                create(app, priority=7)
    assert ("editor" in list_names(path)) is (shape == "document")


@pytest.mark.parametrize("shape", ["document"], indirect=True)
def test_priority_that_the_column_cannot_store_is_refused_in_the_plan(path):
    with open_app(path) as app:
        create(app)
        for change in (
            changes.create_role(app, "other", description="", priority=2**63, permissions=()),
            changes.update_role(app, "editor", {"priority": 2**63}),
        ):
            with pytest.raises(ValueInvalidError):
                change.plan()
        assert changes.update_role(app, "editor", {"priority": -(2**63)}).apply().role.priority == -(2**63)


@pytest.mark.parametrize("name", ["Admin", "EDITOR"])
def test_names_that_differ_only_in_case_are_duplicates(path, name):
    with open_app(path) as app:
        create(app, "editor")
        with pytest.raises(AlreadyExistsError):
            create(app, name)
        with pytest.raises(AlreadyExistsError):
            changes.update_role(app, "editor", {"name": "GUEST"}).apply()
    assert list_names(path) == ["admin", "user", "guest", "editor"]


@pytest.mark.parametrize("name", ["", "ed", "x" * 51, "a\tbc", "ab\x1bc", "ab\udcff", "ab\0c"])
def test_invalid_name_is_refused(path, name):
    before = read_all_rows(path)
    with open_app(path) as app, pytest.raises(ValueInvalidError):
        create(app, name)
    assert read_all_rows(path) == before


def test_description_that_is_no_text_is_refused(path):
    with open_app(path) as app:
        create(app, description="old")
        before = read_all_rows(path)
        with pytest.raises(ValueInvalidError, match="UTF-8"):
            create(app, "other", description="a\udcff")
        with pytest.raises(ValueInvalidError, match="UTF-8"):
            changes.update_role(app, "editor", {"description": "a\udcff"}).apply()
    assert read_all_rows(path) == before


def test_unusual_names_are_stored_unchanged(path):
    unusual = ['o\'brien "x"', "[bold]red[/]", "50% _off_", "役割です", "drop table users; --"]
    with open_app(path) as app:
        for name in unusual:
            create(app, name)
            assert queries.show_role(app, name).name == name
    assert list_names(path)[3:] == unusual


def test_update_changes_only_different_fields(path):
    with open_app(path) as app:
        create(app, description="old")
        same = changes.update_role(app, "editor", {"description": "old"})
        assert same.plan().is_empty
        assert (same.plan().rows, same.plan().steps) == ({}, [])
        unchanged = same.apply()
        assert (unchanged.changed, unchanged.effect) == ([], None)
        change = changes.update_role(app, "EDITOR", {"name": "Editor", "description": ""})
        plan = change.plan()
        assert (plan.rows, plan.steps) == ({"roles": 1}, ["change name, description of role editor"])
        with pytest.raises(ValueInvalidError):
            changes.update_role(app, "editor", {"name": "ed"}).plan()
        result = changes.update_role(app, "EDITOR", {"name": "Editor", "description": ""}).apply()
    assert (result.changed, result.role.name, result.role.description) == (
        ["name", "description"],
        "Editor",
        None,
    )
    assert result.effect == Effect("changed", "role", ["Editor"], details=["name", "description"])
    assert [action for action, *_ in read_audit_entries(path)] == ["roles.create", "roles.update"]


def test_renamed_built_in_role_cannot_be_changed(path):
    run_statements(path, "update roles set name = 'chief' where id = 1")
    before = read_all_rows(path)
    with open_app(path) as app:
        for change in (
            changes.update_role(app, "chief", {"name": "boss"}),
            changes.delete_role(app, "chief"),
            changes.grant(app, "user", ["users.read"]),
            changes.revoke(app, "GUEST", ["games.read"]),
        ):
            for action in (change.plan, change.apply):
                with pytest.raises(BuiltInRoleError):
                    action()
    assert read_all_rows(path) == before


def test_admin_role_cannot_be_renamed_or_deleted(path):
    run_statements(path, "update roles set name = 'chief' where id = 1")
    with open_app(path) as app:
        create(app, "admin")
        assert changes.grant(app, "admin", ["users.read"]).apply().changed == ["users.read"]
        with pytest.raises(BuiltInRoleError):
            changes.update_role(app, "admin", {"name": "boss"}).apply()
        with pytest.raises(BuiltInRoleError):
            changes.delete_role(app, "admin").apply()


def test_built_in_role_gets_and_loses_the_permissions_that_its_profile_leaves_open(path):
    run_statements(
        path,
        "delete from role_permissions where role_id = 3",
        "insert into permissions (name, resource, action) values ('tags.edit', 'tags', 'edit')",
        "insert into role_permissions (role_id, permission_id) select 1, max(id) from permissions",
    )
    with open_app(path) as app:
        assert changes.grant(app, "guest", ["games.read", "games.play"]).apply().changed == GAMES[:2]
        assert changes.revoke(app, "guest", ["games.play"]).apply().changed == ["games.play"]
        mixed = changes.grant(app, "guest", ["playlists.read", "users.read"])
        assert "--built-in" in catch_error(BuiltInRoleError, mixed.apply).hint
        assert changes.revoke(app, "admin", ["tags.edit"]).apply().changed == ["tags.edit"]
    assert list_permissions(path, "guest") == ["games.read"]


def test_permissions_of_a_built_in_role_that_no_profile_lists_are_its_own(path, answer, monkeypatch):
    remove_profile_sections(path, "roles.built_in.permissions")
    monkeypatch.chdir(path.parent)
    findings = answer("integrity", "check", status=None)["data"]["findings"]
    assert [finding for finding in findings if "role" in finding["message"]] == []
    before = read_all_rows(path)
    words = ("data", "delete", "role_permissions", "--filter", "role_id=3", "--yes")
    assert answer(*words, status=6)["error"]["code"] == "role-built-in"
    assert read_all_rows(path) == before


def test_plan_of_permissions_has_their_rows_and_the_changed_role(path):
    with open_app(path) as app:
        create(app)
        plan = changes.grant(app, "editor", GAMES).plan()
        assert (plan.rows, plan.steps) == ({"role_permissions": 3, "roles": 1}, [f"grant {', '.join(GAMES)}"])
        plan = changes.revoke(app, "editor", GAMES).plan()
        assert (plan.rows, plan.steps) == ({}, [])
        assert changes.grant(app, "editor", ["*"]).apply().changed[:3] == GAMES
    assert len(list_permissions(path, "editor")) == 18


def test_grant_and_revoke_are_idempotent(path):
    with open_app(path) as app:
        create(app)
        assert changes.grant(app, "editor", ["games.*", "users.read"]).apply().changed == [
            *GAMES,
            "users.read",
        ]
        assert changes.grant(app, "editor", ["games.read"]).apply().changed == []
        assert changes.revoke(app, "editor", ["games.*", "roles.read"]).apply().changed == GAMES
        assert changes.revoke(app, "editor", ["games.*"]).apply().changed == []
    assert list_permissions(path, "editor") == ["users.read"]
    assert [action for action, *_ in read_audit_entries(path)] == [
        "roles.create",
        "roles.update",
        "roles.update",
    ]


@pytest.mark.parametrize(
    ("patterns", "near"),
    [("games.reed", "games.read"), ("GAMES.READ", "games.read"), ("nix.*", ""), ("", "")],
)
def test_unknown_permission_is_refused_with_suggestions(path, patterns, near):
    with open_app(path) as app:
        create(app)
        with pytest.raises(PermissionMissingError) as caught:
            changes.grant(app, "editor", ["users.read", patterns]).apply()
    assert near in caught.value.hint
    assert list_permissions(path, "editor") == []


def test_role_with_users_is_not_deleted(path):
    with open_app(path) as app:
        role = create(app).role
        run_statements(path, f"update users set role_id = {role.id} where username = 'ann'")
        for action in (changes.delete_role(app, "editor").plan, changes.delete_role(app, "editor").apply):
            error = catch_error(RoleInUseError, action)
            assert "users: 1, other rows: 0" in str(error)
    assert "editor" in list_names(path)


def test_role_assigned_after_the_plan_is_not_deleted(path):
    with open_app(path) as app:
        role = create(app).role
        change = changes.delete_role(app, "editor")
        confirmed = change.plan().digest
        run_statements(path, f"update users set role_id = {role.id} where username = 'ann'")
        with pytest.raises(RoleInUseError):
            change.apply(confirmed=confirmed)
    assert "editor" in list_names(path)


def test_outdated_plan_is_not_applied(path):
    with open_app(path) as app:
        create(app)
        change = changes.grant(app, "editor", ["games.*"])
        confirmed = change.plan().digest
        role = queries.show_role(app, "editor")
        run_statements(
            path,
            f"insert into role_permissions (role_id, permission_id) select {role.id}, id from permissions where name = 'games.read'",
        )
        with pytest.raises(PlanChangedError):
            change.apply(confirmed=confirmed)
    assert list_permissions(path, "editor") == ["games.read"]


def test_deletion_of_role_deletes_its_permissions_as_planned(path):
    with open_app(path) as app:
        role = create(app, permissions=["games.*"]).role
        plan = changes.delete_role(app, "editor").plan()
        assert (plan.destructive, plan.rows) == (True, {"roles": 1, "role_permissions": 3})
        changes.delete_role(app, "editor").apply()
    assert query_rows(path, f"select count(*) from role_permissions where role_id = {role.id}") == [(0,)]
    assert query_rows(path, "pragma foreign_key_check") == []
    entry = ("roles.delete", "roles", role.id, {"name": "editor", "by": "dbctl"})
    assert read_audit_entries(path)[-1] == entry


def test_deletion_of_a_role_without_permissions_destroys_data(path):
    with open_app(path) as app:
        create(app)
        plan = changes.delete_role(app, "editor").plan()
    assert (plan.destructive, plan.rows) == (True, {"roles": 1})


def test_changed_permissions_change_the_time_of_the_role(path):
    with open_app(path) as app:
        create(app, permissions=["games.read"])
        for change in (changes.grant(app, "editor", GAMES), changes.revoke(app, "editor", GAMES)):
            run_statements(path, "update roles set updated_at = '2001-01-01 00:00:00'")
            change.apply()
            touched = query_rows(path, "select name from roles where updated_at > '2002-01-01'")
            assert touched == [("editor",)]


def test_role_table_with_an_unknown_required_column_is_read_only(path):
    run_statements(path, "alter table roles add column color text not null default ''")
    with open_app(path) as app:
        assert create(app).created
    run_statements(
        path,
        "create table new_roles as select * from roles",
        "pragma foreign_keys = off",
        "drop table roles",
        "create table roles (id integer primary key, name text not null, description text, priority integer,"
        " created_at text, updated_at text, color text not null)",
        "insert into roles (id, name, description, color) select id, name, description, color from new_roles",
    )
    with open_app(path) as app:
        error = catch_error(
            SchemaMismatchError,
            lambda: changes.create_role(app, "other", description="", priority=None, permissions=[]).plan(),
        )
    assert "color" in str(error)


def test_plan_changes_nothing(path):
    before = read_all_rows(path)
    with open_app(path) as app:
        plan = changes.create_role(
            app, "editor", description="", priority=None, permissions=["games.*"]
        ).plan()
    assert plan.rows == {"roles": 1, "role_permissions": 3}
    assert read_all_rows(path) == before


# Apps with fewer features ----------------------------------------------------------------------------------------


def remove_profile_sections(path, *sections):
    """Remove sections from the profile of the app at ``path``, each up to the next header."""
    file = path.with_name("quick.toml")
    text = file.read_text(encoding="utf-8")
    for section in sections:
        begin = text.index(f"\n[{section}]")
        end = text.index("\n[", begin + 2)
        text = text[:begin] + text[end:]
    file.write_text(text, encoding="utf-8")


def test_roles_without_permissions_are_supported(path):
    remove_profile_sections(path, "roles.permissions")
    with open_app(path) as app:
        role = create(app).role
        assert (role.permissions, role.summary()["permissions"]) == (None, None)
        with pytest.raises(FeatureMissingError, match="no permissions"):
            changes.grant(app, "editor", ["games.read"]).plan()
        with pytest.raises(FeatureMissingError, match="no permissions"):
            queries.read_matrix(app)


def test_roles_without_a_profile_section_are_read_only(path):
    remove_profile_sections(
        path, "roles.permissions", "roles.built_in.permissions", "roles.built_in", "roles"
    )
    with open_app(path) as app:
        assert [(role.name, role.users) for role in queries.list_roles(app, PageRequest()).items] == [
            ("admin", 1),
            ("user", 2),
            ("guest", 0),
        ]
        error = catch_error(NotSupportedError, lambda: create(app))
    assert "changing roles" in str(error)
    assert error.hint.startswith("Roles are values of roles (admin, user, guest).")


def test_roles_that_no_user_has_are_listed_and_deleted(tmp_path):
    """An app whose users have no roles."""
    profile = """schema = "dbctl.profile/1"
name = "small"
title = "Small"
[databases.main]
engines = ["sqlite"]
[users]
table = "people"
id = { column = "id" }
login = ["username"]
admin = false
[users.fields]
username = "login"
[roles]
table = "ranks"
[roles.fields]
name = "name"
"""
    (tmp_path / "small.toml").write_text(profile)
    (tmp_path / "dbctl.toml").write_text('[apps.small]\nprofile = "./small.toml"\ndatabases = "small.db"\n')
    path = tmp_path / "small.db"
    run_statements(
        path,
        "create table ranks (id integer primary key, name text unique)",
        "create table people (id integer primary key, login text unique)",
        "insert into ranks values (1, 'cook'), (2, 'guest')",
        "insert into people values (1, 'ann')",
    )
    with open_app(path) as app:
        roles = queries.list_roles(app, PageRequest()).items
        assert [(role.name, role.users) for role in roles] == [("cook", 0), ("guest", 0)]
        with pytest.raises(FeatureMissingError, match="no permissions"):
            queries.list_permissions(app, PageRequest())
        changes.delete_role(app, "cook").apply()
    assert list_names(path) == ["guest"]
    run_statements(path, "insert into ranks values (3, 'Guest'), (4, 'waiter')")
    with open_app(path) as app:
        error = catch_error(AmbiguousNameError, lambda: changes.delete_role(app, "GUEST").plan())
        assert [queries.show_role(app, name).name for name in ("Guest", "GUEST")] == ["Guest", "guest"]
        changes.delete_role(app, "Guest").apply()  # the exact spelling
    assert "'GUEST' is the name of several rows of ranks" in str(error)
    assert list_names(path) == ["guest", "waiter"]


@pytest.fixture
def create_app_with_role_column(tmp_path):
    """Return a function that creates an app whose role is a column with the given type and values."""

    def create(kind, role_names, values, admin):
        profile = f"""schema = "dbctl.profile/1"
name = "small"
title = "Small"
[databases.main]
engines = ["sqlite"]
[users]
table = "people"
id = {{ column = "id" }}
login = ["username"]
admin = "{admin}"
role = {{ column = "rank", values = {json.dumps(role_names)} }}
[users.fields]
username = "login"
active = "active"
"""
        (tmp_path / "small.toml").write_text(profile)
        configuration = '[apps.small]\nprofile = "./small.toml"\n[apps.small.databases]\nmain = "small.db"\n'
        (tmp_path / "dbctl.toml").write_text(configuration)
        path = tmp_path / "small.db"
        people = ", ".join(f"({number}, 'user{number}', {value}, 1)" for number, value in enumerate(values))
        run_statements(
            path,
            f"create table people (id integer primary key, login text, rank {kind}, active boolean)",
            f"insert into people values {people}",
        )
        return path

    return create


@pytest.mark.parametrize("role_names", [[], ["true", "false"]])
def test_roles_of_a_boolean_column_are_true_and_false(create_app_with_role_column, role_names):
    path = create_app_with_role_column("boolean", role_names, [1, 0, 1, "null"], "true")
    with open_app(path) as app:
        assert {role.name: role.users for role in queries.list_roles(app, PageRequest()).items} == {
            "true": 2,
            "false": 1,
        }
        assert [user.role for user in list_users(app, UserFilter(), PageRequest()).items] == [
            "true",
            "false",
            "true",
            None,
        ]
        set_role(app, UserSelector(logins=["user1"]), "True").apply()
        set_role(app, UserSelector(logins=["user2"]), "false").apply()
        set_role(app, UserSelector(logins=["user1"]), "false").apply()
        catch_error(LastAdminError, lambda: set_role(app, UserSelector(logins=["user0"]), "false").apply())
    assert query_rows(path, "select rank, typeof(rank) from people where id < 3") == [
        (1, "integer"),
        (0, "integer"),
        (0, "integer"),
    ]


def test_roles_of_an_integer_column_are_numbers(create_app_with_role_column):
    path = create_app_with_role_column("integer", ["0", "9"], [9, 0, 9], "9")
    with open_app(path) as app:
        assert {role.built_in for role in queries.list_roles(app, PageRequest()).items} == {False}
        hint = catch_error(NotSupportedError, lambda: create(app)).hint
        assert hint.startswith("Roles are values of people.rank (0, 9).")
        assert {role.name: role.users for role in queries.list_roles(app, PageRequest()).items} == {
            "0": 1,
            "9": 2,
        }
        set_role(app, UserSelector(logins=["user2"]), "0").apply()
    assert query_rows(path, "select rank, typeof(rank) from people") == [
        (9, "integer"),
        (0, "integer"),
        (0, "integer"),
    ]
    run_statements(path, "update people set rank = 7 where id = 1")  # a value that the profile does not name
    with open_app(path) as app:
        roles = queries.list_roles(app, PageRequest()).items
    assert {role.name: role.users for role in roles} == {"0": 1, "9": 1, "7": 1}


# Built-in roles, with the option -----------------------------------------------------------------------------------


def test_permissions_of_a_built_in_role_change_only_with_the_option(path):
    with open_app(path) as app:
        error = catch_error(BuiltInRoleError, lambda: changes.grant(app, "guest", ["games.download"]).apply())
        assert "--built-in" in error.hint
        assert changes.grant(app, "guest", ["games.download"], built_in=True).apply().changed == [
            "games.download"
        ]
        error = catch_error(BuiltInRoleError, lambda: changes.revoke(app, "guest", ["games.read"]).apply())
        assert "--built-in" in error.hint
        assert changes.revoke(app, "guest", ["games.read"], built_in=True).apply().changed == ["games.read"]
    assert "games.download" in list_permissions(path, "guest")
    assert "games.read" not in list_permissions(path, "guest")


def test_option_does_not_weaken_the_role_of_admins(path):
    with open_app(path) as app:
        revoke = partial(changes.revoke, app, "admin", ["users.update"], built_in=True)
        error = catch_error(BuiltInRoleError, lambda: revoke().apply())
    assert "--built-in" not in error.hint
    assert "users.update" in list_permissions(path, "admin")
