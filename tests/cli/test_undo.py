"""Undo of operations of the audit log, on each engine: identical rows afterwards, and refusals."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config.sections import Selection
from dbctl.engines.sql.catalog import ident
from dbctl.errors.operations import UndoConflictError
from dbctl.services.app.session import open_app
from dbctl.services.events.changes.operations import show_operation
from dbctl.services.undo.operation import undo_operation
from tests.databases import File, Folder, empty_database, from_url, read_event_store
from tests.services import larder_app
from tests.services.larder_app import ANA
from tests.services.mysql_samples import WORDPRESS_TABLES
from tests.services.rules import test_rows as guild

KINDS = ("sqlite", "postgresql", "mysql")
#: A profile of users with sign-ins.
CLUB = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
[users]
admin = false
table = "people"
id = { column = "id" }
login = ["login"]
fields = { login = "login" }
[[users.signed_in]]
table = "tokens"
user = "person"
"""
COMMANDS = [
    ["users", "create", "zed", "--email", "zed@larder.example", "--role", "cook", "--generate"],
    ["users", "set-role", "ana", "guest"],
    ["users", "update", "ana", "--email", "x@larder.example"],
    ["users", "deactivate", "ana"],
    ["users", "delete", "ana", "--yes"],
    ["settings", "set", "kitchen.title", "Pantry"],
    ["settings", "reset", "limits.servings"],
    ["data", "set", "members", ANA, "mail=y@larder.example"],
    ["data", "import", "recipe_labels", "rows.csv"],
]
#: An added row, a changed one, a deleted one with the rows that refer to it, and a setting.
ON_SERVERS = [COMMANDS[number] for number in (0, 2, 4, 5)]


@pytest.fixture(scope="module", params=KINDS)
def shared_pantry(request, tmp_path_factory):
    with larder_app.open_pantry(request.param, tmp_path_factory.mktemp("larder") / "app") as pantry:
        pantry.run(larder_app.CHANGE_SETTING)
        recipe, label = pantry.rows("select recipe_uuid, label from recipe_labels")[0]
        (pantry.folder / "rows.csv").write_text(f"recipe_uuid,label\n{recipe},new {label}\n")
        yield pantry


@pytest.fixture
def pantry(shared_pantry, monkeypatch, tmp_path):
    """Larder, whose rows each test restores by undo."""
    monkeypatch.chdir(shared_pantry.folder)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return shared_pantry


def find_newest(answer):
    return answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]


def read_rows(pantry):
    """Return all rows that undo restores: not sign-ins, records of the app, or password hashes."""
    tables = [name for name in pantry.tables() if name not in {"members", "history", "member_logins"}]
    members = "select member_uuid, handle, mail, kind, enabled, joined_ms, changed_ms, seen_ms from members"
    queries = [members, *(f"select * from {ident(name)}" for name in sorted(tables))]
    return [sorted(map(str, rows)) for rows in pantry.results(*queries)]


def add_session(pantry, token, *, year=2096):
    end = f"{year - 1970} * 31557600000" if pantry.engine == "sqlite" else f"'{year}-10-02'"
    pantry.run(f"insert into member_logins (token, member_uuid, ends_ms) values ('{token}', '{ANA}', {end})")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("shared_pantry", ["sqlite"], indirect=True)
def test_rows_are_identical_after_undo_and_after_undo_of_undo(answer, pantry, command):
    undo_twice(answer, pantry, command)


@pytest.mark.parametrize("command", ON_SERVERS, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("shared_pantry", ["postgresql", "mysql"], indirect=True)
def test_rows_on_servers_are_identical_after_undo_and_after_undo_of_undo(answer, pantry, command):
    undo_twice(answer, pantry, command)


def undo_twice(answer, pantry, command):
    before = read_rows(pantry)
    answer(*command)
    after = read_rows(pantry)
    assert after != before
    answer("undo", str(find_newest(answer)), "--yes")
    assert read_rows(pantry) == before
    answer("undo", str(find_newest(answer)), "--yes")
    assert read_rows(pantry) == after
    answer("undo", str(find_newest(answer)), "--yes")
    assert read_rows(pantry) == before
    answer("audit", "verify")


def test_deleted_user_gets_an_unknown_password_and_no_sessions(answer, pantry):
    query = f"select secret_hash from members where member_uuid = '{ANA}'"
    (old,) = pantry.rows(query)
    answer("users", "delete", "ana", "--yes")
    number = str(find_newest(answer))
    assert answer("undo", number, "--yes")["data"]["without_password"] == 1
    assert pantry.rows(query) != [old]
    assert pantry.rows(f"select * from member_logins where member_uuid = '{ANA}'") == []
    answer("undo", number, "--yes", status=6)


def test_undo_of_a_role_ends_sessions_that_began_since(answer, pantry):
    answer("users", "set-role", "ana", "chief")
    number = str(find_newest(answer))
    add_session(pantry, "new-session")
    others = f"select count(*) from member_logins where member_uuid != '{ANA}'"
    before = pantry.rows(others)
    assert before[0][0] > 0
    plan = answer("undo", number, "--dry-run")["data"]["plan"]
    assert (plan["steps"][-1], plan["rows"]) == (
        "end 1 session (member_logins)",
        {"members": 1, "member_logins": 1},
    )
    undone = answer("undo", number, "--yes")["data"]
    assert (undone["rows"], undone["ended_sessions"]) == ({"members": 1}, 1)
    assert pantry.rows("select * from member_logins where token = 'new-session'") == []
    assert pantry.rows(others) == before
    answer("users", "update", "ana", "--email", "x@larder.example")
    number = str(find_newest(answer))
    assert answer("undo", number, "--dry-run")["data"]["plan"]["rows"] == {"members": 1}
    assert answer("undo", number, "--yes")["data"]["ended_sessions"] == 0


@pytest.mark.parametrize("engine", KINDS)
def test_plan_counts_the_sessions_that_end_with_a_role_of_pairs(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    role = '[users.role]\nvalues = ["cook", "guest"]\nmembers = { table = "ranks", user = "person", role = "name" }\n'
    (tmp_path / "club.toml").write_text(CLUB + role)
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique)",
            "create table ranks (person integer, name varchar(9), primary key (person, name))",
            "create table tokens (token varchar(9) primary key, person integer)",
            "insert into people values (1, 'ida'), (2, 'bo')",
            "insert into ranks values (2, 'cook')",
        )
        options = ["--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}"]
        answer("users", "set-role", "ida", "cook", *options)
        database.run("insert into tokens values ('a', 1), ('b', 1), ('c', 2)")
        number = str(find_newest(answer))
        plan = answer("undo", number, "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"ranks": 1, "tokens": 2}
        assert answer("undo", number, "--yes", *options)["data"]["ended_sessions"] == 2
        assert database.rows("select token from tokens") == [("c",)]


def test_rows_of_ended_sessions_are_restored_as_far_as_they_can_be(answer, pantry):
    add_session(pantry, "old-session")
    token = "token varchar(64), foreign key (token) references member_logins (token) on delete"
    pantry.run(
        f"create table login_devices (id integer primary key, {token} cascade)",
        "create table login_places (id integer primary key, device integer not null,"
        " foreign key (device) references login_devices (id) on delete cascade)",
        f"create table login_notes (id integer primary key, note integer, {token} set null)",
        "insert into login_devices values (1, 'old-session')",
        "insert into login_places values (1, 1)",
        "insert into login_notes values (1, 5, 'old-session')",
    )
    kinds = "select kind from members where handle = 'ana'"
    (kind,) = pantry.rows(kinds)
    try:
        answer("users", "set-role", "ana", "guest", "--yes")
        number = str(find_newest(answer))
        plan = answer("undo", number, "--dry-run")["data"]["plan"]
        assert plan["rows"] == {"members": 1}
        assert "do not restore 1 row of login_places" in " ".join(plan["steps"])
        answer("undo", number, "--yes")
        assert pantry.rows(kinds) == [kind]
        assert pantry.rows("select * from login_devices") == pantry.rows("select * from login_places") == []
        assert pantry.rows("select id, note, token from login_notes") == [(1, 5, None)]
        add_session(pantry, "old-session")
        pantry.run("insert into login_devices values (1, 'old-session')")
        answer("users", "set-password", "ana", "--generate", "--yes")
        error = answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]
        assert error["code"] == "undo-impossible"
    finally:
        pantry.run(*(f"drop table {table}" for table in ("login_notes", "login_places", "login_devices")))


@pytest.mark.parametrize(
    "change", ["update members set mail = 'later@larder.example'", "delete from members"]
)
def test_later_change_is_not_overwritten(answer, pantry, change):
    before = pantry.rows("select * from members")
    answer("users", "create", "zed", "--email", "zed@larder.example", "--generate")
    number = str(find_newest(answer))
    row = pantry.rows("select mail from members where handle = 'zed'")
    pantry.run(f"{change} where handle = 'zed'")
    changed = pantry.content()
    error = answer("undo", number, "--yes", status=6)["error"]
    assert (error["code"], pantry.content()) == ("undo-conflict", changed)
    answer("undo", number, "--dry-run", status=6)
    pantry.run("delete from members where handle = 'zed'")
    assert row
    assert sorted(map(str, pantry.rows("select * from members"))) == sorted(map(str, before))


def test_commands_that_a_refusal_recommends_can_be_run(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    from_url("app.db").run("create table notes (id integer primary key)", "insert into notes values (1)")
    (tmp_path / "dbctl.toml").write_text('[apps.notes]\nprofile = "plain"\ndatabases = "app.db"\n')
    answer("backup", "create", "--repository", "backups")
    answer("maintain", "vacuum", "--yes")
    hint = answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]["hint"]
    commands = re.findall(r"dbctl (restore apply [^;]*)", hint)
    for command in commands:
        words = command.replace("ID", "latest").replace("TABLE", "notes").split()
        answer(*words, "--repository", "backups", "--dry-run")
    assert len(commands) == 2


@pytest.mark.parametrize(
    "command", [["data", "set", "notes", "1", "text=new"], ["data", "delete", "notes", "1", "--yes"]]
)
def test_row_of_a_table_without_a_recorded_column_is_refused(answer, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url("app.db")
    database.run(
        "create table notes (id integer primary key, text text)", "insert into notes values (1, 'old')"
    )
    (tmp_path / "dbctl.toml").write_text('[apps.notes]\nprofile = "plain"\ndatabases = "app.db"\n')
    answer(*command)
    database.run("alter table notes drop column text")
    rows = database.rows("select * from notes")
    error = answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]
    assert (error["code"], "another schema" in error["message"]) == ("undo-impossible", True)
    assert database.rows("select * from notes") == rows
    database.run("alter table notes rename to later")
    error = answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]
    assert (error["code"], "does not exist" in error["message"]) == ("undo-impossible", True)


def test_change_between_plan_and_apply_is_not_overwritten(pantry, answer, monkeypatch):
    answer("users", "update", "ana", "--email", "z@larder.example")
    number = find_newest(answer)
    with open_app(Selection(config="dbctl.toml"), timeout=5) as app:
        change = undo_operation(app, show_operation(Path(os.environ["DBCTL_STATE"]), number))
        plan = change.plan()
        pantry.run(f"update members set mail = 'between@larder.example' where member_uuid = '{ANA}'")
        with pytest.raises(UndoConflictError):
            change.apply(plan.digest)
    assert pantry.rows(f"select mail from members where member_uuid = '{ANA}'") == [
        ("between@larder.example",)
    ]
    pantry.run(f"update members set mail = 'z@larder.example' where member_uuid = '{ANA}'")
    answer("undo", str(number), "--yes")


def test_undo_would_remove_the_last_admin(answer, pantry):
    admin = answer("users", "list")["data"]["items"]
    chiefs = [user["login"] for user in admin if user["role"] == "chief" and user["active"]]
    answer("users", "set-role", "ana", "chief")
    number = str(find_newest(answer))
    answer("users", "deactivate", *chiefs)
    assert answer("undo", number, "--yes", status=6)["error"]["code"] == "last-admin"
    answer("users", "activate", *chiefs)
    answer("undo", number, "--yes")


@pytest.mark.parametrize(
    "command",
    [
        ["users", "set-password", "ana", "--generate"],
        ["sessions", "revoke", "ana"],
        ["sessions", "cleanup", "--yes", "--trust-clock"],
        ["maintain", "analyze"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_operation_without_rows_in_the_log_is_refused(answer, pantry, command):
    if command[0] == "sessions":
        add_session(pantry, "session", year=2096 if command[1] == "revoke" else 2000)
    if command[1] in ("set-password", "revoke"):
        steps = answer(*command, "--dry-run")["data"]["plan"]["steps"]
        assert LOST in steps
    answer(*command)
    before = pantry.content()
    error = answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]
    assert (error["code"], pantry.content()) == ("undo-impossible", before)
    assert error["hint"]


def test_hint_about_migrations_names_commands_that_revert_the_change(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    Path("1_items.sql").write_text(
        "-- migrate:up\ncreate table items (id integer primary key);\n-- migrate:down\ndrop table items;\n"
    )
    options = ("--url", "main=sqlite:app.db", "--migrations", ".")
    for words, steps in (
        (["up"], ["migrate down", "backup list"]),
        (["down", "--yes", "--no-backup"], ["migrate up", "backup list"]),
        (["mark", "1", "--applied"], ["migrate mark NAME --applied", "migrate mark NAME --pending"]),
    ):
        answer("migrate", *words, *options)
        hint = answer("undo", str(find_newest(answer)), "--yes", *options[:2], status=6)["error"]["hint"]
        assert [step for step in steps if f"dbctl {step} " in hint] == steps
        assert hint.count("dbctl ") == len(steps)


@pytest.mark.parametrize("engine", KINDS)
def test_plan_announces_that_undo_will_be_impossible(answer, tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table teams (id integer primary key, name varchar(9))",
            "create table links (team integer, foreign key (team) references teams (id) on delete cascade)",
            "insert into teams values (1, 'a'), (2, 'b'), (3, 'c')",
            "insert into links values (1)",
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[audit]\nmax_rows = 1\n[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "{database.url}"\n'
        )

        def find_reasons(*words):
            steps = answer("data", "delete", "teams", *words, "--dry-run")["data"]["plan"]["steps"]
            return [step.partition("rows of ")[2] for step in steps if "undo will be impossible" in step]

        assert find_reasons("2") == []
        assert find_reasons("1") == ["links are not in the log: the table has no primary key"]
        assert find_reasons("--filter", "id>1") == ["teams are not in the log: more than 1 rows"]
        answer("data", "delete", "teams", "1", "--yes")
        error = answer("undo", str(find_newest(answer)), "--dry-run", status=6)["error"]
        assert "rows of links are not in the log: the table has no primary key" in error["message"]


@pytest.mark.parametrize("engine", KINDS)
def test_rows_that_foreign_keys_change_with_counted_rows_are_recorded(answer, tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table teams (id integer primary key, up integer, foreign key (up) references teams (id) on delete cascade)",
            "create table members (id integer primary key, team integer, foreign key (team) references teams (id) on delete cascade)",
            "create table badges (id integer primary key, member integer, foreign key (member) references members (id) on delete cascade)",
            "create table votes (id integer primary key, team integer, foreign key (team) references teams (id) on delete set null)",
            "insert into teams values (1, null), (2, 1), (3, 2)",
            "insert into members values (1, 3)",
            "insert into badges values (1, 1)",
            "insert into votes values (1, 1), (2, 3)",
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[audit]\nmax_rows = 1\n[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "{database.url}"\n'
        )
        answer("data", "delete", "teams", "--filter", "id>1", "--yes")
        rows = answer("audit", "list")["data"]["items"][0]["rows"]
        assert rows == {"main.teams": 2, "main.members": 1, "main.badges": 1, "main.votes": 1}


@pytest.mark.parametrize("key", ["name text primary key", "name text, side int, primary key (name, side)"])
def test_rows_with_null_in_their_key_are_only_counted(answer, tmp_path, monkeypatch, key):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = File(tmp_path / "app.db")
    database.run(
        f"create table tags (word text, {key})",
        "insert into tags (name, word) values (null, 'a'), (null, 'a'), (null, 'b')",
    )
    options = ["--profile", "plain", "--url", f"main={database.url}"]
    for words in (["set", "tags", "--filter", "word=a", "word=c"], ["delete", "tags", "--filter", "word=c"]):
        steps = answer("data", *words, *options, "--dry-run")["data"]["plan"]["steps"]
        assert "undo will be impossible if one of the rows of tags has NULL in the primary key" in steps
        answer("data", *words, *options, "--yes")
        number = find_newest(answer)
        (change,) = answer("audit", "show", str(number))["data"]["changes"]
        assert (change["rows"], change["images"]) == (2, None)
        error = answer("undo", str(number), "--yes", *options, status=6)["error"]
        assert "rows have NULL in the primary key" in error["message"]
    assert database.rows("select word from tags") == [("b",)]


SECRETS = """
schema = "dbctl.profile/1"
name = "mailer"
title = "Mailer"
[databases.main]
engines = ["sqlite"]
[users]
admin = false
table = "people"
id = { column = "id" }
login = ["login"]
fields = { login = "login" }
[[settings]]
scope = "system"
table = "options"
key = "name"
open = true
secret = ["smtp.*"]
fields = { value = "value", updated_at = "changed", updated_by = "author" }
[[settings]]
scope = "user"
table = "people"
user = "id"
object = true
secret = ["key"]
fields = { value = "prefs" }
"""
LOST = "undo will be impossible: the log has no secrets"


@pytest.mark.parametrize(
    ("words", "steps", "status"),
    [
        (["set", "smtp.key", "new"], [LOST], 6),
        (["set", "smtp.by-ida", "new"], ["undo will not restore the secrets smtp.by-ida"], 0),
        (["set", "smtp.new", "new"], [], 0),
        (["set", "title", "new"], [], 0),
        (["set", "title", "sk-" + 20 * "x"], [LOST], 6),
        (["reset", "title"], [], 0),
        (["reset", "smtp.key"], [LOST], 6),
        (["set", "color", "red", "--user", "ida"], [LOST], 6),
        (["apply", "new.json"], ["undo will not restore the secrets smtp.key"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.parametrize("column", ["text not null", "text not null default ''", "text"])
def test_plan_of_a_setting_announces_what_undo_does(
    answer, tmp_path, monkeypatch, words, steps, status, column
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "mailer.toml").write_text(SECRETS)
    (tmp_path / "new.json").write_text('{"smtp.key": "new", "title": "new"}')
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            f"create table options (name text primary key, value {column}, changed text, author integer)",
            "create table people (id integer primary key, login text, prefs text)",
            "insert into people values (1, 'ida', '{}')",
            "insert into options values ('smtp.key', 'old', '', null), ('smtp.by-ida', 'old', '', 1), ('title', 'T', '', null)",
        )
        options = ("--profile", "mailer.toml", "--url", "main=app.db", "--yes")
        planned = answer("settings", *words, "--dry-run", *options)["data"]["plan"]["steps"]
        assert [step for step in planned if step.startswith("undo ")] == steps
        answer("settings", *words, *options)
        answer("undo", str(find_newest(answer)), *options, status=status)
        rows = dict(database.rows("select name, value from options"))
        is_restored = rows == {"smtp.key": "old", "smtp.by-ida": "old", "title": "T"}
        assert is_restored == (not steps or "--user" in words)


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["options", "title"], []),
        (["options", "--filter", "name=title"], []),
        (
            ["options", "smtp.key"],
            ["the secrets of options: value", "the rows of options, which require value"],
        ),
        (
            ["options", "--filter", "name!=x"],
            ["the secrets of options: value", "the rows of options, which require value"],
        ),
    ],
    ids=" ".join,
)
def test_plan_of_deleted_settings_announces_what_undo_does(answer, tmp_path, monkeypatch, words, steps):
    """The value of a setting is secret only if its key is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "mailer.toml").write_text(SECRETS)
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table options (name text primary key, value text not null, changed text, author integer)",
            "create table people (id integer primary key, login text, prefs text)",
            "insert into options values ('smtp.key', 'old', '', null), ('title', 'T', '', null)",
        )
        before = database.rows("select * from options order by name")
        options = ("--profile", "mailer.toml", "--url", "main=app.db", "--yes")
        planned = answer("data", "delete", *words, "--dry-run", *options)["data"]["plan"]["steps"]
        announced = [step for step in planned if step.startswith("undo ")]
        assert announced == [f"undo will not restore {step}" for step in steps]
        answer("data", "delete", *words, *options)
        answer("undo", str(find_newest(answer)), *options, status=None)
        assert (database.rows("select * from options order by name") == before) == (not steps)


PREFERENCES = """
[[settings]]
scope = "user"
table = "preferences"
user = "person"
key = "name"
secret = ["key"]
fields = { value = "value" }
"""


@pytest.mark.parametrize(("login", "is_lost"), [("ida", False), ("bo", True)])
def test_plan_of_a_deleted_user_announces_which_settings_undo_loses(
    answer, tmp_path, monkeypatch, login, is_lost
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "mailer.toml").write_text(SECRETS.partition("[[settings]]")[0] + PREFERENCES)
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, login text)",
            "create table preferences (person integer references people (id) on delete cascade, name text,"
            " value text not null, primary key (person, name))",
            "insert into people values (1, 'ida'), (2, 'bo')",
            "insert into preferences values (1, 'color', 'red'), (2, 'key', 'k')",
        )
        before = database.rows("select * from preferences")
        options = ("--profile", "mailer.toml", "--url", "main=app.db", "--yes")
        steps = answer("users", "delete", login, "--dry-run", *options)["data"]["plan"]["steps"]
        assert any(step.startswith("undo ") for step in steps) == is_lost
        answer("users", "delete", login, *options)
        answer("undo", str(find_newest(answer)), *options)
        assert (sorted(database.rows("select * from preferences")) != before) == is_lost


def test_bulk_above_the_limit_is_counted_and_refused(answer, pantry):
    configuration = pantry.folder / "dbctl.toml"
    text = configuration.read_text()
    configuration.write_text(f"{text}[audit]\nmax_rows = 1\n")
    try:
        rows = answer("data", "set", "recipes", "--filter", "title!=x", "cuisine=any", "--yes")["data"][
            "changed"
        ]
        number = find_newest(answer)
        assert answer("audit", "show", str(number))["data"]["rows"] == {"pantry.recipes": rows}
        assert answer("undo", str(number), "--yes", status=6)["error"]["code"] == "undo-impossible"
    finally:
        configuration.write_text(text)


def test_secrets_are_not_in_the_log(answer, pantry, tmp_path):
    (tmp_path / "password").write_text("hunter2-marked")
    (tmp_path / "password").chmod(0o600)
    add_session(pantry, "token-marked")
    hashes = {str(value) for (value,) in pantry.rows("select secret_hash from members")}
    answer("users", "set-password", "ana", "--password-file", str(tmp_path / "password"))
    answer(
        "users", "create", "yan", "--email", "y@larder.example", "--password-file", str(tmp_path / "password")
    )
    answer("users", "delete", "yan", "--yes")
    hashes |= {str(value) for (value,) in pantry.rows("select secret_hash from members")}
    content = read_event_store(tmp_path / "state")
    assert '"$secret"' in content
    assert not [secret for secret in ("-marked", "$2b$", *hashes) if secret in content]


@pytest.mark.parametrize("engine", KINDS)
def test_undo_of_roles_and_permissions(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "guild.toml").write_text(guild.TABLES)
    with empty_database(engine, tmp_path / "guild.db") as database:
        script = guild.SCHEMA.format(serial=guild.SERIAL[engine], hash=guild.HASH, rule=guild.RULE)
        database.run(
            *(
                sql
                for sql in script.replace('"rank"', "`rank`" if engine == "mysql" else '"rank"').split(";")
                if sql.strip()
            )
        )
        if engine == "postgresql":
            names = ("ranks", "rank_rights", "wishes")
            database.run(*(f"select setval(pg_get_serial_sequence('{name}', 'id'), 100)" for name in names))
        options = ["--profile", str(tmp_path / "guild.toml"), "--url", f"main={database.url}"]
        for command in (
            ["roles", "create", "baker", "--permission", "see", "--permission", "touch"],
            ["roles", "grant", "member", "touch"],
            ["roles", "revoke", "member", "see"],
            ["roles", "update", "baker", "--name", "fellow"],
            ["settings", "set", "tries", "7"],
            ["settings", "set", "theme", "light", "--user", "ann"],
        ):
            before = database.content()
            answer(*command, *options)
            after = database.content()
            assert after != before
            answer("undo", str(find_newest(answer)), "--yes", *options)
            assert database.content() == before
            answer("undo", str(find_newest(answer)), "--yes", *options)
            assert database.content() == after
        answer("audit", "verify")


def test_operation_of_another_app_is_refused(answer, pantry):
    answer("settings", "set", "kitchen.title", "Cellar")
    number = str(find_newest(answer))
    other = pantry.folder / "other.toml"
    other.write_text((pantry.folder / "dbctl.toml").read_text().replace("apps.larder", "apps.cellar"))
    error = answer("undo", number, "--config", "other.toml", "--app", "cellar", "--yes", status=2)["error"]
    assert error["code"] == "undo-other-app"
    answer("undo", number, "--yes")
    answer("undo", "999999", "--yes", status=5)


def test_operation_of_another_database_is_refused(answer, tmp_path, monkeypatch):
    """Apps of several configurations often have the same name, such as that of their profile."""
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        with closing(sqlite3.connect(folder / "app.db")) as file:
            file.executescript("create table t (id integer primary key, v); insert into t values (1, 'same')")
        (folder / "dbctl.toml").write_text(
            '[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "app.db"\n'
        )
    (tmp_path / "link").symlink_to(tmp_path / "first")
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path / "first")
    config = ["--config", "dbctl.toml"]
    answer("data", "delete", "t", "--filter", "id=1", *config, "--yes")
    number = str(find_newest(answer))
    monkeypatch.chdir(tmp_path / "second")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as file:
        file.execute("delete from t")
        error = answer("undo", number, *config, "--yes", status=2)["error"]
        assert error["code"] == "undo-other-database"
        assert str(tmp_path / "first" / "app.db") in error["message"]
        assert file.execute("select count(*) from t").fetchone() == (0,)
        answer("undo", number, *config, "--moved", "--yes")
        assert file.execute("select * from t").fetchall() == [(1, "same")]
    monkeypatch.chdir(tmp_path / "link")
    answer("undo", number, *config, "--yes")


@pytest.mark.needs_extension("demo", "lancedb")
@pytest.mark.slow
def test_undo_of_a_deletion_from_two_databases(answer, tmp_path, monkeypatch):
    answer("demo", "chat-lancedb", str(tmp_path / "app"))
    monkeypatch.chdir(tmp_path / "app")
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    chat, vectors = File(tmp_path / "app/data/chat.db"), Folder(tmp_path / "app/data/lancedb")
    login = answer("users", "list")["data"]["items"][1]["login"]
    before = chat.content(), vectors.content()
    answer("users", "delete", login, "--yes")
    after = chat.content(), vectors.content()
    assert after[0] != before[0]
    assert after[1] != before[1]
    answer("undo", str(find_newest(answer)), "--yes")
    assert (chat.content(), vectors.content()) == before
    answer("undo", str(find_newest(answer)), "--yes")
    assert (chat.content(), vectors.content()) == after


def test_rows_that_may_not_be_locked_are_counted(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with larder_app.open_pantry("postgresql", tmp_path / "app") as pantry:
        role = f"clerk_{pantry.own.path}"[:60]
        pantry.run(
            f"create role {role} login",
            f"grant select on all tables in schema public to {role}",
            f"grant delete on member_logins to {role}",
            f"grant insert on history to {role}",
            f"grant usage on all sequences in schema public to {role}",
        )
        try:
            add_session(pantry, "open-session")
            monkeypatch.chdir(pantry.folder)
            url = pantry.url.replace("postgres@", f"{role}@")
            answer("sessions", "revoke", "ana", "--url", f"pantry={url}")
            (operation,) = answer("audit", "list")["data"]["items"]
            assert (operation["result"], "pantry.member_logins" in operation["rows"]) == ("committed", True)
            error = answer("undo", str(operation["operation"]), "--yes", status=6)["error"]
            assert error["code"] == "undo-impossible"
        finally:
            pantry.run(f"drop owned by {role}", f"drop role {role}")


def test_import_with_keys_of_an_expression_is_counted(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "rows.csv").write_text("title\nfirst\nsecond\nthird\n")
    with empty_database("mysql", tmp_path) as database:
        database.run("create table posts (id varchar(36) primary key default (uuid()), title text)")
        words = ["data", "import", "posts", str(tmp_path / "rows.csv"), "--url", f"main={database.url}"]
        answer(*words)
        (operation,) = answer("audit", "list")["data"]["items"]
        assert operation["rows"] == {"main.posts": 3}
        assert len(database.rows("select * from posts")) == 3


def skips_keys():
    """Whether the server of MySQL follows foreign keys outside of InnoDB, as since version 9.6."""
    with empty_database("mysql", Path()) as database:
        return database.rows("show variables like 'innodb_native_foreign_keys'") == [
            ("innodb_native_foreign_keys", "OFF")
        ]


@pytest.mark.parametrize("engine", KINDS)
def test_deleted_tree_of_rows_is_restored(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    if engine == "mysql" and skips_keys():
        pytest.skip("MySQL 9 refuses the deletion")
    levels = 12 if engine == "mysql" else 300  # InnoDB deletes at most 15 levels
    rows = [
        f"insert into comments values ({number}, {number - 1 or 'null'}, null)" for number in range(1, levels)
    ]
    rows += [
        f"insert into comments values ({levels + 1}, 1, null)",
        f"insert into comments values ({levels + 2}, null, 2)",
    ]
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table comments (id integer primary key, parent integer, quoted integer,"
            " foreign key (parent) references comments (id) on delete cascade,"
            " foreign key (quoted) references comments (id) on delete set null)",
            "create table likes (id integer primary key, comment_id integer,"
            " foreign key (comment_id) references comments (id) on delete cascade)",
            *rows,
            f"insert into likes values (1, {levels - 1}), (2, {levels + 1}), (3, {levels + 2})",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        deleted = answer("data", "delete", "comments", "1", "--yes", *options)["data"]
        assert deleted["rows"] == {"comments": levels + 1, "likes": 2}
        after = database.content()
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == before
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == after
        answer("audit", "verify")


@pytest.mark.parametrize("engine", KINDS)
def test_deleted_cycle_of_tables_is_restored(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    is_skipped = engine == "mysql" and skips_keys()
    with empty_database(engine, tmp_path / "app.db") as database:
        owner = "owner integer not null, foreign key (owner) references users (id) on delete cascade"
        database.run(
            "create table users (id integer primary key, home integer)",
            f"create table homes (id integer primary key, {owner})",
        )
        if engine == "sqlite":
            database.run(
                "drop table users",
                "create table users (id integer primary key, home integer references homes (id) on delete cascade)",
            )
        else:
            database.run("alter table users add foreign key (home) references homes (id) on delete cascade")
        database.run(
            "insert into users values (1, null), (2, null)",
            "insert into homes values (10, 1), (11, 1), (12, 2)",
            "update users set home = 10 where id = 1",
            "update users set home = 11 where id = 2",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        if is_skipped:
            error = answer("data", "delete", "users", "1", "--yes", *options, status=6)["error"]
            assert "1 row of users remained" in error["message"]
            assert database.content() == before
            answer("data", "delete", "users", "2", "--yes", *options)  # as the message proposes
            answer("data", "delete", "users", "1", "--yes", *options)
            assert database.content() == {"users": [], "homes": []}
            return
        deleted = answer("data", "delete", "users", "1", "--yes", *options)["data"]
        assert deleted["rows"] == {"users": 2, "homes": 3}
        after = database.content()
        for content in (before, after, before):
            answer("undo", str(find_newest(answer)), "--yes", *options)
            assert database.content() == content


@pytest.mark.parametrize("engine", KINDS)
def test_rows_that_foreign_keys_change_are_planned_and_restored(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    key = "foreign key ({}) references {} on update {}"
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table kinds (id integer primary key, code varchar(9) unique, label varchar(9))",
            f"create table a_notes (id integer primary key, kind varchar(9), {key.format('kind', 'kinds (code)', 'cascade')} on delete cascade)",
            f"create table drafts (id integer primary key, kind varchar(9), {key.format('kind', 'kinds (code)', 'set null')})",
            f"create table types (id integer primary key, kind varchar(9) unique, {key.format('kind', 'kinds (code)', 'cascade')})",
            f"create table files (id integer primary key, type varchar(9), {key.format('type', 'types (kind)', 'set null')})",
            f"create table fixed (id integer primary key, kind varchar(9), {key.format('kind', 'kinds (code)', 'no action')})",
            "insert into kinds values (1, 'a', 'x'), (2, 'b', 'y')",
            *(
                f"insert into {table} values (1, 'a'), (2, 'b')"
                for table in ("a_notes", "drafts", "types", "files")
            ),
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        followed, before = dict.fromkeys(("a_notes", "drafts", "types", "files"), 1), database.content()
        for words in (["1", "code=c"], ["--filter", "label=x", "code=c", "label=x"]):
            plan = answer("data", "set", "kinds", *words, "--dry-run", *options)["data"]["plan"]
            assert plan["rows"] == {"kinds": 1} | followed
            assert plan["destructive"]
            assert not any("change label" in step for step in plan["steps"])
            answer("data", "set", "kinds", *words, *options, status=6)  # the confirmation is missing
            assert database.content() == before
            changed = answer("data", "set", "kinds", *words, "--yes", *options)["data"]
            assert changed["followed"] == followed
            after = database.content()
            assert after["drafts"] != before["drafts"]
            for content in (before, after, before):
                answer("undo", str(find_newest(answer)), "--yes", *options)
                assert database.content() == content


@pytest.mark.parametrize("engine", KINDS)
def test_rows_that_refer_to_a_changed_login_are_planned_and_restored(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "club.toml").write_text(CLUB)
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique)",
            "create table tokens (id integer primary key, person integer)",
            "create table posts (id integer primary key, author varchar(9),"
            " foreign key (author) references people (login) on update set null)",
            "insert into people values (1, 'ann')",
            "insert into posts values (1, 'ann')",
        )
        options = ["--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}"]
        before = database.content()
        words = ["users", "update", "ann", "--set", "login=eva"]
        plan = answer(*words, "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"people": 1, "posts": 1}
        assert plan["steps"] == [
            "change login of ann",
            "set author of 1 row of posts to NULL, by its foreign key",
        ]
        assert answer(*words, *options, status=6)["error"]["code"] == "confirmation-missing"
        assert database.content() == before
        answer(*words, "--yes", *options)
        assert database.content()["posts"] == ["(1, None)"]
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == before


def test_users_that_refer_to_the_name_of_a_role_are_planned_and_restored(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "club.toml").write_text(
        CLUB + '[users.role]\ncolumn = "role"\ntable = "roles"\nkey = "name"\nname = "name"\n'
        '[roles]\ntable = "roles"\nkey = "id"\nfields = { name = "name" }\n'
    )
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table roles (id integer primary key, name text not null unique)",
            "create table people (id integer primary key, login text,"
            " role text references roles (name) on update cascade)",
            "create table tokens (id integer primary key, person integer)",
            "insert into roles values (1, 'boss'), (2, 'cook')",
            "insert into people values (1, 'ann', 'boss'), (2, 'bob', 'cook')",
        )
        options = ["--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}"]
        before = database.content()
        words = ["roles", "update", "cook", "--name", "chef"]
        assert answer(*words, "--dry-run", *options)["data"]["plan"]["rows"] == {"roles": 1, "people": 1}
        answer(*words, *options)
        assert "(2, 'bob', 'chef')" in database.content()["people"]
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == before


def test_references_to_the_name_of_a_role_that_become_null_need_a_confirmation(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", "off")
    (tmp_path / "club.toml").write_text(
        CLUB + '[users.role]\ncolumn = "role"\ntable = "roles"\nkey = "id"\nname = "name"\n'
        '[roles]\ntable = "roles"\nkey = "id"\nfields = { name = "name" }\n'
    )
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table roles (id integer primary key, name text not null unique)",
            "create table people (id integer primary key, login text, role integer)",
            "create table tokens (id integer primary key, person integer)",
            "create table badges (id integer primary key, role text references roles (name) on update set null)",
            "insert into roles values (1, 'boss'), (2, 'cook')",
            "insert into badges values (1, 'cook')",
        )
        options = ["--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}"]
        words = ["roles", "update", "cook", "--name", "chef"]
        assert answer(*words, *options, status=6)["error"]["code"] == "confirmation-missing"
        assert database.content()["badges"] == ["(1, 'cook')"]
        answer(*words, "--yes", *options)
        assert database.content()["badges"] == ["(1, None)"]


@pytest.mark.parametrize("engine", KINDS)
def test_undo_plans_later_rows_that_foreign_keys_change(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table kinds (id integer primary key, code varchar(9) unique)",
            "create table notes (id integer primary key, kind varchar(9),"
            " foreign key (kind) references kinds (code) on update cascade)",
            "insert into kinds values (1, 'a')",
            "insert into notes values (1, 'a')",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        answer("data", "set", "kinds", "1", "code=c", "--yes", *options)
        database.run("insert into notes values (2, 'c')")
        plan = answer("undo", str(find_newest(answer)), "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"kinds": 1, "notes": 2}
        assert plan["steps"][-1] == "change kind of 1 row of notes, by its foreign key"
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content()["notes"] == ["(1, 'a')", "(2, 'a')"]


@pytest.mark.parametrize("engine", KINDS)
def test_changed_keys_of_referring_rows_cannot_be_undone(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table kinds (id integer primary key, code varchar(9) not null unique)",
            "create table links (kind varchar(9) not null, number integer, primary key (kind, number),"
            " foreign key (kind) references kinds (code) on update cascade)",
            "insert into kinds values (1, 'a')",
            "insert into links values ('a', 7)",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        plan = answer("data", "set", "kinds", "1", "code=c", "--dry-run", *options)["data"]["plan"]
        assert plan["steps"][-1].endswith("undo will be impossible, because keys of rows change")
        answer("data", "set", "kinds", "1", "code=c", "--yes", *options)
        after = database.content()
        error = answer("undo", str(find_newest(answer)), "--yes", *options, status=6)["error"]
        assert "keys of rows were changed" in error["message"]
        assert database.content() == after


def test_deletion_is_refused_if_a_trigger_skips_rows_that_foreign_keys_delete(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("postgresql", tmp_path / "app.db") as database:
        database.run(
            "create table users (id integer primary key)",
            "create table homes (id integer primary key, owner integer references users (id) on delete cascade)",
            "insert into users values (1), (2)",
            "insert into homes values (10, 1), (11, 1)",
            "create function skip() returns trigger language plpgsql as 'begin return null; end'",
            "create trigger skip before delete on homes for each row when (old.id = 11) execute function skip()",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        error = answer("data", "delete", "users", "1", "--yes", *options, status=6)["error"]
        assert "1 row of homes remained" in error["message"]
        assert database.content() == before
        answer("data", "delete", "users", "2", "--yes", *options)


@pytest.mark.parametrize(
    ("engine", "check"), [("sqlite", ""), ("postgresql", "deferrable"), ("postgresql", ""), ("mysql", "")]
)
def test_deleted_cycle_without_null_needs_deferred_checks(answer, tmp_path, monkeypatch, engine, check):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        columns = "(id integer primary key, other integer not null{})"
        if engine == "sqlite":
            database.run(
                *(
                    f"create table {table} "
                    + columns.format(
                        f" references {other} (id) on delete cascade deferrable initially deferred"
                    )
                    for table, other in (("users", "homes"), ("homes", "users"))
                ),
                "begin",
                "insert into users values (1, 10)",
                "insert into homes values (10, 1)",
                "commit",
            )
        else:
            database.run(
                *(f"create table {table} {columns.format('')}" for table in ("users", "homes")),
                "insert into users values (1, 10)",
                "insert into homes values (10, 1)",
                "alter table users add foreign key (other) references homes (id) on delete cascade " + check,
                "alter table homes add foreign key (other) references users (id) on delete cascade " + check,
            )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        answer("data", "delete", "users", "1", "--yes", *options)
        number = str(find_newest(answer))
        if engine == "sqlite" or check:
            answer("undo", number, "--yes", *options)
            assert database.content() == before
        else:
            error = answer("undo", number, "--dry-run", *options, status=6)["error"]
            assert "homes and users refer to each other" in error["message"]


def test_row_whose_texts_are_not_utf8_is_deleted_and_restored(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table notes (name text primary key, list text) without rowid",
            "insert into notes values (cast(x'fe' as text), cast(x'5bfe' as text))",  # as a list in JSON begins
        )
        url = ("--url", f"main={database.url}")
        answer("data", "delete", "notes", "\udcfe", "--yes", *url)
        assert database.rows("select count(*) from notes") == [(0,)]
        answer("undo", str(find_newest(answer)), "--yes", *url)
        assert database.rows("select hex(name), hex(list) from notes") == [("FE", "5BFE")]
    assert answer("audit", "verify")["data"]["findings"] == []


@pytest.mark.parametrize("engine", KINDS)
def test_generated_columns_are_computed_again(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table sums (id integer primary key, a integer, twice integer generated always as (a * 2) stored)",
            "insert into sums (id, a) values (1, 4), (2, 5)",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        for command in (["delete", "sums", "1", "--yes"], ["set", "sums", "2", "a=9"]):
            answer("data", *command, *options)
            assert database.content() != before
            answer("undo", str(find_newest(answer)), "--yes", *options)
            assert database.content() == before


def test_row_with_a_generated_key_is_restored(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("postgresql", tmp_path) as database:  # others allow no such key
        database.run(
            "create table sums (id integer generated always as (a * 2) stored primary key, a integer, note text)",
            "insert into sums (a, note) values (1, 'x'), (2, 'y')",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        answer("data", "delete", "sums", "4", "--yes", *options)
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == before


@pytest.mark.parametrize("command", ["set", "delete"])
def test_value_of_a_column_that_is_generated_now_is_not_restored(answer, tmp_path, monkeypatch, command):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url(str(tmp_path / "app.db"))
    database.run(
        "create table notes (id integer primary key, note text)", "insert into notes values (1, 'old')"
    )
    options = ["--profile", "plain", "--url", f"main={database.url}"]
    words = {"set": ["set", "notes", "1", "note=new"], "delete": ["delete", "notes", "1"]}
    answer("data", *words[command], "--yes", *options)
    database.run(
        "create table later (id integer primary key, note text as ('new') stored)",
        "insert into later (id) select id from notes",
        "drop table notes",
        "alter table later rename to notes",
    )
    number = str(find_newest(answer))
    if command == "set":
        error = answer("undo", number, "--yes", *options, status=6)["error"]
        assert (error["code"], "another schema" in error["message"]) == ("undo-impossible", True)
    else:
        result = answer("undo", number, "--yes", *options)
        assert result["data"]["differing"] == {"notes": ["note"]}


@pytest.mark.parametrize("other", ["words", "at"])
def test_value_of_another_column_than_the_one_that_is_generated_now_is_restored(
    answer, tmp_path, monkeypatch, other
):
    """The time of a change alone is not restored."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url(str(tmp_path / "app.db"))
    database.run(
        f"create table notes (id integer primary key, note text, {other} text)",
        "insert into notes values (1, 'old', 'first')",
    )
    (tmp_path / "notes.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "notes"\ntitle = "Notes"\n[databases.main]\nengines = ["sqlite"]\nupdated_at = "at?"\n'
    )
    options = ["--profile", str(tmp_path / "notes.toml"), "--url", f"main={database.url}"]
    answer("data", "set", "notes", "1", "note=new", f"{other}=2026-01-31T12:00:00Z", *options)
    database.run(
        f"create table later (id integer primary key, note text as ('other') stored, {other} text)",
        f"insert into later (id, {other}) select id, {other} from notes",
        "drop table notes",
        "alter table later rename to notes",
    )
    number = str(find_newest(answer))
    if other == "at":
        error = answer("undo", number, "--yes", *options, status=6)["error"]
        assert (error["code"], "another schema" in error["message"]) == ("undo-impossible", True)
    else:
        answer("undo", number, "--yes", *options)
        assert database.rows("select words from notes") == [("first",)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_added_cycle_of_tables_is_deleted(answer, tmp_path, monkeypatch, engine):
    """Neither order of deletions meets the foreign keys, which are checked at the end."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        reference = "references {} (id) deferrable initially deferred"
        database.run("create table users (id integer primary key, home integer)")
        database.run(
            f"create table homes (id integer primary key, owner integer {reference.format('users')})"
        )
        if engine == "sqlite":
            database.run(
                "drop table users",
                f"create table users (id integer primary key, home integer {reference.format('homes')})",
            )
        else:
            database.run(f"alter table users add foreign key (home) {reference.format('homes')}")
        (tmp_path / "rows.jsonl").write_text(
            '{"table": "users", "row": {"id": 1, "home": 10}}\n{"table": "homes", "row": {"id": 10, "owner": 1}}\n'
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        before = database.content()
        answer("data", "import", str(tmp_path / "rows.jsonl"), *options)
        added = database.content()
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == before
        answer("undo", str(find_newest(answer)), "--yes", *options)
        assert database.content() == added


@pytest.mark.parametrize("engine", KINDS)
def test_only_rows_that_refer_to_a_sign_in_stay_deleted(answer, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "club.toml").write_text(CLUB)
    person = "person integer not null, foreign key (person) references people (id) on delete cascade"
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique)",
            f"create table tokens (token varchar(9) primary key, {person})",
            f"create table devices (id integer primary key, token varchar(9), {person},"
            " foreign key (token) references tokens (token) on delete cascade)",
            "insert into people values (1, 'ida'), (2, 'bo')",
            "insert into tokens values ('a', 1), ('b', 2)",
            "insert into devices values (1, 'a', 1), (2, null, 1), (3, 'b', 1), (4, 'b', 2)",
        )
        options = ["--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}"]
        answer("users", "delete", "ida", "--yes", *options)
        assert database.rows("select id from devices") == [(4,)]
        number = str(find_newest(answer))
        undone = answer("undo", number, "--yes", *options)["data"]
        assert undone["rows"] == {"people": 1, "devices": 2}
        assert (undone["ended_sessions"], undone["without_password"]) == (0, 0)
        assert database.rows("select id, token from devices order by id") == [(2, None), (3, "b"), (4, "b")]
        assert database.rows("select token from tokens") == [("b",)]


def test_rows_of_a_table_that_also_has_sign_ins_are_restored(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    capabilities, factors = 'a:1:{s:6:"author";b:1;}', 'a:1:{i:0;s:15:"Two_Factor_Totp";}'
    kinds = {"nickname": "Eve", "wp_capabilities": capabilities, "session_tokens": 'a:1:{s:1:"x";i:1;}'}
    kinds |= {"_two_factor_enabled_providers": factors, "_two_factor_totp_key": "ABCDEFGH"}
    with empty_database("mysql", tmp_path / "none") as database:
        database.run(*WORDPRESS_TABLES.strip(";\n").split(";\n"))
        database.run(
            "alter table wp_users alter user_pass set default '', alter user_activation_key set default ''",
            "insert into wp_users values (1, 'admin', '$P$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0', 'admin', 'a@example.org', '', now(), '', 0, 'A')",
            "insert into wp_usermeta values (1, 1, 'wp_capabilities', 'a:1:{s:13:\"administrator\";b:1;}')",
            "insert into wp_users values (2, 'eve', '$P$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0', 'eve', 'eve@example.org', '', now(), '', 0, 'Eve')",
            *(
                f"insert into wp_usermeta values ({number}, 2, '{key}', '{value}')"
                for number, (key, value) in enumerate(kinds.items(), 10)
            ),
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.a]\nprofile = "wordpress"\ndatabases = "{database.url}"\n'
        )

        def read():
            return dict(database.rows("select meta_key, meta_value from wp_usermeta where user_id = 2"))

        del kinds["session_tokens"]
        answer("users", "set-role", "eve", "editor")
        assert "session_tokens" not in read()
        answer("undo", str(find_newest(answer)), "--yes")
        assert read() == kinds
        answer("users", "delete", "eve", "--yes")
        warnings = answer("undo", str(find_newest(answer)), "--yes")["warnings"]
        assert [warning for warning in warnings if "users set-password" in warning]
        lost = {"_two_factor_totp_key", "_two_factor_enabled_providers"}
        assert {key: value for key, value in read().items() if value} == {
            key: value for key, value in kinds.items() if key not in lost
        }
        assert answer("users", "show", "eve")["data"]["role"] == "author"


def test_deletion_in_a_table_that_others_inherit_is_not_undone_without_their_columns(
    answer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("postgresql", tmp_path / "none") as database:
        database.run(
            "create table places (id integer primary key, name text)",
            "create table cities (mayor text) inherits (places)",
            "insert into cities values (1, 'Ulm', 'Ann')",
            "create table days (day date primary key, note text) partition by range (day)",
            "create table days_of_today partition of days default",
            "insert into days values ('2026-01-01', 'x')",
        )
        (tmp_path / "dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        before = database.content()
        answer("data", "set", "places", "1", "name=Bonn")
        answer("undo", str(find_newest(answer)), "--yes")
        answer("data", "delete", "days", "2026-01-01", "--yes")
        answer("undo", str(find_newest(answer)), "--yes")
        assert database.content() == before
        steps = answer("data", "delete", "places", "1", "--dry-run")["data"]["plan"]["steps"]
        assert "undo will be impossible" in steps[-1]
        answer("data", "delete", "places", "1", "--yes")
        assert (
            answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]["code"] == "undo-impossible"
        )
        assert database.rows("select * from places") == []


def test_hint_for_a_restore_names_the_backups_from_before_restores(answer, tmp_path, monkeypatch):
    """The last safety backup may be older than the restore: after ``restore undo``, later changes would be lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    file = File(tmp_path / "app.db")
    file.run("create table t (id integer primary key, v text)", "insert into t values (1, 'a'), (2, 'b')")
    sections = '[apps.a]\nprofile = "plain"\ndatabases = "app.db"\nbackup.repository = "backups"\n'
    (tmp_path / "dbctl.toml").write_text(sections)
    stored = answer("backup", "create")["data"]["id"]
    answer("data", "set", "t", "1", "v=changed")
    answer("restore", "apply", stored, "--table", "t", "--merge", "replace", "--yes")
    answer("data", "delete", "t", "2", "--yes")
    answer("data", "set", "t", "1", "v=later")
    answer("restore", "apply", stored, "--table", "t", "--merge", "missing", "--yes")
    hint = answer("undo", str(find_newest(answer)), "--yes", status=6)["error"]["hint"]
    assert "backup list --kind safety" in hint
    assert "restore undo" not in hint
    assert file.rows("select v from t order by id") == [("later",), ("b",)]
