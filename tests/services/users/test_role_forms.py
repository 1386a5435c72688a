"""Roles in every form: each command reads and writes them, and no path removes the last admin."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError
from dbctl.services.app.session import open_app
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users.update import set_role
from tests import servers
from tests.databases import empty_database, on_sqlite

PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
[users]
table = "people"
id = {{ column = "id" }}
login = ["login"]
admin = "{admin}"
[users.fields]
login = "login"
active = "active"
[users.role]
{role}
"""
RANKS = """
[[users.role.ranks]]
name = "root"
columns = { is_root = true, is_staff = true }
match = ["is_root"]
[[users.role.ranks]]
name = "staff"
columns = { is_root = false, is_staff = true }
[[users.role.ranks]]
name = "user"
columns = { is_root = false, is_staff = false }
"""
GROUPS = 'members = { table = "people_groups", user = "person_id", role = "group_id", roles = { table = "groups_of_people" }, where = { until = ":null" } }'
NAMES = 'members = { table = "people_names", user = "person_id", role = "name" }\nvalues = ["boss", "user", "guest"]'
METADATA = """
values = ["boss", "user", "guest"]
[users.role.metadata]
table = "people_meta"
user = "person_id"
key = "name"
value = "content"
name = "club_roles"
level_name = "club_level"
levels = { boss = 10, user = 0 }
"""
LABELS = "labels = { true = 'boss', false = 'user' }"
#: By form: the section, the admin role, the role of a user, a third role, the columns with the roles, and a change that removes
#: the admin role.
FORMS = {
    "boolean": (f"column = 'is_admin'\n{LABELS}", "boss", "user", "user", "is_admin", "is_admin=false"),
    "number": (
        "column = 'level'\nlabels = { 0 = 'user', 1 = 'boss', -1 = 'guest' }",  # the admin role is not the first
        "boss",
        "user",
        "guest",
        "level",
        "level=-1",
    ),
    "boolean as number": (f"column = 'level'\n{LABELS}", "boss", "user", "user", "level", "level=0"),
    "enum": (
        "column = 'kind'\nvalues = ['boss', 'user', 'guest']\ndefault = 'user'",
        "boss",
        "user",
        "guest",
        "kind",
        "kind=user",
    ),
    "labelled enum": (
        "column = 'kind'\nlabels = { boss = 'Boss', user = 'User' }",
        "Boss",
        "User",
        "User",
        "kind",
        "kind=user",
    ),
    "ranks": (RANKS, "root", "user", "staff", "is_root, is_staff", "is_root=false"),
}
DDL = [
    (
        "create table people (id {serial}, login varchar(50) not null unique, active {boolean} not null, is_admin {boolean},"
        " level smallint not null default 0, kind {kind}, is_root {boolean} not null default {false},"
        " is_staff {boolean} not null default {false})"
    ),
    "create table groups_of_people (id {serial}, name varchar(50) not null)",
    (
        "create table people_groups"
        " (id {serial}, person_id integer not null, group_id integer not null, until varchar(20),"
        " unique (person_id, group_id), foreign key (group_id) references groups_of_people (id) on delete cascade)"
    ),
    "create table people_names (person_id integer not null, name {bytes} not null, primary key (person_id, name))",
    "create table people_meta (id {serial}, person_id integer not null, name varchar(50), content varchar(500))",
    "create table topics (id {serial}, topic varchar(50))",
    "create table rights (id {serial}, topic_id integer, verb varchar(50), note varchar(50))",
    "create table group_rights (id {serial}, group_id integer, right_id integer)",
    "create table people_rights (id {serial}, person_id integer, right_id integer)",
    "insert into topics (topic) values ('post'), ('user')",
    "insert into rights (topic_id, verb, note) values (1, 'add', 'Add posts'), (1, 'edit', null), (2, 'add', null)",
    "insert into group_rights (group_id, right_id) values (2, 2), (1, 3)",
    "insert into people_rights (person_id, right_id) values (2, 1)",
    "insert into groups_of_people (name) values ('boss'), ('user'), ('guest')",
]
TYPES = {
    "sqlite": {
        "serial": "integer primary key",
        "boolean": "boolean",
        "kind": "text",
        "false": "0",
        "bytes": "text",
    },
    "postgresql": {
        "serial": "serial primary key",
        "boolean": "boolean",
        "kind": "person_kind",
        "false": "false",
        "bytes": "text",
    },
    "mysql": {
        "serial": "integer primary key auto_increment",
        "boolean": "boolean",
        "kind": "enum('boss', 'user', 'guest')",
        "false": "0",
        "bytes": "varbinary(50)",  # some apps store text in such columns
    },
}


class Club:
    """A database with the tables of all forms, and commands with the profile of one form."""

    def __init__(self, engine, database, folder, answer):
        self.engine, self.database, self.folder, self._answer = engine, database, folder, answer
        if engine == "postgresql":
            database.run("create type person_kind as enum ('boss', 'user', 'guest')")
        database.run(*(statement.format(**TYPES[engine]) for statement in DDL))

    def add(self, *logins, **columns):
        """Add users with SQL literals as values."""
        for login in logins:
            values = {"login": f"'{login}'", "active": "true", **columns}
            names = ", ".join(values)
            self.database.run(f"insert into people ({names}) values ({', '.join(values.values())})")

    def use(self, role, admin):
        """Write the configuration, with a section about roles."""
        profile, self.config = self.folder / "club.toml", self.folder / "dbctl.toml"
        text = PROFILE.format(role=role, admin=admin)
        profile.write_text(text if admin else text.replace('admin = ""', "admin = false"))
        url = self.database.path if self.engine == "sqlite" else self.database.url
        databases = f'[apps.club.databases]\nmain = "{url}"'
        self.config.write_text(f'[apps.club]\nprofile = "{profile}"\n{databases}\n')

    def run(self, *words, status=0):
        result = self._answer("--config", str(self.config), "--yes", *words, status=status)
        return result["error"] if status else result["data"]

    def check(self):
        """Return the findings of ``apps check``."""
        return self._answer("--config", str(self.config), "apps", "check", status=None)["data"]["findings"]

    def refuse(self, code, *words):
        """Assert that a command is refused and changes nothing."""
        before = self.database.content()
        error = self.run(*words, status=6)
        assert (error["code"], self.database.content()) == (code, before)
        if words[:2] != ("data", "add"):
            assert self.run(*words, "--dry-run", status=6)["code"] == code
        return error

    def roles(self):
        """Return the roles by login, as ``users list`` shows them."""
        users = self.run("users", "list")["items"]
        return {user["login"]: user["role"] if user["roles"] is None else user["roles"] for user in users}

    def stored(self, login, columns):
        return list(self.database.rows(f"select {columns} from people where login = '{login}'")[0])


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def club(request, tmp_path, answer):
    with empty_database(request.param, tmp_path / "club.db") as database:
        yield Club(request.param, database, tmp_path, answer)


@pytest.mark.parametrize(
    ("club", "form"),
    [
        *(("sqlite", form) for form in FORMS),
        # forms whose values another driver returns as other types
        *(("postgresql", form) for form in ("boolean", "enum", "ranks")),
        *(("mysql", form) for form in ("boolean", "number", "labelled enum")),
    ],
    indirect=["club"],
)
def test_role_in_columns_has_type_of_column(club, form, tmp_path):
    role, admin, user, third, columns, demotion = FORMS[form]
    club.use(role, admin)
    club.add("ada", is_admin="true", level="1", kind="'boss'", is_root="true", is_staff="true")
    club.add("bob", "cy", is_admin="false", kind="'user'")
    assert club.roles() == {"ada": admin, "bob": user, "cy": user}
    assert club.check() == []
    boss, base = club.stored("ada", columns), club.stored("bob", columns)

    club.refuse("last-admin", "users", "set-role", "ada", user)
    club.refuse("last-admin", "users", "deactivate", "ada")
    club.refuse("last-admin", "users", "delete", "ada")
    club.refuse("last-admin", "data", "set", "people", "1", demotion)
    club.refuse("last-admin", "data", "delete", "people", "1")

    club.run("users", "set-role", "bob", admin.upper())
    assert club.stored("bob", columns) == boss
    club.run("users", "set-role", "ada", third)
    club.refuse("last-admin", "users", "ensure", "bob", "--role", user)
    club.run("users", "set-role", "ada", user)
    assert club.stored("ada", columns) == base
    club.run("users", "create", "dan", "--role", third)
    club.run("users", "create", "eve", "--role", "wizard", status=5)
    club.run("users", "add-role", "cy", admin, status=2)
    assert club.roles() == {"ada": user, "bob": admin, "cy": user, "dan": third}
    assert {item["name"]: item["users"] for item in club.run("roles", "list")["items"]}[admin] == 1
    assert [item["login"] for item in club.run("users", "list", "--role", admin)["items"]] == ["bob"]

    rows = str(tmp_path / "people.jsonl")
    club.run("data", "export", "people", rows)
    club.database.run("delete from people")
    club.run("data", "import", "people", rows)
    assert club.roles() == {"ada": user, "bob": admin, "cy": user, "dan": third}

    exported = club.run("users", "export")
    club.run("users", "delete", "dan", "cy")
    (tmp_path / "users.json").write_text(json.dumps(exported))
    assert club.run("users", "import", str(tmp_path / "users.json"), "--existing", "skip")["added"] == 2
    assert club.roles() == {"ada": user, "bob": admin, "cy": user, "dan": third}


@pytest.mark.parametrize(
    ("role", "admin", "key"),
    [
        ('column = "is_admin"\nvalues = ["boss", "user"]', "boss", "role.values"),
        ('column = "is_admin"\nlabels = { yes = "boss", no = "user" }', "boss", "role.labels"),
        ('column = "is_admin"', "boss", "admin"),
        ('column = "level"\nlabels = { high = "boss", low = "user" }', "boss", "role.labels"),
        ('column = "level"\nlabels = { 10 = "boss", 20 = "user" }', "boss", "role"),
        ('column = "login"\nvalues = ["boss", "user"]', "boss", "role"),
        ('column = "login"', "boss", "admin"),
        (
            'ranks = [{ name = "boss", columns = { is_root = "yes" } }]',
            "boss",
            "role.ranks[0].columns.is_root",
        ),
        ('ranks = [{ name = "boss", columns = { level = 5 } }]', "boss", "role"),
    ],
)
def test_profile_that_contradicts_roles_cannot_write(club, role, admin, key):
    club.use(role, admin)
    club.add("ada", is_admin="true", level="1", kind="'boss'")
    club.add("bob", is_admin="false", kind="'user'")
    (finding,) = club.check()
    assert finding["code"] == "role-form"
    assert f", users.{key})" in finding["message"]
    club.refuse("role-form", "users", "set-role", "ada", "user")
    if club.engine != "sqlite":  # every change asks for the same findings
        return
    for words in (["deactivate", "ada"], ["delete", "ada"], ["create", "cy"]):
        club.refuse("role-form", "users", *words)
    club.refuse("role-form", "users", "set-role", "ada", "boss", "--demote-to", "user")
    club.refuse("role-form", "data", "delete", "people", "1")


@pytest.mark.slow
@pytest.mark.parametrize(("role", "table"), [(GROUPS, "people_groups"), (NAMES, "people_names")])
def test_users_have_several_roles_in_table_of_pairs(club, role, table, tmp_path):
    club.use(f"default = 'guest'\n{role}", "boss")
    club.add("ada", "bob")
    values = (
        "(person_id, group_id) values (1, 1), (1, 2)" if role is GROUPS else "values (1, 'boss'), (1, 'user')"
    )
    club.database.run(f"insert into {table} {values}")
    assert club.roles() == {"ada": ["boss", "user"], "bob": []}
    assert club.check() == []
    pair = ["1"] if role is GROUPS else ["--filter", "person_id=1"]

    club.refuse("last-admin", "users", "remove-role", "ada", "boss")
    club.refuse("last-admin", "users", "set-role", "ada", "user")
    club.refuse("last-admin", "users", "delete", "ada")
    club.refuse("last-admin", "data", "delete", table, *pair)
    if role is GROUPS:
        club.refuse("last-admin", "data", "set", table, "1", "group_id=3")
        club.refuse("last-admin", "data", "set", table, "1", "until=2020")
        club.refuse("last-admin", "data", "delete", "groups_of_people", "1")
        club.refuse("last-admin", "data", "set", "groups_of_people", "1", "name=other")

    plan = club.run("users", "add-role", "ada", "bob", "user", "--dry-run")["plan"]
    assert (plan["steps"], plan["rows"]) == (["add the role user to bob"], {table: 1})
    assert club.run("users", "remove-role", "ada", "user")["changed"] == 1
    assert club.run("users", "remove-role", "ada", "user")["changed"] == 0
    assert club.run("users", "add-role", "ada", "bob", "GUEST")["changed"] == 2
    club.run("users", "add-role", "bob", "boss")
    club.run("users", "set-role", "ada", "user")
    club.run("users", "create", "cy")
    club.add("dan")
    club.run("users", "add-role", "dan", "wizard", status=5)
    expected = {"ada": ["user"], "bob": ["boss", "guest"], "cy": ["guest"], "dan": []}
    assert club.roles() == expected
    assert {item["name"]: item["users"] for item in club.run("roles", "list")["items"]} == {
        "boss": 1,
        "user": 1,
        "guest": 2,
    }
    assert [item["login"] for item in club.run("users", "list", "--role", "guest")["items"]] == ["bob", "cy"]

    exported = club.run("users", "export")
    club.run("users", "delete", "cy", "ada", "dan")
    assert club.database.rows(f"select count(*) from {table}") == [(2,)]
    (tmp_path / "users.json").write_text(json.dumps(exported))
    assert club.run("users", "import", str(tmp_path / "users.json"), "--existing", "skip")["added"] == 3
    assert club.roles() == expected


def test_role_that_expires_does_not_keep_last_admin(club):
    club.use(GROUPS.replace("where =", "lasting ="), "boss")
    club.add("ada", "bob")
    club.database.run(
        "insert into people_groups (person_id, group_id, until) values (1, 1, null), (2, 1, '2020')"
    )
    assert club.roles() == {"ada": ["boss"], "bob": ["boss"]}
    club.refuse("last-admin", "users", "set-role", "ada", "user")
    club.refuse("last-admin", "data", "set", "people_groups", "1", "until=2020")
    assert club.run("users", "remove-role", "bob", "boss")["changed"] == 1


def test_users_have_rank_and_groups(club):
    club.use(
        f"{GROUPS}\ndefault = 'user'\n{RANKS.replace('user', 'plain', 0)}".replace(
            '"user"', '"plain"'
        ).replace("'user'", "'plain'"),
        "root",
    )
    club.add("ada", is_root="true", is_staff="true")
    club.add("bob")
    club.run("users", "add-role", "bob", "guest")
    club.run("users", "add-role", "ada", "boss")
    club.run("users", "set-role", "bob", "staff")
    club.run("users", "create", "cy", "--role", "guest")
    assert club.roles() == {"ada": ["root", "boss"], "bob": ["staff", "guest"], "cy": ["plain", "guest"]}
    club.run("users", "set-role", "bob", "boss")
    club.run("users", "remove-role", "bob", "staff", status=2)
    club.refuse("last-admin", "users", "set-role", "ada", "staff")
    assert club.roles()["bob"] == ["staff", "boss"]
    plan = club.run("users", "remove-role", "bob", "boss", "--dry-run")["plan"]
    assert plan["steps"] == ["remove the role boss from bob"]
    listed = club.run("users", "list", "--columns", "login,roles")["items"]
    assert listed[1]["roles"] == ["staff", "boss"]
    assert club.stored("bob", "is_root, is_staff") == [0, 1]
    assert club.check() == []


def test_roles_in_row_of_metadata_are_written_exactly(club):
    club.use(METADATA, "boss")
    club.add("ada", "bob", "cy", "dan")
    rows = [
        (1, "club_roles", 'a:2:{s:4:"boss";b:1;s:8:"läuft";b:0;}'.replace("s:8", "s:6")),
        (1, "club_level", "10"),
        (2, "club_roles", 'a:2:{s:5:"guest";b:1;s:4:"edit";b:1;}'),
        (2, "color", "red"),
        (3, "club_roles", 'a:1:{s:9:"boss";b:1;}'),
    ]
    values = ", ".join(f"({user}, '{name}', '{content}')" for user, name, content in rows)
    club.database.run(f"insert into people_meta (person_id, name, content) values {values}")
    assert club.roles() == {"ada": ["boss"], "bob": ["guest"], "cy": ["(unknown)"], "dan": []}
    assert club.check() == []

    club.refuse("role-stored", "users", "set-role", "cy", "user")
    club.refuse("last-admin", "users", "set-role", "ada", "user")
    club.refuse("last-admin", "users", "deactivate", "ada")
    club.refuse("last-admin", "users", "delete", "ada")
    club.refuse("last-admin", "data", "delete", "people_meta", "1")
    club.refuse("last-admin", "data", "set", "people_meta", "1", "content=a:0:{}")

    for role, rows in (([], {"people": 1}), (["--role", "user"], {"people": 1, "people_meta": 2})):
        plan = club.run("users", "create", "eve", *role, "--dry-run")["plan"]
        assert plan["rows"] == rows
    club.run("users", "add-role", "bob", "boss")
    plan = club.run("users", "add-role", "bob", "user", "--dry-run")["plan"]
    assert plan["rows"] == {"people_meta": 1}  # the number remains
    club.run("users", "set-role", "ada", "user")
    club.run("users", "set-role", "dan", "guest")
    club.run("users", "remove-role", "bob", "guest")
    query = "select person_id, name, content from people_meta order by person_id, name"
    assert [tuple(row) for row in club.database.rows(query)] == [
        (1, "club_level", "0"),
        (1, "club_roles", 'a:2:{s:6:"läuft";b:0;s:4:"user";b:1;}'),
        (2, "club_level", "10"),
        (2, "club_roles", 'a:2:{s:4:"edit";b:1;s:4:"boss";b:1;}'),
        (2, "color", "red"),
        (3, "club_roles", 'a:1:{s:9:"boss";b:1;}'),
        (4, "club_level", "0"),
        (4, "club_roles", 'a:1:{s:5:"guest";b:1;}'),
    ]
    plan = club.run("users", "deactivate", "cy", "--dry-run")["plan"]
    assert plan["rows"] == {"people": 1}
    club.run("users", "create", "fay")
    assert club.database.rows("select count(*) from people_meta where person_id = 5") == [(0,)]
    club.run("users", "delete", "fay")
    assert club.run("users", "create", "eve", "--role", "user")["user"]["roles"] == ["user"]
    club.run("users", "delete", "eve")
    assert club.database.rows("select count(*) from people_meta where person_id = 5") == [(0,)]


PERMISSIONS = """
[users.role.permissions]
root = ["*"]
staff = ["user.*"]
[roles]
table = "groups_of_people"
fields = { name = "name" }
[roles.permissions]
table = "rights"
parts = [{ column = "topic_id", table = "topics", name = "topic" }, { column = "verb" }]
description = "note"
link = { table = "group_rights", role = "group_id", permission = "right_id" }
user_link = { table = "people_rights", user = "person_id", permission = "right_id" }
"""


def test_permissions_come_from_ranks_groups_and_grants(club):
    ranks = RANKS.replace('"user"', '"plain"')
    club.use(f"{GROUPS}\n{ranks}\n{PERMISSIONS}", "root")
    club.add("ada", is_root="true", is_staff="true")
    club.add("bob", "cy")
    club.run("users", "add-role", "bob", "user")
    roles = {item["name"]: item["permissions"] for item in club.run("roles", "matrix")["items"]}
    assert roles == {
        "boss": ["user.add"],
        "user": ["post.edit"],
        "guest": [],
        "root": ["post.add", "post.edit", "user.add"],
        "staff": ["user.add"],
        "plain": [],
    }
    allowed = {
        (login, name): club.run("roles", "can", login, name, status=None)["allowed"]
        for login in ("ada", "bob", "cy")
        for name in ("post.add", "post.edit", "user.add")
    }
    assert [pair for pair, is_allowed in allowed.items() if is_allowed] == [
        *(("ada", name) for name in ("post.add", "post.edit", "user.add")),
        *(("bob", name) for name in ("post.add", "post.edit")),
    ]
    assert club.run("users", "show", "bob")["permissions"] == ["post.add", "post.edit"]
    grants = {
        login: [
            text
            for text in club.run("roles", "can", login, "post.add", "--explain")["reasons"]
            if "without" in text
        ]
        for login in ("ada", "bob")
    }
    assert grants == {"ada": [], "bob": ["bob has post.add without a role"]}
    club.run("roles", "grant", "guest", "post.*")
    assert club.run("roles", "show", "guest")["permissions"] == ["post.add", "post.edit"]
    club.run("roles", "grant", "staff", "post.add", status=2)
    club.run("roles", "create", "crew", "--permission", "user.add")
    club.run("users", "set-role", "cy", "crew")
    club.refuse("role-in-use", "roles", "delete", "crew")
    (first, *_) = club.run("roles", "permissions")["items"]
    assert (first["name"], first["description"], first["roles"]) == (
        "post.add",
        "Add posts",
        ["guest", "root"],
    )
    assert club.check() == []


@on_sqlite("club")
def test_fixed_permissions_are_read_only(club):
    matrix = "permissions = { boss = ['*'], user = ['post.add', 'user.*', 'user.add'] }"
    club.use(f"column = 'is_admin'\n{LABELS}\n{matrix}", "boss")
    club.add("ada", is_admin="true")
    club.add("bob", is_admin="false")
    assert [item["permissions"] for item in club.run("roles", "list")["items"]] == [
        ["post.add", "user.add"]
    ] * 2
    assert club.run("users", "show", "bob")["permissions"] == ["post.add", "user.add"]
    assert club.run("roles", "can", "bob", "user.add")["allowed"]
    permissions = club.run("roles", "permissions")["items"]
    assert [(item["name"], item["description"], item["roles"]) for item in permissions] == [
        (name, None, ["boss", "user"]) for name in ("post.add", "user.add")
    ]
    club.run("roles", "grant", "boss", "post.add", status=2)
    club.run("roles", "can", "bob", "post.drop", status=5)


@pytest.mark.parametrize(
    ("role", "line", "key"),
    [
        ("default = 'x'", 14, "role"),
        (
            "column = 'kind'\nmetadata = { table = 't', user = 'u', key = 'k', value = 'v', name = 'n' }",
            16,
            "role.metadata",
        ),
        (f"column = 'kind'\n{GROUPS}", 16, "role.members"),
        ("column = 'kind'\ntable = 'groups_of_people'\nlabels = { 1 = 'boss' }", 17, "role.labels"),
        ("column = 'kind'\nlabels = { 1 = 'boss', 2 = 'boss' }", 16, "role.labels"),
        ("column = 'kind'\nlabels = { 1 = 'boss' }\nvalues = ['boss']", 17, "role.values"),
        ("column = 'kind'\nlabels = { 1 = 'chief' }", 10, "admin"),
        ("column = 'kind'\nvalues = ['boss']\npermissions = { bos = [] }", 17, "role.permissions.bos"),
        (
            "ranks = [{ name = 'boss', columns = { a = 1 } }, { name = 'user', columns = { b = 1 } }]",
            15,
            "role.ranks[1].columns",
        ),
        ("ranks = [{ name = 'boss', columns = { a = 1 }, match = ['b'] }]", 15, "role.ranks[0].match"),
        (METADATA.replace("values", "#"), 17, "role.metadata"),
        (METADATA.replace("user = 0", "usr = 0"), 24, "role.metadata.levels.usr"),
    ],
)
def test_contradicting_keys_are_reported_with_position(tmp_path, answer, role, line, key):
    path = tmp_path / "club.toml"
    path.write_text(PROFILE.format(role=role, admin="boss"))
    findings = answer("apps", "check", str(path), status=None)["data"]["findings"]
    assert f"line {line}, users.{key}" in [finding["message"].partition(":")[0] for finding in findings]


@pytest.mark.parametrize(
    ("club", "form"),
    [
        *(("sqlite", form) for form in ("enum", "ranks", GROUPS, METADATA)),
        *(("postgresql", form) for form in ("enum", GROUPS)),
        *(("mysql", form) for form in ("ranks", METADATA)),
    ],
    indirect=["club"],
)
def test_exclusive_role_has_one_holder(club, form, tmp_path):
    section, boss, user, other = form, "boss", "user", "guest"
    if form in FORMS:
        section, boss, user, other, *_ = FORMS[form]
    role, tables = section.partition("[")[::2] if form in ("ranks", METADATA) else (section, "")
    bracket = "[" if tables else ""
    club.use(f"exclusive = '{boss}'\n{role}{bracket}{tables}", boss)
    club.add("ada", "bob", "cy", is_admin="false", kind="'user'", is_staff="false")
    club.run("users", "set-role", "ada", boss)  # no user had the role
    holder = club.roles()["ada"]
    club.run("users", "set-role", "cy", other)
    club.run("users", "set-role", "cy", user)

    for words in (
        ["set-role", "bob", boss],
        ["set-role", "ada", user],
        ["set-role", "bob", "cy", boss],
        ["delete", "ada"],
        ["create", "dan", "--role", boss],
    ):
        assert "ada" in club.refuse("role-exclusive", "users", *words)["message"]
        club.refuse("role-exclusive", "users", *words, "--dry-run")
    if form in (GROUPS, METADATA):
        club.refuse("role-exclusive", "users", "add-role", "bob", boss)
        club.refuse("role-exclusive", "users", "remove-role", "ada", boss)
        club.run("users", "add-role", "ada", other)  # and remains the holder
        club.run("users", "remove-role", "ada", other)
    (tmp_path / "users.json").write_text(json.dumps([{"login": "eve", "role": boss}]))
    club.refuse("role-exclusive", "users", "import", str(tmp_path / "users.json"))
    for roles in ("boss", '{"boss": 1}', "[1]", '["boss", 1]'):
        (tmp_path / "users.json").write_text(json.dumps([{"login": "eve", "roles": roles}]))
        error = club.run("users", "import", str(tmp_path / "users.json"), status=2)
        assert "not a list of names" in error["message"]

    club.run("users", "set-role", "bob", other, "--demote-to", user, status=2)  # which is not exclusive
    club.run("users", "set-role", "bob", user, "--demote-to", user, status=2)
    club.run("users", "set-role", "bob", boss, "--demote-to", boss, status=2)
    club.run("users", "set-role", "bob", "cy", boss, "--demote-to", user, status=2)
    club.run("users", "deactivate", "cy")
    club.refuse("last-admin", "users", "set-role", "cy", boss, "--demote-to", user)
    transfer = ("users", "set-role", "bob", boss, "--demote-to", user)
    plan = club.run(*transfer, "--dry-run")["plan"]
    assert plan["title"] == f"Give bob the role {boss}, and ada the role {user}"
    assert club.run(*transfer)["changed"] == 2
    demoted = [user] if isinstance(holder, list) else user
    assert (club.roles()["ada"], club.roles()["bob"]) == (demoted, holder)
    assert club.run(*transfer)["changed"] == 0


@on_sqlite("club")
def test_several_holders_of_exclusive_role_are_reported_and_reduced(club):
    club.use(f"exclusive = 'boss'\n{GROUPS}", "boss")
    club.add("ada", "bob", "cy")

    def list_problems():
        result = [
            club._answer("--config", str(club.config), *words, status=None)
            for words in (["integrity", "check"], ["doctor"])
        ]
        return [
            sum(item["code"] == "role-exclusive" for item in answer["data"]["findings"]) for answer in result
        ]

    assert list_problems() == [1, 1]  # no user has the role
    club.database.run("insert into people_groups (person_id, group_id) values (1, 1), (2, 1), (3, 1)")
    assert list_problems() == [1, 1]
    club.run("users", "set-role", "cy", "user")  # the holders become fewer
    assert list_problems() == [1, 1]
    club.run("data", "set", "people_groups", "2", "group_id=3")
    assert list_problems() == [0, 0]
    club.refuse("role-exclusive", "data", "set", "people_groups", "2", "group_id=1")
    club.refuse("role-exclusive", "data", "add", "people_groups", "person_id=2", "group_id=1")
    club.refuse("role-exclusive", "data", "set", "groups_of_people", "1", "name=other")
    club.refuse("role-exclusive", "data", "delete", "groups_of_people", "1")
    club.use(
        f"exclusive = 'boss'\n{GROUPS}\n[roles]\ntable = 'groups_of_people'\nfields = {{ name = 'name' }}", ""
    )
    club.refuse("role-built-in", "roles", "update", "boss", "--name", "other")


@on_sqlite("club")
def test_holders_of_exclusive_role_are_reduced_one_by_one(club):
    club.use(f"exclusive = 'boss'\n{GROUPS}", "boss")
    club.add("ada", "bob", "cy", "dan")
    club.database.run("insert into people_groups (person_id, group_id) values (1, 1), (2, 1), (3, 1)")
    club.refuse("role-exclusive", "data", "add", "people_groups", "person_id=4", "group_id=1")
    club.run("data", "set", "people_groups", "3", "group_id=3")
    club.refuse("role-exclusive", "data", "set", "people_groups", "1", "person_id=4")
    assert [login for login, roles in club.roles().items() if "boss" in roles] == ["ada", "bob"]


@on_sqlite("club")
def test_transfer_of_exclusive_role_retains_an_admin(club):
    club.use(f"exclusive = 'guest'\n{GROUPS}", "boss")
    club.add("ada", "bob")
    club.database.run("insert into people_groups (person_id, group_id) values (1, 1), (1, 3)")
    club.refuse("last-admin", "users", "set-role", "bob", "guest", "--demote-to", "user")
    club.run("users", "set-role", "bob", "guest", "--demote-to", "boss")
    assert club.roles() == {"ada": ["boss"], "bob": ["guest"]}
    club.refuse("last-admin", "users", "set-role", "ada", "guest", "--demote-to", "user")


@on_sqlite("club")
def test_exclusive_role_that_does_not_exist_is_reported(club):
    club.use(f"exclusive = 'king'\n{GROUPS}", "boss")
    club.add("ada")
    (finding,) = club.check()
    assert finding["code"] == "role-form"
    assert "users.role.exclusive" in finding["message"]


@pytest.mark.parametrize("form", ["enum", "ranks", GROUPS, METADATA])
def test_roles_list_counts_only_users(club, form):
    section, boss = (FORMS[form][0], FORMS[form][1]) if form in FORMS else (form, "boss")
    club.use(section, "")
    club.add("ada", "bot", is_admin="false", kind="'user'")
    club.run("users", "set-role", "ada", "bot", boss)
    if form == GROUPS:
        club.database.run("insert into people_groups (person_id, group_id) values (99, 1)")  # no person
    if form == METADATA:
        club.database.run(
            "insert into people_meta (person_id, name, content)"
            " select 99, name, content from people_meta where person_id = 1 and name = 'club_roles'"
        )
    club.use(f"{section}\n[users.excluded]\nlogin = 'bot'", "")
    assert {item["name"]: item["users"] for item in club.run("roles", "list")["items"]}[boss] == 1


def test_role_of_other_rows_than_users_is_not_deleted(club):
    club.use(f"{GROUPS}\n[roles]\ntable = 'groups_of_people'\nfields = {{ name = 'name' }}", "boss")
    club.add("ada")
    club.database.run("insert into people_groups (person_id, group_id) values (99, 3)")
    assert {item["name"]: item["users"] for item in club.run("roles", "list")["items"]}["guest"] == 0
    club.refuse("role-in-use", "roles", "delete", "guest")


only_sqlite = pytest.mark.parametrize("club", ["sqlite"], indirect=True)


@only_sqlite
def test_roles_of_a_file_may_precede_the_login(club, tmp_path):
    club.use(GROUPS, "boss")
    (tmp_path / "users.json").write_text(json.dumps([{"roles": ["user", "guest"], "login": "eve"}]))
    assert club.run("users", "import", str(tmp_path / "users.json"))["added"] == 1
    assert club.roles() == {"eve": ["user", "guest"]}


@only_sqlite
def test_app_without_an_admin_may_deactivate_users_whose_roles_its_profile_contradicts(club):
    club.use('column = "is_admin"\nvalues = ["boss", "user"]', "")
    club.add("ada", is_admin="true")
    assert [finding["code"] for finding in club.check()] == ["role-form"]
    assert club.run("users", "deactivate", "ada")["changed"] == 1


@only_sqlite
def test_app_without_passwords_refuses_a_hash(club, tmp_path):
    club.use("column = 'kind'\nvalues = ['boss', 'user']\ndefault = 'user'", "boss")
    (tmp_path / "users.json").write_text(json.dumps([{"login": "eve", "password_hash": "$2b$10$x"}]))
    error = club.run("users", "import", str(tmp_path / "users.json"), status=2)
    assert (error["code"], "the app stores none" in error["message"]) == ("import-invalid", True)


@only_sqlite
def test_five_holders_of_the_exclusive_role_are_named(club):
    club.use(f"exclusive = 'boss'\n{GROUPS}", "boss")
    for number in range(1, 7):
        club.add(f"u{number}")
        club.database.run(f"insert into people_groups (person_id, group_id) values ({number}, 1)")
        if number > 1:
            findings = club._answer("--config", str(club.config), "integrity", "check", status=None)["data"][
                "findings"
            ]
            (message,) = [item["message"] for item in findings if item["code"] == "role-exclusive"]
            names = ", ".join(f"u{holder}" for holder in range(1, min(number, 5) + 1))
            assert f"{number} users have the role boss" in message
            assert message.endswith(f": {names}" + (" …" if number > 5 else ""))


@only_sqlite
def test_trigger_of_an_unrelated_table_removes_no_admin_and_no_holder(club):
    club.database.run(
        "create trigger removal after insert on topics begin delete from people_groups where group_id = 1; end"
    )
    for exclusive, admin, code in (
        ("", "boss", "last-admin"),
        ("exclusive = 'boss'\n", "", "role-exclusive"),
    ):
        club.use(exclusive + GROUPS, admin)
        if admin:
            club.add("ada")
            club.database.run("insert into people_groups (person_id, group_id) values (1, 1)")
        club.refuse(code, "data", "add", "topics", "topic=x")


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
@pytest.mark.parametrize("form", ["enum", GROUPS])
@pytest.mark.parametrize(
    ("exclusive", "admin", "code"),
    [("", "boss", "last-admin"), ("exclusive = 'boss'\n", "", "role-exclusive")],
)
def test_role_that_the_app_removes_concurrently_is_not_counted(club, form, exclusive, admin, code):
    """The app has changed the role of the other user, and commits while the command waits for that row."""
    club.use(exclusive + (FORMS["enum"][0] if form == "enum" else GROUPS), admin)
    club.add("ada", "bob", is_admin="false", kind="'boss'")
    club.database.run("insert into people_groups (person_id, group_id) values (1, 1), (2, 1)")
    codes = []

    def demote():
        selection = Selection(config=str(club.config), app="club")
        with open_app(selection, timeout=20) as app:
            try:
                set_role(app, UserSelector(logins=["ada"]), "user").apply()
                codes.append("done")
            except DbctlError as error:
                codes.append(error.code)

    thread = threading.Thread(target=demote)
    with (
        closing(servers.connection(club.database.own)) as app,
        closing(servers.connection(club.database.own)) as observer,
    ):
        app.execute("begin")
        app.execute("update people set kind = 'user' where login = 'bob'")
        app.execute("delete from people_groups where person_id = 2")
        pid = app.info.backend_pid
        thread.start()
        waiting = "select 1 from pg_stat_activity where %s = any(pg_blocking_pids(pid))"
        while thread.is_alive() and not observer.execute(waiting, [pid]).fetchall():
            time.sleep(0.01)
        app.execute("commit")
    thread.join()
    assert codes == [code]
