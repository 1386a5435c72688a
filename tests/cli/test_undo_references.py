"""Undo of rows that refer to rows which are not restored, of rows that triggers change, and of sign-ins."""

from __future__ import annotations

import json

import pytest

from tests.databases import empty_database
from tests.services.rules.test_rows import HASH

KINDS = ("sqlite", "postgresql", "mysql")
PROFILE = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
secret = ["machines.api_key"]
updated_at = "changed_at"
[users]
admin = false
table = "people"
id = { column = "id" }
login = ["login"]
fields = { login = "login", email = "mail" }
on_sign_out = { valid_from = ":now" }
password = { column = "passwd", writes = "$2b$04$" }
[[users.signed_in]]
table = "tokens"
user = "person"
"""
#: Rows of ended sessions, to which rows of other tables refer, are never restored.
PEOPLE = (
    "create table people (id integer primary key, login varchar(9) not null unique, mail varchar(99),"
    " passwd varchar(99) not null, valid_from varchar(40) not null, boss integer,"
    " foreign key (boss) references people (id) on delete set null)"
)
PERSON = "person integer not null, foreign key (person) references people (id) on delete cascade"
TOKEN = "foreign key (token) references tokens (token) on delete"


class Club:
    """A database with people and their sessions, and commands with its profile."""

    def __init__(self, database, folder, answer):
        self.database, self._answer = database, answer
        self._profile = folder / "club.toml"
        self.write_profile(PROFILE)
        self._options = ["--yes", "--profile", str(self._profile), "--url", f"main={database.url}"]
        self.run = database.run
        self.rows = database.rows
        self.run(
            PEOPLE,
            f"create table tokens (token varchar(9) primary key, {PERSON})",
            *(
                f"insert into people values ({key}, '{login}', null, '{HASH}', '2026', {boss})"
                for key, login, boss in ((1, "ida", "null"), (2, "bo", 1))
            ),
            "insert into tokens values ('a', 1), ('b', 2), ('0', 2)",
        )

    def write_profile(self, text):
        self._profile.write_text(text)

    def change(self, *words):
        """Run a command; return the number of its operation."""
        self._answer(*words, *self._options)
        return self.newest()

    def newest(self):
        return str(self._answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"])

    def announce(self, *words):
        """Return the rows that undo will not restore by the plan of a command."""
        steps = (step.partition("undo will not restore the rows of ")[2] for step in self.list_steps(*words))
        return [rows for rows in steps if rows]

    def list_steps(self, *words):
        """Return the steps of the plan of a command."""
        return self._answer(*words, "--dry-run", *self._options)["data"]["plan"]["steps"]

    def undo(self, number, *options, status=0):
        answer = self._answer("undo", number, *options, *self._options, status=status)
        self.warnings = answer.get("warnings", [])
        return answer["error"] if status else answer["data"]

    def plan(self, number, *options):
        return self._answer("undo", number, "--dry-run", *options, *self._options)["data"]["plan"]


@pytest.fixture(params=KINDS)
def club(request, tmp_path, monkeypatch, answer):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(request.param, tmp_path / "club.db") as database:
        yield Club(database, tmp_path, answer)


@pytest.fixture
def lite(tmp_path, monkeypatch, answer):
    """The club in SQLite, for what does not depend on the engine."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        yield Club(database, tmp_path, answer)


def test_only_restored_users_without_password_are_counted(club):
    before = "select id, login, valid_from, boss from people order by id"
    rows = club.rows(before)
    number = club.change("users", "delete", "ida")
    assert club.rows("select boss from people") == [(None,)]
    undone = club.undo(number)
    assert (undone["without_password"], undone["rows"]) == (1, {"people": 2})
    assert [warning.partition(" restored")[0] for warning in club.warnings] == ["1 user", "not"]
    assert club.rows(before) == rows
    assert club.rows("select passwd from people where id = 2") == [(HASH,)]


def test_default_of_the_column_is_no_password_of_a_restored_user(club):
    """An empty text would be a password that the app never writes, and that checks report."""
    alter = {
        "sqlite": "drop table tokens; drop table people;"
        + PEOPLE.replace("passwd varchar(99) not null", "passwd varchar(99) not null default ''"),
        "postgresql": "alter table people alter passwd set default ''",
        "mysql": "alter table people alter passwd set default ''",
    }[club.database.engine]
    club.run(*alter.split(";"))
    if club.database.engine == "sqlite":
        club.run(f"insert into people values (1, 'ida', null, '{HASH}', '2026', null)")
    club.run(f"insert into people values (3, 'eva', null, '{HASH}', '2026', null)")
    number = club.change("users", "delete", "eva")
    assert (
        "set a random password for restored users: the log has no password hashes"
        in club.plan(number)["steps"]
    )
    assert club.undo(number)["without_password"] == 1
    assert [warning.partition(" restored")[0] for warning in club.warnings] == ["1 user"]
    ((password,),) = club.rows("select passwd from people where id = 3")
    assert password.startswith("$2b$04$")
    assert password != HASH


@pytest.mark.parametrize("default", ["", " default ''"])
def test_deleted_rows_without_their_secret_are_not_restored(lite, default):
    """With the default instead, a machine would have an empty key."""
    lite.run(
        f"create table machines (id integer primary key, name varchar(9), api_key varchar(9) not null{default})",
        "insert into machines values (1, 'lathe', 'k1'), (2, 'saw', 'k2')",
    )
    words = ("data", "delete", "machines", "--filter", "id=1")
    assert lite.announce(*words) == ["machines, which require api_key"]
    number = lite.change(*words)
    error = lite.undo(number, status=6)
    assert error["code"] == "undo-impossible"
    assert "the log lacks secrets of the deleted rows: machines.api_key" in error["message"]
    assert lite.rows("select * from machines") == [(2, "saw", "k2")]


def test_undo_of_a_new_password_does_not_make_old_sign_ins_valid(club):
    steps = club.list_steps("users", "set-password", "ida", "--generate")
    assert "undo will be impossible: the log has no secrets" in steps
    number = club.change("users", "set-password", "ida", "--generate")
    query = "select valid_from, passwd from people where id = 1"
    rows = club.rows(query)
    assert rows[0][0] != "2026"
    assert club.undo(number, status=6)["code"] == "undo-impossible"
    assert club.rows(query) == rows


@pytest.mark.parametrize(
    ("table", "restored"),
    [
        (f"token varchar(9), {TOKEN} set null", [(1, None), (2, "b")]),
        (f"token varchar(9), {TOKEN} cascade", [(2, "b")]),
        (f"token varchar(9) not null default '0', {TOKEN} set default", [(2, "b")]),
    ],
)
def test_deleted_row_is_restored_if_it_can_exist_without_the_session(lite, table, restored):
    lite.run(
        f"create table devices (id integer primary key, owner integer references people (id) on delete cascade, {table})",
        "insert into devices values (1, 1, 'a'), (2, 1, 'b')",
    )
    number = lite.change("users", "delete", "ida")
    assert lite.rows("select * from devices") == []
    assert lite.undo(number)["rows"]["devices"] == len(restored)
    assert lite.rows("select id, token from devices order by id") == restored


def test_plan_announces_rows_below_a_session(club):
    """They are deleted with it, and stay deleted."""
    club.run(
        f"create table devices (id integer primary key, token varchar(9), {TOKEN} cascade)",
        "create table places (id integer primary key, device integer not null,"
        " foreign key (device) references devices (id) on delete cascade)",
        f"create table labels (id integer primary key, token varchar(9), {TOKEN} set null)",
        "insert into devices values (1, 'b')",
        "insert into places values (1, 1)",
        "insert into labels values (1, 'b')",
    )
    assert club.announce("sessions", "revoke", "bo") == [
        "devices that refer to rows of tokens",
        "places that refer to rows of devices",
    ]
    club.run("delete from places", "delete from devices")
    assert club.announce("sessions", "revoke", "bo") == []
    assert club.undo(club.change("sessions", "revoke", "bo"), status=6)["code"] == "undo-impossible"


@pytest.mark.parametrize("words", [["b"], ["--filter", "person=2"]], ids=" ".join)
def test_plan_of_deleted_sessions_announces_that_undo_is_impossible(club, words):
    """The plan of other deletions announces only their rows."""
    steps = club.list_steps("data", "delete", "tokens", *words)
    assert steps[-1] == "undo will be impossible: it restores no rows of tokens"
    number = club.change("data", "delete", "tokens", *words)
    assert club.undo(number, status=6)["code"] == "undo-impossible"
    assert club.announce("users", "delete", "ida") == ["tokens"]
    assert club.announce("data", "delete", "people", "1") == ["tokens"]


@pytest.mark.parametrize(
    ("kind", "is_impossible"), [("'web'", True), ("'app'", True), ("'api'", False), ("null", False)]
)
def test_plan_of_deleted_sessions_distinguishes_other_rows_of_their_table(club, kind, is_impossible):
    """A column that the table lacks does not distinguish them."""
    section = '[[users.signed_in]]\ntable = "logins"\nuser = "person"\n'
    kinds = [f'{section}only = {{ kind = "{only}", "newer?" = 1 }}\n' for only in ("web", "app")]
    club.write_profile("".join([PROFILE, *kinds]))
    club.run(f"create table logins (id integer primary key, kind varchar(9), {PERSON})")
    club.run(f"insert into logins values (1, {kind}, 2), (2, 'web', 2)")
    words = ("data", "delete", "logins", "1")
    announced = "undo will be impossible: it restores no rows of logins" in club.list_steps(*words)
    assert announced == is_impossible
    club.undo(club.change(*words), status=6 if is_impossible else 0)


@pytest.mark.parametrize(("above", "below"), [("devices", "places"), ("places", "devices")])
@pytest.mark.parametrize("is_older", [False, True])
def test_row_below_a_row_that_stays_deleted_stays_deleted(lite, above, below, is_older):
    """Also if it refers to the row by several columns, of which one is NULL in another row."""
    sessions = [
        "drop table tokens",
        f"create table tokens (token varchar(9) primary key, {PERSON})",
        "insert into tokens values ('a', 1)",
    ]
    lite.run(
        *([] if is_older else sessions),
        f"create table {above} (id integer, part integer, token varchar(9), {PERSON.replace(' not null', '')},"
        f" primary key (id, part), {TOKEN} cascade)",
        f"create table {below} (id integer primary key, owner integer references people (id) on delete cascade,"
        f" device integer, part integer, foreign key (device, part) references {above} (id, part) on delete cascade)",
        *(sessions if is_older else []),
        f"insert into {above} (id, part, token, person) values (1, 1, 'a', 1), (1, 2, null, 1)",
        f"insert into {below} values (1, 1, 1, 1), (2, 1, 1, 2), (3, 1, 1, null), (4, 2, 1, 1)",
    )
    number = lite.change("users", "delete", "ida")
    assert lite.rows(f"select * from {below}") == []
    lite.undo(number)
    assert lite.rows(f"select id, part, token from {above}") == [(1, 2, None)]
    assert lite.rows(f"select id, owner, device, part from {below} order by id") == [
        (2, 1, 1, 2),
        (3, 1, 1, None),
    ]


@pytest.mark.parametrize("action", ["set null", "cascade"])
def test_changed_row_is_restored_without_the_reference_to_a_session(lite, action):
    lite.run(
        f"create table notes (id integer primary key, token varchar(9), note varchar(9), {TOKEN} {action})",
        "create trigger lose before delete on tokens begin"
        " update notes set token = null, note = 'lost' where token = old.token; end",
        "insert into notes values (1, 'a', 'home'), (2, 'b', 'work')",
    )
    number = lite.change("users", "delete", "ida")
    assert lite.rows("select * from notes") == [(1, None, "lost"), (2, "b", "work")]
    assert lite.undo(number)["rows"] == {"people": 2, "notes": 1}
    assert lite.rows("select * from notes") == [(1, None, "home"), (2, "b", "work")]


def test_time_of_a_change_is_not_restored_without_another_column(lite):
    lite.run(
        f"create table notes (id integer primary key, token varchar(9), changed_at varchar(9), {TOKEN} set null)",
        "create trigger mark before delete on tokens begin update notes set changed_at = 'new'; end",
        "insert into notes values (1, 'a', 'old')",
    )
    number = lite.change("users", "delete", "ida")
    assert lite.undo(number)["rows"] == {"people": 2}
    assert lite.rows("select * from notes") == [(1, None, "new")]


def test_time_of_a_change_is_restored_if_nothing_else_was_changed(lite):
    lite.run(
        "create table notes (id integer primary key, changed_at varchar(30))",
        "insert into notes values (1, '2026-01-31T12:00:00Z')",
    )
    number = lite.change("data", "set", "notes", "1", "changed_at=2026-02-01T12:00:00Z")
    assert lite.rows("select changed_at from notes") == [("2026-02-01T12:00:00.000Z",)]
    lite.undo(number)
    assert lite.rows("select changed_at from notes") == [("2026-01-31T12:00:00Z",)]


def test_inserted_row_is_not_changed_afterwards(lite):
    """An app may refuse every change of such rows by a trigger."""
    lite.run("create table notes (id integer primary key)", "insert into notes values (1)")
    number = lite.change("data", "delete", "notes", "1")
    lite.run("create trigger final before update on notes begin select raise(abort, 'final'); end")
    lite.undo(number)
    assert lite.rows("select * from notes") == [(1,)]


def test_rows_that_need_a_secret_stay_deleted_and_others_are_restored(club):
    club.run(
        f"create table machines (id integer primary key, api_key varchar(99) not null, {PERSON})",
        "create table reports (id integer primary key, machine integer, author integer,"
        " foreign key (machine) references machines (id) on delete cascade,"
        " foreign key (author) references people (id) on delete set null)",
        "insert into machines values (1, 'sesame', 1)",
        "insert into reports values (1, 1, 1), (2, null, 1)",
    )
    announced = club.announce("users", "delete", "ida")
    assert announced == [
        "tokens",
        "machines, which require api_key",
        "reports that refer to rows of machines",
    ]
    number = club.change("users", "delete", "ida")
    plan = club.plan(number)
    assert plan["rows"] == {"people": 2, "reports": 1}
    assert any("do not restore 1 row of machines" in step for step in plan["steps"])
    undone = club.undo(number)
    assert undone["rows"] == {"people": 2, "reports": 1}
    assert sorted(undone["omitted"]) == ["1 row of machines", "1 row of reports", "1 row of tokens"]
    assert club.rows("select * from machines") == []
    assert club.rows("select * from reports") == [(2, None, 1)]


def test_deleted_row_is_restored_without_its_secret_only_if_the_user_decides_it(club):
    """A shared link without its password is open to each visitor."""
    club.run(
        f"create table machines (id integer primary key, name varchar(9) not null, api_key varchar(99), {PERSON})",
        "insert into machines values (1, 'desk', 'sesame', 1), (2, 'open', null, 1)",
    )
    announced = [step for step in club.list_steps("users", "delete", "ida") if "--without-secrets" in step]
    assert announced == ["undo will require --without-secrets if deleted rows of machines had such secrets"]
    number = club.change("users", "delete", "ida")
    for options in ([], ["--dry-run"]):
        error = club.undo(number, *options, status=6)
        assert error["code"] == "undo-secrets"
        assert error["message"].endswith("machines.api_key")
        assert f"undo {number} --without-secrets" in error["hint"]
        assert club.rows("select * from machines") == club.rows("select * from people where id = 1") == []
    plan = club.plan(number, "--without-secrets")
    assert "insert the deleted row machines id=1; api_key not restored" in plan["steps"]
    omitted = club.undo(number, "--without-secrets")["omitted"]
    assert sorted(omitted) == ["1 row of tokens", "api_key of machines"]
    assert club.warnings[-1] == f"not restored: {'; '.join(omitted)}"
    rows = club.rows("select * from machines order by id")
    assert rows == [(1, "desk", None, 1), (2, "open", None, 1)]


def test_deleted_row_that_had_no_secret_is_restored_without_a_decision(club):
    club.run(
        "create table machines (id integer primary key, api_key varchar(99))",
        "insert into machines values (1, null)",
    )
    number = club.change("data", "delete", "machines", "1")
    assert club.undo(number)["omitted"] == []
    assert club.rows("select * from machines") == [(1, None)]


def test_closing_lines_of_an_undo_name_the_secrets_of_changed_rows(lite):
    lite.run(
        "create table machines (id integer primary key, name varchar(9), api_key varchar(99))",
        "create trigger lock after update of name on machines begin"
        " update machines set api_key = 'new' where id = new.id; end",
        "insert into machines values (1, 'desk', 'sesame')",
    )
    number = lite.change("data", "set", "machines", "1", "name=disk")
    assert lite.undo(number)["omitted"] == ["api_key of machines"]
    assert lite.warnings == ["not restored: api_key of machines"]
    assert lite.rows("select name, api_key from machines") == [("desk", "new")]


def test_plan_names_fifty_rows_of_a_table_and_counts_the_others(lite, tmp_path):
    lite.run("create table notes (id integer primary key)")
    for rows, further in ((50, []), (51, ["restore 1 further row of notes"])):
        path = tmp_path / "notes.jsonl"
        path.write_text("".join(json.dumps({"id": number}) + "\n" for number in range(rows)))
        number = lite.change("data", "import", "notes", str(path))
        steps = lite.plan(number)["steps"]
        assert steps[:50] == [f"delete the row notes id={key}" for key in range(50)]
        assert steps[50:] == further
        lite.undo(number)
        assert lite.rows("select * from notes") == []


# Triggers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "differing", "stored"),
    [("update of title", {}, "old"), ("update", {"notes": ["stamp"]}, "new")],
)
def test_values_that_a_trigger_changes_are_written_again(lite, event, differing, stored):
    """A trigger of all updates prevails, and the result names its column."""
    lite.run(
        "create table notes (id integer primary key, title varchar(9), stamp varchar(9))",
        f"create trigger mark after {event} on notes begin update notes set stamp = 'new' where id = new.id; end",
        "insert into notes values (1, 'first', 'old')",
    )
    number = lite.change("data", "set", "notes", "1", "title=other")
    assert lite.rows("select * from notes") == [(1, "other", "new")]
    undone = lite.undo(number)
    assert (undone["differing"], undone["rows"]) == (differing, {"notes": 1})
    assert len(lite.warnings) == len(differing)
    assert lite.rows("select * from notes") == [(1, "first", stored)]


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (["data", "add", "notes", "id=2", "title=new"], "delete"),
        (["data", "set", "notes", "1", "title=new"], "update"),
    ],
)
def test_rows_that_a_trigger_does_not_let_undo_change_are_an_error(lite, command, event):
    lite.run(
        "create table notes (id integer primary key, title varchar(9))", "insert into notes values (1, 'a')"
    )
    number = lite.change(*command)
    rows = lite.rows("select * from notes")
    lite.run(f"create trigger skip before {event} on notes begin select raise(ignore); end")
    error = lite.undo(number, status=6)
    assert error["code"] == "constraint"
    assert "0 of 1 row" in error["message"]
    assert lite.rows("select * from notes") == rows


# Rows that refer to rows of the operation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parents", "count"), [([12], "1 row"), ([12, 303], "2 rows"), ([12, 13, 303, 304, 305], "5 rows")]
)
def test_rows_that_refer_to_added_rows_since_are_a_conflict(club, tmp_path, parents, count):
    """The added rows also refer to each other; those that do are no conflict."""
    reference = "parent integer, foreign key (parent) references notes (id) on delete cascade"
    club.run(
        f"create table notes (id integer primary key, {reference})", "insert into notes values (1, null)"
    )
    lines = [{"id": key, "parent": 10 if key > 10 else None} for key in range(10, 310)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    number = club.change("data", "import", "notes", str(tmp_path / "notes.jsonl"))
    club.run(*(f"insert into notes values ({1000 + key}, {key})" for key in parents))
    content = club.database.content()
    error = club.undo(number, status=6)
    assert error["code"] == "undo-conflict"
    assert f"\n{count} of main.notes refer to new rows of notes" in error["message"]
    assert club.database.content() == content
    club.run("delete from notes where id > 1000")
    club.undo(number)
    assert club.rows("select * from notes") == [(1, None)]


def test_row_of_the_operation_that_refers_to_an_added_row_since_is_a_conflict(lite):
    """Undo restores another column of it, so that it would lose the reference."""
    reference = "folder integer, foreign key (folder) references folders (id) on delete set null"
    lite.run(
        "create table folders (id integer primary key)",
        f"create table notes (id integer primary key, title varchar(9), {reference})",
        "create trigger copy after insert on folders begin update notes set title = 'copied'; end",
        "insert into notes values (1, 'old', null)",
    )
    number = lite.change("data", "add", "folders", "id=7")
    lite.run("update notes set folder = 7")
    error = lite.undo(number, status=6)
    assert error["code"] == "undo-conflict"
    assert "\n1 row of main.notes refer to new rows of folders" in error["message"]
    assert lite.rows("select * from notes") == [(1, "copied", 7)]


def test_row_that_refers_to_a_restored_row_in_another_column_is_a_conflict(club):
    """Undo of the undo deletes the row again; only the restored reference to it is removed before."""
    person = "foreign key ({}) references people (id) on delete set null"
    club.run(
        "create table notes (id integer primary key, author integer, reviewer integer,"
        f" {person.format('author')}, {person.format('reviewer')})",
        "insert into notes values (1, 1, null), (2, 1, 2)",
    )
    club.undo(club.change("users", "delete", "ida"))
    number = club.newest()
    club.run("update notes set reviewer = 1 where id = 1")
    error = club.undo(number, status=6)
    assert error["code"] == "undo-conflict"
    assert "\n1 row of main.notes refer to new rows of people" in error["message"]
    club.run("update notes set reviewer = 2 where id = 1")
    club.undo(number)
    assert club.rows("select * from notes order by id") == [(1, None, 2), (2, None, 2)]


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_cycle_is_not_restored_without_its_references(club):
    """A reference is NULL until all rows exist, and a trigger prevents that it is written afterwards."""
    club.run(
        "create table users (id integer primary key, home integer)",
        "create table homes (id integer primary key, owner integer references users (id) on delete cascade)",
        "alter table users add foreign key (home) references homes (id) on delete cascade",
        "insert into users values (1, null)",
        "insert into homes values (10, 1)",
        "update users set home = 10",
    )
    number = club.change("data", "delete", "users", "1")
    assert club.rows("select * from homes") == []
    club.run(
        "create function skip() returns trigger language plpgsql as 'begin return null; end'",
        *(
            f"create trigger skip before update on {table} for each row execute function skip()"
            for table in ("users", "homes")
        ),
    )
    assert club.undo(number, status=6)["code"] == "constraint"
    assert club.rows("select * from users") == []
