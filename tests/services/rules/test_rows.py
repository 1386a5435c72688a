"""Each write path rejects rows that break a rule, on every engine, and changes no row.

The rules are the subclasses and functions of ``RowRule``, the last active admin, and columns that are true in one row (``SingleTrueUpdate``);
the paths are the commands that declare ``Write``. A new rule or path without a case fails ``test_every_rule_and_every_path_has_a_case``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from dbctl.engines.contract.monitoring import MaintenanceKind
from dbctl.services.rules.columns import RowRule
from dbctl.services.rules.roles import BuiltInRole
from dbctl.services.rules.rows import is_equal_stored
from tests.databases import ComparedDatabase, empty_database
from tests.examples import is_installed
from tests.services.app.test_write_paths import WRITES
from tests.shapes.flashpoint_web import PASSWORD_HASH

HASH = PASSWORD_HASH
RULE = '{"type": "integer", "minimum": 1, "maximum": 9}'
PROFILE = """
schema = "dbctl.profile/1"
name = "guild"
title = "Guild"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["members", "jobs"]
[users]
table = "members"
id = {{ column = "id" }}
login = ["login"]
admin = "chief"
password = {{ column = "secret", writes = "$2b$04$" }}
fields = {{ login = "login", email = "email", active = "active" }}
rules = {{ login = {{ length = [3, 20] }}, email = {{ format = "email" }}, password = {{ length = [6, 72], bytes = 72 }} }}
[[users.signed_in]]
table = "tokens"
user = "member"
on_end = {{ ended_at = ":now" }}
expires_at = "ends_at"
{users}
{settings}
[[states]]
table = "jobs"
column = "state"
transitions = {{ open = ["done"], done = [] }}
[[values]]
table = "jobs"
column = "ack"
allowed = [-1, 0, 1]
[[exclusive]]
table = "jobs"
column = "shown"
"""
#: Roles in a table, settings in the rows of a table.
TABLES = PROFILE.format(
    users="""
[users.role]
column = "rank"
table = "ranks"
key = "id"
name = "name"
default = "member"
[roles]
table = "ranks"
key = "id"
fields = { name = "name" }
rules = { name = { length = [3, 20] } }
[roles.built_in]
ids = [1, 2]
[roles.built_in.permissions]
1 = ["*"]
2 = ["see"]
[roles.permissions]
table = "rights"
name = "name"
link = { table = "rank_rights", role = "rank_id", permission = "right_id" }
""",
    settings="""
[[settings]]
scope = "system"
table = "knobs"
fields = { value = "value", schema = "rule" }
[[settings.variant]]
key = "name"
type = "kind"
types = { whole = "integer", text = "string" }
[settings.variant.standard]
tries = { value = 5, type = "whole", schema = '{"type": "integer", "minimum": 1, "maximum": 9}', description = "Tries" }
[settings.keys]
when = { format = "cron" }
[[settings]]
scope = "user"
table = "wishes"
user = "member"
key = "name"
fields = { value = "value" }
[settings.keys]
theme = { values = ["light", "dark"] }
""",
)
#: Roles in a text column of users, settings in the columns of one row, and user settings in a JSON object.
COLUMNS = PROFILE.format(
    users="""
[users.role]
column = "word"
values = ["chief", "member"]
default = "member"
""",
    settings="""
[[settings]]
scope = "system"
table = "switches"
fields = {}
[settings.row]
key = "id"
value = 1
types = { door = "boolean" }
[[settings]]
scope = "user"
table = "members"
user = "id"
fields = { value = "tastes" }
object = true
""",
)
SCHEMA = """
create table ranks (id {serial}, name varchar(50) not null);
create table rights (id {serial}, name varchar(50) not null);
create table rank_rights (id {serial}, rank_id integer not null, right_id integer not null);
create table members (id {serial}, login varchar(50) not null, email varchar(100), secret varchar(100) not null,
    active integer not null default 1, "rank" integer not null default 3, word varchar(20) not null default 'member',
    tastes text);
create table tokens (id {serial}, member integer not null, token varchar(50) not null, ended_at varchar(40),
    ends_at varchar(40) not null);
create table knobs (id {serial}, name varchar(50) not null, value varchar(200), kind varchar(20) not null default 'text',
    rule varchar(200));
create table wishes (id {serial}, member integer not null, name varchar(50) not null, value varchar(50));
create table switches (id integer primary key, door varchar(10) not null);
create table jobs (id {serial}, state varchar(20) not null default 'open', ack integer, shown integer not null default 0);
insert into ranks (id, name) values (1, 'chief'), (2, 'guest'), (3, 'member');
insert into rights (id, name) values (1, 'see'), (2, 'touch');
insert into rank_rights (id, rank_id, right_id) values (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 3, 1);
insert into members (id, login, email, secret, "rank", word, tastes) values
    (1, 'root', 'root@example.org', '{hash}', 1, 'chief', '{{}}'), (2, 'ann', 'ann@example.org', '{hash}', 3, 'member', '{{}}');
insert into tokens (id, member, token, ended_at, ends_at) values (1, 2, 'a', '2026-01-01', '2099-01-01');
insert into knobs (id, name, value, kind, rule) values (1, 'tries', '5', 'whole', '{rule}'), (2, 'when', '0 3 * * *', 'text', null);
insert into wishes (id, member, name, value) values (1, 2, 'theme', 'dark');
insert into switches (id, door) values (1, '1');
insert into jobs (id, state, ack, shown) values (1, 'open', 0, 1), (2, 'done', 1, 0);
"""
SERIAL = {
    "sqlite": "integer primary key",
    "postgresql": "integer generated by default as identity primary key",
    "mysql": "integer primary key auto_increment",
}
#: Expected error codes, by the first two words of a command of ``GENERIC``.
CODES = {
    "data import": {"constraint", "import-invalid", "role-exclusive"},
    "data add": {"use-dedicated-command", "role-built-in", "value-invalid"},
    "data set": {
        "role-exclusive",
        "last-admin",
        "transition-refused",
        "use-dedicated-command",
        "role-built-in",
        "value-invalid",
        "role-missing",
    },
    "data replace": {
        "last-admin",
        "role-built-in",
        "role-exclusive",
        "role-missing",
        "transition-refused",
        "use-dedicated-command",
        "value-invalid",
    },
    "data delete": {"last-admin", "role-exclusive", "use-dedicated-command", "role-built-in"},
    "restore apply": {"constraint", "last-admin", "role-exclusive", "table-not-restored"},
}
#: Expected error codes of other commands.
REFUSALS = {
    "already-exists", "constraint", "import-invalid", "last-admin", "transition-refused", "use-dedicated-command", "role-built-in",
    "role-exclusive", "role-missing", "setting-missing", "table-not-restored", "usage", "value-invalid",
}  # fmt: skip


class Case(NamedTuple):
    """Rows and commands that break a rule."""

    table: str
    added: Mapping[str, object] = {}  #: a complete row with an unused key
    key: int = 1  #: the key of the row to change
    changed: Mapping[str, object] = {}
    removed: int = 0  #: the key of a row that must not be deleted
    #: dedicated commands that break the rule, by path
    commands: Mapping[str, Sequence[str]] = {}
    profile: str = TABLES
    unchanged_on_replace: bool = False  #: a restore does not change the column of an existing row


MEMBER = {"id": 9, "login": "bob", "email": "bob@example.org", "secret": HASH, "rank": 3}
CASES: Mapping[str, Case] = {
    "PasswordHash": Case(
        "members",
        MEMBER | {"secret": "plain words"},
        2,
        {"secret": "plain words"},
        commands={
            "users import": ["users import hashes.json"],
            "users create": ["users create bob --email b@example.org --password-file short.txt"],
            "users ensure": ["users ensure bob --email b@example.org --password-file short.txt"],
            "users set-password": ["users set-password ann --password-file short.txt"],
        },
        unchanged_on_replace=True,
    ),
    "UserText": Case(
        "members",
        MEMBER | {"login": "xy"},
        2,
        {"email": "nowhere"},
        commands={
            "users import": ["users import names.json"],
            "users create": ["users create xy --password-file long.txt"],
            "users ensure": ["users ensure ann --email nowhere"],
            "users update": ["users update ann --email nowhere"],
        },
    ),
    "UserRole": Case(
        "members",
        {**MEMBER, "word": "king"},
        2,
        {"word": "king"},
        commands={
            "users create": ["users create bob --role king --password-file long.txt"],
            "users ensure": ["users ensure ann --role king"],
            "users set-role": ["users set-role ann king"],
            "users import": ["users import roles.json"],
        },
        profile=COLUMNS,
    ),
    "JSON object": Case("members", {**MEMBER, "tastes": "[1]"}, 2, {"tastes": "[1]"}, profile=COLUMNS),
    "listed value": Case("jobs", {"id": 9, "state": "open", "ack": 99}, 1, {"ack": 99}),
    "StateTransition": Case("jobs", {"id": 9, "state": "nonsense"}, 1, {"state": "nonsense"}),
    "OpenSession": Case(
        "tokens", {"id": 9, "member": 2, "token": "b", "ends_at": "2099-01-01"}, 1, {"ended_at": None}
    ),
    "SystemSetting": Case(
        "knobs",
        {"id": 9, "name": "tries", "value": "0", "kind": "whole", "rule": None},
        1,
        {"value": "banana"},
        commands={
            "settings set": ["settings set tries 0", "settings set when notacron", "settings set tires 3"],
            "settings apply": ["settings apply zero.json", "settings apply typo.json"],
            "settings reset": ["settings reset when"],
            "settings update": ["settings update tries --schema nonsense"],
        },
    ),
    "UserSetting": Case(
        "wishes",
        {"id": 9, "member": 1, "name": "theme", "value": "purple"},
        1,
        {"value": "purple"},
        commands={
            "settings set": ["settings set theme purple --user ann"],
            "settings apply": ["settings apply purple.json --user ann"],
        },
    ),
    "SettingColumns": Case(
        "switches",
        {"id": 2, "door": "1"},
        1,
        {"door": "ajar"},
        commands={
            "settings set": ["settings set door ajar"],
            "settings apply": ["settings apply ajar.json", "settings apply typo.json --new-keys"],
        },
        profile=COLUMNS,
    ),
    "BuiltInRole": Case(
        "ranks",
        {"id": 9, "name": "x"},
        2,
        {"name": "visitor"},
        1,
        commands={
            "roles create": ["roles create x", "roles create CHIEF"],
            "roles update": ["roles update guest --name visitor"],
            "roles delete": ["roles delete guest --yes"],
        },
    ),
    "Permission": Case("rights", {}, 1, {"name": "look"}, 1),
    "PermissionOfRole": Case(
        "rank_rights",
        {"id": 9, "rank_id": 2, "right_id": 2},
        1,
        {"rank_id": 3},
        1,
        commands={"roles grant": ["roles grant guest touch"], "roles revoke": ["roles revoke chief see"]},
    ),
    "last admin": Case(
        "members",
        {},
        1,
        {"active": 0},
        1,
        commands={
            "users deactivate": ["users deactivate root"],
            "users set-role": ["users set-role root member"],
            "users delete": ["users delete root --yes"],
            "users update": ["users update root --set active=no"],
        },
    ),
    "exclusive": Case("jobs", {"id": 9, "state": "open", "shown": 1}),
    "exclusive role": Case(
        "members",
        {**MEMBER, "word": "chief"},
        2,
        {"word": "chief"},
        1,
        commands={
            "users create": ["users create bob --role chief --password-file long.txt"],
            "users ensure": ["users ensure ann --role chief"],
            "users set-role": [
                "users set-role ann chief",
                "users set-role root member",
                "users set-role ann member --demote-to member",
            ],
            "users update": ["users update ann --set role=chief"],
            "users import": ["users import chiefs.json"],
        },
        profile=COLUMNS.replace('default = "member"', 'default = "member"\nexclusive = "chief"'),
    ),
}
#: Commands that change only users, roles or settings; each has a line in ``CASES`` for the rules that it can break.
#: ``users activate`` can break none; ``tests/services/users/test_role_forms.py`` has the commands for several roles.
DEDICATED = {path for path in WRITES if path.split()[0] in ("users", "roles", "settings")}
GENERIC = {"data import", "data add", "data set", "data delete", "restore apply --table"}
if is_installed("data replace"):
    GENERIC.add("data replace")
#: Rules for which a restore is tested on servers, where a backup and a restore take seconds: a rule for one column, for
#: several columns, for another table, and for several rows. Rules do not depend on the engine.
RESTORED_ON_SERVERS = {"PasswordHash", "SystemSetting", "PermissionOfRole", "exclusive"}
FILES = {
    "short.txt": "abc\n",
    "long.txt": "long enough\n",
    "hashes.json": json.dumps([{"login": "bob", "password_hash": "plain words"}]),
    "names.json": json.dumps([{"login": "xy", "password_hash": HASH}]),
    "chiefs.json": json.dumps([{"login": "bob", "role": "chief", "password_hash": HASH}]),
    "roles.json": json.dumps([{"login": "bob", "role": "king", "password_hash": HASH}]),
    "zero.json": '{"tries": 0}',
    "typo.json": '{"tires": 3}',
    "purple.json": '{"theme": "purple"}',
    "ajar.json": '{"door": "ajar"}',
}


def list_leaf_classes(kind: type[RowRule]) -> Iterator[type[RowRule]]:
    """Yield the classes without subclasses."""
    subclasses = kind.__subclasses__()
    if not subclasses:
        yield kind
    for subclass in subclasses:
        yield from list_leaf_classes(subclass)


def test_every_rule_and_every_path_has_a_case():
    rules = {rule.__name__ for rule in list_leaf_classes(RowRule)}
    assert BuiltInRole.__name__ in rules
    assert set(CASES) - {"last admin", "exclusive", "exclusive role", "JSON object", "listed value"} == rules
    kinds = {*get_args(MaintenanceKind)} - {"rollback-journal"}  # maintain wal --off
    assert {f"maintain {kind}" for kind in kinds} <= set(WRITES)
    input_paths = {path for path, write in WRITES.items() if write.source == "input"}
    assert input_paths == DEDICATED & input_paths | GENERIC
    covered = {path for case in CASES.values() for path in case.commands}
    assert DEDICATED & input_paths - covered == {"users activate", "users add-role", "users remove-role"}


@pytest.mark.parametrize(
    ("valid", "invalid", "position"),
    [('value = 5, type = "whole"', 'value = 5, type = "int"', "tries"), ('2 = ["see"]', '7 = ["see"]', "7")],
)
def test_contradicting_profile_is_reported_with_position(answer, guild, valid, invalid, position):
    assert valid in TABLES
    guild("sqlite", TABLES.replace(valid, invalid))
    result = answer("apps", "check", status=2)
    assert f".{position}" in json.dumps(result)


@pytest.fixture
def guild(tmp_path, monkeypatch):
    """Return a function that creates the app on an engine, with a profile, in the working directory."""
    from contextlib import ExitStack

    with ExitStack() as databases:

        def create(engine: str, profile: str) -> ComparedDatabase:
            db = databases.enter_context(empty_database(engine, tmp_path / "guild.db"))
            script = SCHEMA.format(serial=SERIAL[engine], hash=HASH, rule=RULE)
            db.run(*(part for part in script.split(";\n") if part.strip()))
            (tmp_path / "guild.toml").write_text(profile)
            (tmp_path / "dbctl.toml").write_text(
                f'[apps.guild]\nprofile = "guild.toml"\n[apps.guild.databases]\nmain = "{db.url}"\n'
                '[apps.guild.backup]\nrepository = "backups"\n'
            )
            for name, text in FILES.items():
                (tmp_path / name).write_text(text)
            monkeypatch.chdir(tmp_path)
            return db

        yield create


def assert_refused(answer, db: ComparedDatabase, *words: str, plan: bool = True) -> None:
    """Assert that a command and its dry run are refused and change no row."""
    before = db.content()
    for option in ([], ["--dry-run"]) if plan and "--yes" not in words else ([],):
        result = answer(*words, *option, status=None)
        assert result["exit_code"] != 0, words
        assert result["error"]["code"] in CODES.get(" ".join(words[:2]), REFUSALS), result
        assert "plain words" not in json.dumps(result)
    assert db.content() == before, words


def format_assignments(values: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if value is not None] + [
        word for name, value in values.items() if value is None for word in ("--null", name)
    ]


def format_literal(value: object) -> str:
    return "null" if value is None else f"'{value}'"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("rule", CASES)
def test_every_write_path_rejects_rows_that_break_a_rule(answer, guild, engine, rule):
    case = CASES[rule]
    db = guild(engine, case.profile)
    for lines in case.commands.values():
        # on servers one line of each path, without the plan: rules do not depend on the engine, their queries do
        for line in lines if engine == "sqlite" else lines[:1]:
            assert_refused(answer, db, *line.split(), plan=engine == "sqlite")
    if case.added:
        Path("row.jsonl").write_text(json.dumps(case.added) + "\n")
        # a rule for several rows is checked after the import, not in its plan
        is_planned = engine == "sqlite" and rule not in ("exclusive", "exclusive role")
        assert_refused(answer, db, "data", "import", case.table, "row.jsonl", plan=is_planned)
        if rule != "exclusive":  # ``data add`` adds one row and resets the others
            assert_refused(answer, db, "data", "add", case.table, *format_assignments(case.added))
    if case.changed:
        assert_refused(
            answer, db, "data", "set", case.table, str(case.key), *format_assignments(case.changed)
        )
        where = ["--filter", f"id={case.key}"]
        assert_refused(
            answer, db, "data", "set", case.table, *where, *format_assignments(case.changed), "--yes"
        )
        assert_replacement_refused(answer, db, case)
    if rule == "StateTransition":  # no transition leads back
        for selection in (["2"], ["--filter", "id=2"]):
            assert_refused(answer, db, "data", "set", "jobs", *selection, "state=open", "--yes")
    if case.removed:
        assert_refused(answer, db, "data", "delete", case.table, str(case.removed), "--yes")
    if engine == "sqlite" or rule in RESTORED_ON_SERVERS:
        assert_restore_refused(answer, db, case)


def assert_replacement_refused(answer, db: ComparedDatabase, case: Case) -> None:
    """Assert that texts of a row are not replaced by those that break the rule, if the command exists."""
    if "data replace" not in GENERIC:
        return
    (row,) = db.rows(f'select {", ".join(case.changed)} from "{case.table}" where id = {case.key}')
    for old, new in zip(row, case.changed.values(), strict=True):
        if isinstance(old, str) and isinstance(new, str) and not old.startswith("{"):  # a document is no text
            assert_refused(
                answer, db, "data", "replace", old, new, "--table", case.table, "--secrets", "--yes"
            )


def assert_restore_refused(answer, db: ComparedDatabase, case: Case) -> None:
    """Assert that rows of a backup that break the rule are not restored."""
    table = f'"{case.table}"'
    names, values = (
        ", ".join(f'"{name}"' for name in case.added),
        ", ".join(map(format_literal, case.added.values())),
    )
    change = ", ".join(f"{name} = {format_literal(value)}" for name, value in case.changed.items())
    valid = db.content()
    if case.added:
        db.run(f"delete from {table} where id = {case.added['id']}")
        db.run(f"delete from {table} where name = 'tries'") if case.table == "knobs" else None
        db.run(f"insert into {table} ({names}) values ({values})")
        answer("backup", "create")
        db.run(f"delete from {table} where id = {case.added['id']}")
        merge = ["restore", "apply", "latest", "--table", case.table, "--merge"]
        assert_refused(answer, db, *merge, "missing", "--yes")
    if case.changed and case.table != "knobs" and db.engine == "sqlite":
        (row,) = db.rows(f"select {', '.join(case.changed)} from {table} where id = {case.key}")
        db.run(f"update {table} set {change} where id = {case.key}")
        answer("backup", "create")
        previous = ", ".join(
            f"{name} = {format_literal(value)}" for name, value in zip(case.changed, row, strict=True)
        )
        db.run(f"update {table} set {previous} where id = {case.key}")
        merge = ["restore", "apply", "latest", "--table", case.table, "--merge", "replace", "--yes"]
        if case.unchanged_on_replace:
            answer(*merge)
            assert db.content() == valid
        else:
            assert_refused(answer, db, *merge)


def test_existing_violation_does_not_prevent_other_changes(answer, guild):
    db = guild("sqlite", TABLES)
    db.run("update jobs set state = 'nonsense', ack = 99 where id = 1")
    db.run("update members set secret = 'plain words', email = 'nowhere' where id = 2")
    assert answer("data", "set", "jobs", "1", "ack=1")["data"]["changed"]
    assert answer("data", "set", "members", "2", "email=ann@new.example")["data"]["changed"]
    assert answer("data", "set", "jobs", "1", "state=done")["data"]["changed"]
    assert answer("users", "update", "ann", "--email", "ann@example.org")["data"]["changed"]
    db.run(
        "alter table knobs add note varchar(20)", "update knobs set value = '99', note = 'old' where id = 1"
    )
    answer("backup", "create")
    db.run(
        "update members set email = 'x@example.org' where id = 2",
        "update knobs set note = 'new' where id = 1",
    )
    for table in ("members", "knobs"):
        answer("restore", "apply", "latest", "--table", table, "--merge", "replace", "--yes")
    assert db.rows("select email from members where id = 2") == [("ann@example.org",)]
    assert db.rows("select value, note from knobs where id = 1") == [("99", "old")]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_missing_permission_of_built_in_role_is_reported_and_granted_again(answer, guild, engine):
    db = guild(engine, TABLES)
    db.run("delete from rank_rights where id = 1")
    db.run("insert into rank_rights (id, rank_id, right_id) values (8, 2, 2)")
    for command in ("integrity check", "doctor"):
        findings = answer(*command.split(), status=4)["data"]["findings"]
        severities = {finding["code"]: finding["severity"] for finding in findings}
        assert severities["permission-missing"] == "error"
        assert severities["permission-extra"] == "warning"
    answer("roles", "grant", "chief", "see")
    answer("roles", "revoke", "guest", "touch")
    codes = {finding["code"] for finding in answer("integrity", "check", status=None)["data"]["findings"]}
    assert not codes & {"permission-missing", "permission-extra"}
    Path("row.jsonl").write_text('{"id": 9, "rank_id": 1, "right_id": 1}\n')
    db.run("delete from rank_rights where rank_id = 1 and right_id = 1")
    assert answer("data", "import", "rank_rights", "row.jsonl")["data"]["added"] == 1


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_existing_violations_are_reported_without_secrets(answer, guild, engine):
    db = guild(engine, TABLES)
    initial = {finding["code"] for finding in answer("integrity", "check", status=None)["data"]["findings"]}
    db.run(
        "update members set secret = 'plain words' where id = 2",
        "update jobs set state = 'nonsense' where id = 1",
        "update jobs set ack = 99 where id = 2",
        "update knobs set value = 'notacron' where name = 'when'",
        "update wishes set value = 'purple'",
        "delete from knobs where name = 'tries'",
    )
    for command in ("integrity check", "doctor"):
        result = answer(*command.split(), status=4)
        assert "plain words" not in json.dumps(result)
        codes = [finding["code"] for finding in result["data"]["findings"] if finding["code"] not in initial]
        for code, number in {
            "password-not-hashed": 1,
            "value-unknown": 3,
            "setting-invalid": 1,
            "setting-missing": 1,
        }.items():
            assert codes.count(code) == number, (command, code, result)
    of_jobs = answer("integrity", "check", "--table", "jobs", status=None)["data"]["findings"]
    assert {finding["code"] for finding in of_jobs} - initial == {"value-unknown"}
    assert answer("settings", "reset", "tries")["data"]["setting"]["description"] is None
    ((kind, rule),) = db.rows("select kind, rule from knobs where name = 'tries'")
    assert (kind, json.loads(rule)) == ("whole", json.loads(RULE))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0 3 * * *", True),
        ("*/5 * * * *", True),
        ("0 0 1,15 jan-mar MON-FRI", True),
        ("30 0 3 * * *", True),
        ("59 23 31 12 7", True),
        ("10-20/3 * * * *", True),
        ("notacron", False),
        ("* * * *", False),
        ("60 * * * *", False),
        ("0 24 * * *", False),
        ("0 0 0 * *", False),
        ("0 0 * 13 *", False),
        ("0 0 * * 8", False),
        ("*/0 * * * *", False),
        ("20-10 * * * *", False),
        ("1-2-3 * * * *", False),
        ("@daily", False),
        ("", False),
    ],
)
def test_cron_format_is_validated(answer, guild, text, valid):
    guild("sqlite", TABLES)
    result = answer("settings", "set", "when", text, status=None)
    assert (result["exit_code"] == 0) is valid, result


def test_violation_in_the_last_line_is_reported_and_nothing_is_stored(answer, guild):
    db = guild("sqlite", TABLES)
    before = db.content()
    lines = ["state,ack", *(["open,1"] * 20_000), "nonsense,1"]
    Path("jobs.csv").write_text("\n".join(lines) + "\n")
    error = answer("data", "import", "jobs", "jobs.csv", status=2)["error"]
    assert error["code"] == "import-invalid"
    assert "line 20002: " in error["message"]
    assert db.content() == before


def test_rule_for_a_missing_column_is_ignored(answer, guild):
    db = guild("sqlite", TABLES)
    db.run("alter table jobs drop column ack", "alter table jobs drop column state")
    Path("jobs.csv").write_text("id\n7\n")
    assert answer("data", "import", "jobs", "jobs.csv")["data"]["added"] == 1


#: Rows that ``data import`` adds, and whether it accepts them.
ADDED = [
    ("ranks", {"id": 9, "name": "visitor"}, True),
    ("ranks", {"id": 9, "name": "CHIEF"}, False),
    ("wishes", {"id": 9, "member": 1, "name": "x", "value": None}, False),
    ("wishes", {"id": 9, "member": 1, "name": "tone", "value": None}, True),
    ("tokens", {"id": 9, "member": 2, "token": "b", "ends_at": "2099-01-01"}, False),
    ("tokens", {"id": 9, "member": 2, "token": "of another kind", "ends_at": "2099-01-01"}, True),
    ("tokens", {"id": 9, "member": 2, "token": "b", "ends_at": "2020-01-01"}, True),
    ("tokens", {"id": 9, "member": 2, "token": "b", "ended_at": "2020-01-01", "ends_at": "2099-01-01"}, True),
]


@pytest.mark.parametrize(("table", "row", "valid"), ADDED)
def test_added_rows_follow_the_rules(answer, guild, table, row, valid):
    profile = TABLES.replace(
        'user = "member"\nkey = "name"',
        'user = "member"\nkey = "name"\nrules = { key = { length = [2, 9] } }',
    )
    db = guild("sqlite", profile.replace("[users.role]", 'only = { token = ["a", "b"] }\n[users.role]'))
    Path("row.jsonl").write_text(json.dumps(row) + "\n")
    result = answer("data", "import", table, "row.jsonl", status=None)
    assert (result["error"] or {}).get("code") == (None if valid else "import-invalid"), result
    assert len(db.rows(f"select id from {table} where id = 9")) == valid


#: Changes of rows that a restore reverts, as parts of ``UPDATE``, and whether the rules accept the former values.
REPLACED = [
    ("knobs", "value = '0'", "value = '5'", "name = 'tries'", False),
    ("knobs", "value = '7'", "value = '5'", "name = 'tries'", True),
    ("wishes", "member = 1, value = 'purple'", "member = 2", "id = 1", True),
    ("ranks", "name = 'x'", "name = 'member'", "id = 3", False),
    ("ranks", "name = 'visitor'", "name = 'member'", "id = 3", True),
    ("ranks", "made = '2020-01-01'", "made = '2021-01-01'", "id = 1", True),
    ("rank_rights", "rank_id = 2, right_id = 2", "rank_id = 3, right_id = 1", "id = 4", False),
    ("rank_rights", "right_id = 2", "right_id = 1", "id = 4", True),
    ("members", "login = x'616263'", "login = 'ann'", "id = 2", False),
    ("members", "login = 'abc'", "login = 'ann'", "id = 2", True),
]


@pytest.mark.parametrize(("table", "former", "present", "where", "valid"), REPLACED)
def test_restored_values_follow_the_rules(answer, guild, table, former, present, where, valid):
    db = guild(
        "sqlite",
        TABLES.replace('fields = { name = "name" }', 'fields = { name = "name", updated_at = "made" }'),
    )
    db.run("alter table ranks add column made varchar(40)", f"update {table} set {former} where {where}")
    answer("backup", "create")
    backed_up = db.content()
    db.run(f"update {table} set {present} where {where}")
    before = db.content()
    merge = ["restore", "apply", "latest", "--table", table, "--merge", "replace", "--yes"]
    error = answer(*merge, status=None)["error"] or {}
    assert (error.get("code"), db.content()) == (
        (None, backed_up) if valid else ("table-not-restored", before)
    )


def test_permissions_of_roles_that_are_not_built_in_are_free(answer, guild):
    db = guild("sqlite", TABLES)
    db.run("insert into ranks (id, name) values (9, 'visitor')")
    answer("data", "add", "rank_rights", "id=9", "rank_id=9", "right_id=2")
    answer("data", "add", "rank_rights", "id=10", "rank_id=2", "right_id=2", status=6)
    assert db.rows("select rank_id, right_id from rank_rights where id > 4") == [(9, 2)]
    answer("data", "delete", "rank_rights", "9", "--yes")
    answer("data", "delete", "rank_rights", "3", "--yes", status=6)
    assert db.rows("select id from rank_rights order by 1") == [(1,), (2,), (3,), (4,)]


def test_equal_values_are_no_change(answer, guild):
    db = guild("sqlite", TABLES)
    before = db.content()
    for words in (["state=open"], ["state=open", "ack=0"]):
        assert not answer("data", "set", "jobs", "1", *words)["data"]["changed"]
    assert db.content() == before
    assert answer("data", "set", "jobs", "1", "--null", "ack")["data"]["changed"]
    assert answer("data", "set", "jobs", "1", "ack=0")["data"]["changed"]


NAIVE = datetime(2026, 1, 2, 3)  # noqa: DTZ001 - drivers return such times


@pytest.mark.parametrize(
    ("stored", "value", "is_equal"),
    [
        (NAIVE, datetime(2026, 1, 2, 3, tzinfo=UTC), True),
        (NAIVE, datetime(2026, 1, 2, 4, tzinfo=UTC), False),
        ("2026-01-02 03:00:00", datetime(2026, 1, 2, 3, tzinfo=UTC), False),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00Z", False),
        (1, "1", True),
        (None, "None", False),
        ("", None, False),
        (None, None, True),
    ],
)
def test_stored_values_are_compared_without_their_types(stored, value, is_equal):
    assert is_equal_stored(stored, value) is is_equal


def test_trigger_on_another_table_cannot_remove_the_last_admin(answer, guild):
    db = guild("sqlite", TABLES)
    change = "create trigger rest after update on jobs begin update members set active = 0{}; end"
    db.run(change.format(""))
    before = db.content()
    assert answer("data", "set", "jobs", "1", "ack=1", status=6)["error"]["code"] == "last-admin"
    assert db.content() == before
    db.run("drop trigger rest", change.format(" where id = 2"))
    assert answer("data", "set", "jobs", "1", "ack=1")["data"]["changed"]
    assert db.rows("select active from members order by id") == [(1,), (0,)]


@pytest.mark.parametrize(("column", "status"), [("blob", 0), ("text", 2)])
def test_login_in_bytes_is_text_in_a_column_of_bytes_only(tmp_path, monkeypatch, answer, column, status):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wiki.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "wiki"\ntitle = "Wiki"\n[databases.main]\nengines = ["sqlite"]\n'
        '[users]\nadmin = false\ntable = "people"\nid = { column = "id" }\nlogin = ["login"]\nfields = { login = "login" }\n'
    )
    (tmp_path / "rows.jsonl").write_text('{"id": 2, "login": {"$b64": "Ym8="}}\n')
    (tmp_path / "invalid.jsonl").write_text('{"id": 3, "login": {"$b64": "/w=="}}\n')
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(f"create table people (id integer primary key, login {column})")
        options = ("--profile", "wiki.toml", "--url", "main=app.db", "--yes")
        answer("data", "import", "people", "rows.jsonl", *options, status=status)
        answer("data", "import", "people", "invalid.jsonl", *options, status=2)
        assert len(database.rows("select * from people")) == (status == 0)
