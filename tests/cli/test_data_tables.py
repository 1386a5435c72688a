"""``data add``, ``set --filter`` and ``delete --filter`` on every engine, without a profile."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest

from tests import servers
from tests.databases import empty_database
from tests.engines import lance
from tests.shapes import chat_lancedb, promptvault

TABLES = {
    "sqlite": [
        "create table shelves (id integer primary key, name varchar(40) not null unique, floor varchar(10))",
        (
            "create table books (id integer primary key, title varchar(80) not null default 'untitled',"
            " pages integer check (pages > 0), state varchar(10), bought timestamp, shelf integer,"
            " foreign key (shelf) references shelves (id) on delete cascade)"
        ),
        "create index books_pages on books (pages, title)",
        "create table words (word text primary key)",
        "create trigger books_counted after delete on books begin select 1; end",
    ],
    "postgresql": [
        "create table shelves (id serial primary key, name varchar(40) not null unique, floor varchar(10))",
        (
            "create table books (id serial primary key, title varchar(80) not null default 'untitled',"
            " pages integer check (pages > 0), state varchar(10), bought timestamptz,"
            " shelf integer references shelves (id) on delete cascade)"
        ),
        "create index books_pages on books (pages, title)",
        "comment on table books is 'What stands on shelves'",
        "comment on column books.pages is 'Numbered ones'",
        "create function count_books() returns trigger language plpgsql as 'begin return old; end'",
        "create trigger books_counted after delete on books for each row execute function count_books()",
    ],
    "mysql": [
        "create table shelves (id int auto_increment primary key, name varchar(40) not null unique, floor varchar(10))",
        (
            "create table books (id int auto_increment primary key, title varchar(80) not null default 'untitled',"
            " pages int comment 'Numbered ones', check (pages > 0), state varchar(10), bought datetime, shelf int,"
            " foreign key (shelf) references shelves (id) on delete cascade) comment 'What stands on shelves'"
        ),
        "create index books_pages on books (pages, title)",
        "create trigger books_counted after delete on books for each row set @counted = 1",
    ],
}
ROWS = [
    "insert into shelves (name) values ('low')",
    (
        "insert into books (title, pages, state, shelf) values ('One', 10, 'new', 1), ('Two', 20, 'new', 1),"
        " ('Three', 30, 'old', null)"
    ),
]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow), "mysql"])
def engine(request):
    return request.param


@pytest.fixture
def dbctl(engine, tmp_path, monkeypatch, answer):
    """Run a command on a database with shelves and books; return its data, or its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run_on(address):
        def run(*words, status=0):
            response = answer("--url", address, *words, status=status)
            return response["error"] or response["data"]

        return run

    script = [*TABLES[engine], *ROWS]
    if engine == "sqlite":
        with closing(sqlite3.connect("books.db", isolation_level=None)) as connection:
            for sql in script:
                connection.execute(sql)
        yield run_on("books.db")
    elif engine == "postgresql":
        with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
            for sql in script:
                connection.execute(sql)
            yield run_on(servers.text(url))
    else:
        with servers.mysql_database() as url, closing(servers.mysql_connection(url)) as connection:
            with connection.cursor() as cursor:
                for sql in script:
                    cursor.execute(sql)
            yield run_on(servers.text(url))


def titles(dbctl, *words):
    return [row["title"] for row in dbctl("data", "rows", "books", *words)["items"]]


# Describing ------------------------------------------------------------------------------------------------------


def test_describe_shows_keys_checks_and_triggers(dbctl, engine):
    books = dbctl("schema", "show", "books")["tables"][0]
    assert (books["kind"], books["rows"], books["rows_estimated"]) == ("table", 3, False)
    assert books["primary_key"] == ["id"]
    columns = {column["name"]: column for column in books["columns"]}
    assert list(columns) == ["id", "title", "pages", "state", "bought", "shelf"]
    assert (columns["title"]["nullable"], columns["pages"]["nullable"]) == (False, True)
    assert "untitled" in columns["title"]["default"]
    assert (columns["id"]["key"], columns["shelf"]["key"]) == (True, False)
    ((key),) = books["foreign_keys"]
    assert (key["columns"], key["to_table"], key["to_columns"], key["on_delete"]) == (
        ["shelf"],
        "shelves",
        ["id"],
        "CASCADE",
    )
    assert "books_pages" in {index["name"] for index in books["indexes"]}
    assert any("pages" in check for check in books["checks"])
    assert [trigger["name"] for trigger in books["triggers"]] == ["books_counted"]
    comments = ("What stands on shelves", "Numbered ones") if engine != "sqlite" else ("", "")
    assert (books["comment"], columns["pages"]["comment"]) == comments
    shelves = dbctl("schema", "show", "shelves")["tables"][0]
    assert [(key["table"], key["columns"]) for key in shelves["referenced_by"]] == [("books", ["shelf"])]
    assert any(index["unique"] and index["columns"] == ["name"] for index in shelves["indexes"])


def test_describe_of_missing_table_exits_5(dbctl):
    assert dbctl("schema", "show", 'books"; drop table books; --', status=5)["code"] == "table-missing"
    assert dbctl("schema", "show", "book", status=5)["code"] == "table-missing"


def test_describe_view_shows_its_query(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("view.db")) as connection:
        connection.execute("create table things (id integer primary key)")
        connection.execute("create view seen as select id from things")
    view = answer("--url", "view.db", "schema", "show", "seen")["data"]["tables"][0]
    assert (view["kind"], view["rows"]) == ("view", None)
    assert "select" in view["definition"].lower()


def test_describe_table_without_name(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.executescript('create table "" (id integer primary key); create table t (a)')
        connection.executescript('insert into "" values (1), (2)')
    (table,) = answer("--url", "app.db", "schema", "show", "")["data"]["tables"]
    assert (table["table"], table["rows"]) == ("", 2)


@pytest.mark.needs_extension("lancedb")
def test_describe_lancedb_table(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    lance.create_table(tmp_path / "lancedb")
    response = answer("--url", "lancedb:lancedb", "schema", "show", lance.TABLE)["data"]["tables"][0]
    assert response["rows"] == len(
        list(answer("--url", "lancedb:lancedb", "data", "rows", lance.TABLE)["data"]["items"])
    )
    assert "chat_id" in [column["name"] for column in response["columns"]]


# Adding ----------------------------------------------------------------------------------------------------------


def test_added_row_has_typed_values_and_defaults(dbctl):
    plan = dbctl("data", "add", "books", "pages=5", "bought=2026-01-02T03:04:05Z", "--dry-run")["plan"]
    assert plan["rows"] == {"books": 1}
    assert len(titles(dbctl)) == 3
    added = dbctl("data", "add", "books", "pages=5", "bought=2026-01-02T03:04:05Z", "--null", "state")
    assert added["row"]["title"] == "untitled"
    assert (added["row"]["pages"], added["row"]["state"]) == (5, None)
    assert dbctl("data", "show", "books", str(added["key"]["id"]))["bought"].startswith("2026-01-02")
    explicit = dbctl("data", "add", "books", "id=77", "title=a=b; drop table books")
    assert explicit["key"] == {"id": 77}
    assert dbctl("data", "add", "books")["key"] == {"id": 78}


#: Arguments of data add, and how they are refused.
INVALID_ROWS = [
    (["books", "pages=many"], 2, "value-invalid"),
    (["books", "pages=0"], 6, "constraint"),
    (["books", "shelf=99"], 6, "constraint"),
    (["books", "nope=1"], 2, "column-missing"),
    (["books", "pages"], 2, "usage"),
    (["books", "pages=1", "--null", "pages"], 2, "usage"),
    (["books", "--null", "id"], 2, "value-invalid"),
    (["books", "--null", "title"], 2, "value-invalid"),
    (["shelves"], 2, "usage"),
    (["nothing", "a=1"], 5, "table-missing"),
]


def test_invalid_row_is_refused_and_not_added(dbctl):
    for words, status, code in INVALID_ROWS:
        assert dbctl("data", "add", *words, status=status)["code"] == code, words
        assert len(titles(dbctl)) == 3, words


def test_row_whose_key_is_null_by_default_is_refused(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("words.db")) as connection:
        connection.execute("create table words (word text primary key default null, size int)")
    response = answer("--url", "words.db", "data", "add", "words", "size=1", status=2)
    assert response["error"]["code"] == "value-invalid"
    assert answer("--url", "words.db", "data", "rows", "words")["data"]["total"] == 0


@pytest.mark.needs_extension("lancedb")
def test_row_is_added_to_lancedb(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    lance.create_table(tmp_path / "lancedb")
    before = answer("--url", "lancedb:lancedb", "data", "rows", lance.TABLE)["data"]["total"]
    answer("--url", "lancedb:lancedb", "data", "add", lance.TABLE, "message_id=new", "content=Hello")
    assert answer("--url", "lancedb:lancedb", "data", "rows", lance.TABLE)["data"]["total"] == before + 1


# Changing by filter ----------------------------------------------------------------------------------------------


def test_filtered_rows_are_changed_after_confirmation(dbctl):
    words = ["data", "set", "books", "state=old", "--filter", "pages>=20"]
    plan = dbctl(*words, "--dry-run")["plan"]
    assert (plan["rows"], plan["destructive"]) == ({"books": 1}, True)
    assert dbctl(*words, status=6)["code"] == "confirmation-missing"
    assert titles(dbctl, "--filter", "state=old") == ["Three"]
    result = dbctl(*words, "--yes")
    assert (result["matched"], result["changed"]) == (2, 1)
    assert titles(dbctl, "--filter", "state=old") == ["Two", "Three"]
    assert dbctl(*words)["changed"] == 0, "no confirmation without a change"
    assert (
        dbctl("data", "set", "books", "--filter-not-null", "shelf", "--null", "state", "--yes")["changed"]
        == 2
    )
    assert dbctl("data", "set", "books", "pages=7", "--filter-null", "state", "--yes")["changed"] == 2
    assert titles(dbctl, "--filter", "pages=7") == ["One", "Two"]


#: Arguments of data set, and how they are refused.
REFUSED_CHANGES = [
    (["state=x", "--filter", "pages>0", "--limit", "2"], "limit-exceeded"),
    (["id=9", "--filter", "pages>0"], "usage"),
    (["--filter", "pages>0"], "usage"),
    (["state=x", "--filter", "nope=1"], "column-missing"),
    (["pages=many", "--filter", "pages>0"], "value-invalid"),
    (["pages=0", "--filter", "pages>0"], "constraint"),
    (["state=x"], "usage"),
    (["1", "state=x", "--filter", "pages>0"], "usage"),
]


def test_refused_filtered_change_changes_nothing(dbctl):
    before = json.dumps(dbctl("data", "rows", "books"))
    for words, code in REFUSED_CHANGES:
        assert dbctl("data", "set", "books", *words, "--yes", status=None)["code"] == code, words
        assert json.dumps(dbctl("data", "rows", "books")) == before, words


def test_transition_forbidden_for_one_row_is_refused_for_all(answer, tmp_path):
    promptvault.deployed(tmp_path / "vault.db")
    vault = ["--profile", "promptvault", "--url", f"main={tmp_path}/vault.db", "data"]
    before = answer(*vault, "rows", "Prompt")["data"]["items"]
    words = ["set", "Prompt", "visibility=PUBLIC", "--filter-not-null", "id", "--yes"]
    assert answer(*vault, *words, status=6)["error"]["code"] == "transition-refused"
    assert answer(*vault, "rows", "Prompt")["data"]["items"] == before
    team = ["set", "Prompt", "visibility=TEAM", "--filter-not-null", "id", "--yes"]
    assert answer(*vault, *team)["data"]["changed"] == sum(row["visibility"] != "TEAM" for row in before) > 0


def test_single_true_column_cannot_be_true_in_several_rows(answer, tmp_path):
    chat_lancedb.deployed(tmp_path / "chat.db")
    chat = ["--profile", "chat-lancedb", "--url", f"chat={tmp_path}/chat.db", "data"]
    response = answer(*chat, "set", "chats", "is_active=yes", "--filter-not-null", "id", "--yes", status=6)
    assert response["error"]["code"] == "constraint"
    active = answer(*chat, "rows", "chats", "--filter", "is_active=yes")["data"]["total"]
    added = ["add", "chats", "id=c-9", f"user_id={chat_lancedb.ANON}", "title=T", "is_active=yes"]
    assert answer(*chat, *added, status=6)["error"]["code"] == "constraint"
    assert answer(*chat, "rows", "chats", "--filter", "is_active=yes")["data"]["total"] == active


# Deleting by filter ----------------------------------------------------------------------------------------------


def test_filtered_rows_are_deleted_after_confirmation(dbctl):
    words = ["data", "delete", "books", "--filter", "pages>=20"]
    plan = dbctl(*words, "--dry-run")["plan"]
    assert (plan["rows"], plan["destructive"]) == ({"books": 2}, True)
    assert dbctl(*words, status=6)["code"] == "confirmation-missing"
    assert titles(dbctl) == ["One", "Two", "Three"]
    result = dbctl(*words, "--yes")
    assert (result["matched"], result["rows"]) == (2, {"books": 2})
    assert titles(dbctl) == ["One"]
    assert dbctl(*words)["matched"] == 0, "no confirmation without a deletion"
    result = dbctl("data", "delete", "shelves", "--filter", "name=low", "--yes")
    assert result["rows"] == {"shelves": 1, "books": 1}
    assert titles(dbctl) == []


#: Arguments of data delete, and how they are refused.
REFUSED_DELETIONS = [
    (["books", "--filter", "pages>0", "--limit", "2"], "limit-exceeded"),
    (["books", "--filter", "nope=1"], "column-missing"),
    (["books", "1", "--filter", "pages>0"], "usage"),
    (["books"], "usage"),
    (["nothing", "--filter", "pages>0"], "table-missing"),
]


def test_refused_filtered_deletion_deletes_nothing(dbctl):
    for words, code in REFUSED_DELETIONS:
        assert dbctl("data", "delete", *words, "--yes", status=None)["code"] == code, words
        assert titles(dbctl) == ["One", "Two", "Three"], words


@pytest.mark.needs_extension("lancedb")
def test_deleting_vectors_by_filter_retains_messages(answer, tmp_path):
    stored, folder = (
        chat_lancedb.deployed(tmp_path / "chat.db"),
        chat_lancedb.create_vectors(tmp_path / "lancedb"),
    )
    app = ["--profile", "chat-lancedb", "--url", f"chat={stored}", "--url", f"vectors=lancedb:{folder}"]
    words = [*app, "--db", "vectors", "data", "delete", lance.TABLE, "--filter"]
    messages = answer(*app, "data", "rows", "messages")["data"]["total"]
    before = len(chat_lancedb.read_vectors(folder, "message_id"))
    plan = answer(*words, f"chat_id={chat_lancedb.PYTHON}", "--dry-run")["data"]["plan"]
    assert (plan["rows"], plan["destructive"]) == ({lance.TABLE: 3}, True)
    answer(*words, f"chat_id={chat_lancedb.PYTHON}", "--yes")
    remaining_chats = chat_lancedb.read_vectors(folder, "chat_id")
    assert len(remaining_chats) == before - 3
    assert (chat_lancedb.PYTHON,) not in remaining_chats
    answer(*words, f"user_id={chat_lancedb.ANON}", "--yes")
    assert (chat_lancedb.ANON,) not in chat_lancedb.read_vectors(folder, "user_id")
    assert answer(*app, "data", "rows", "messages")["data"]["total"] == messages
    refused = answer(
        *app, "--db", "chat", "data", "delete", "users", "--filter", "id:USER", "--yes", status=None
    )
    assert refused["error"]["code"] == "use-dedicated-command"


# References by name ----------------------------------------------------------------------------------------------

LIBRARY = """
schema = "dbctl.profile/1"
name = "library"
title = "Library"

[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
row_names = ["shelves.name", "shelves.floor?", "shelves.number?"]
"""


@pytest.fixture
def library(dbctl, tmp_path):
    """Run a command with a profile that names the columns by which people name a shelf."""
    (tmp_path / "library.toml").write_text(LIBRARY)

    def run(*words, status=0):
        return dbctl("--profile", "library.toml", *words, status=status)

    for name, floor in (("1", "hall"), ("9", "Attic"), ("top", "hall")):
        run("data", "add", "shelves", f"name={name}", f"floor={floor}")
    return run


def shelf_of(library, title):
    (row,) = library("data", "rows", "books", "--filter", f"title={title}")["items"]
    return row["shelf"]


def test_reference_is_a_key_or_a_name(library):
    for number, (text, shelf) in enumerate(
        [("low", 1), ("Top", 4), ("attic", 3), ("9", 3), ("1", 1), ("4", 4), ("hall", None)], 1
    ):
        title = f"Named {number}"
        words = ("data", "add", "books", f"title={title}", f"shelf={text}")
        if shelf is None:
            error = library(*words, status=6)
            assert error["code"] == "name-ambiguous"
            assert "2, 4" in error["message"]
            continue
        assert any("shelf" in step for step in library(*words, "--dry-run")["plan"]["steps"])
        library(*words)
        assert shelf_of(library, title) == shelf


#: Names that no shelf has.
UNKNOWN_NAMES = ["lower", "7", "1 and more", "", "low\x01"]


def test_unknown_name_of_a_reference_exits_5(library):
    before = titles(library)
    for text in UNKNOWN_NAMES:
        error = library("data", "add", "books", "title=Lost", f"shelf={text}", status=5)
        assert (error["code"], titles(library)) == ("object-missing", before)
        assert "dbctl data rows shelves" in error["hint"]
        assert library("data", "set", "books", "1", f"shelf={text}", status=5)["code"] == "object-missing"


def test_reference_is_set_by_name_in_one_row_and_in_several(library):
    assert library("data", "set", "books", "1", "shelf=top")["after"] == {"shelf": 4}
    assert library("data", "set", "books", "1", "--null", "shelf")["after"] == {"shelf": None}
    library("data", "set", "books", "shelf=Attic", "--filter", "pages>10", "--yes")
    assert [shelf_of(library, title) for title in ("One", "Two", "Three")] == [None, 3, 3]


def test_without_names_in_the_profile_a_reference_is_a_key(dbctl):
    assert dbctl("data", "add", "books", "title=Lost", "shelf=low", status=2)["code"] == "value-invalid"


@pytest.mark.parametrize(
    ("engine", "kind"), [("sqlite", "blob"), ("postgresql", "bytea"), ("mysql", "varbinary(99)")]
)
def test_shown_keys_of_bytes_name_their_rows(tmp_path, start, engine, kind):
    with empty_database(engine, tmp_path / "app.db") as database:
        start_bytes = "'\\\\x" if engine == "postgresql" else "x'"
        database.run(
            f"create table files (hash {kind} primary key, name varchar(9))",
            *(f"insert into files values ({start_bytes}{key}', 'old')" for key in ("00ff27", 65 * "61")),
        )

        def run(*words, status=0):
            result = start("data", *words, "--url", f"main={database.url}", "-o", "table", environment={})
            assert result.returncode == status, result
            return result

        shown = run("rows", "files").stdout
        (key,) = re.findall(r"\\x\S+", shown)
        assert key in run("show", "files", key).stdout
        run("set", "files", key, "name=new")
        assert run("rows", "files", "--filter", f"hash={key}").stdout.count("new") == 1
        run("delete", "files", key, "--yes")
        assert [name for (name,) in database.rows("select name from files")] == ["old"]
        assert r"'\x…'" in run("show", "files", "00ff27", status=5).stderr


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_rows_of_a_view_are_not_changed(answer, tmp_path, monkeypatch, engine):
    """A server would change the rows of its table, without the rules of that table and without a record of them."""
    monkeypatch.setenv("DBCTL_STATE", "off")
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, name varchar(9))",
            "create view some_people as select id, name from people",
            "insert into people values (1, 'ann')",
        )
        words = ("data", "set", "some_people", "--filter", "name=ann", "name=eva", "--yes")
        error = answer(*words, "--url", f"main={database.url}", status=2)["error"]
        assert error["message"] == "some_people is a view; its rows cannot be changed"
        assert database.rows("select name from people") == [("ann",)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_last_admin_is_not_disabled_while_the_profile_leaves_open_who_is_active(
    answer, tmp_path, monkeypatch, engine
):
    monkeypatch.setenv("DBCTL_STATE", "off")
    (tmp_path / "club.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "club"\ntitle = "Club"\n[undecided]\nactive = ["disabled of people"]\n'
        '[databases.main]\nengines = ["sqlite", "postgresql", "mysql"]\n[users]\ntable = "people"\nid = { column = "id" }\n'
        'login = ["login"]\nadmin = "lead"\nfields = { login = "login" }\nrole = { column = "duty", values = ["lead", "cook"] }\n'
    )
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9), duty varchar(9), disabled integer, deleted_at integer)",
            "insert into people values (1, 'ann', 'lead', 0, 0), (2, 'bo', 'cook', 0, 0), (3, 'cy', 'lead', 1, 0)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}", "--yes")
        before = database.content()
        for selection in (["1"], ["--filter", "login=ann"]):
            error = answer("data", "set", "people", *selection, "disabled=1", *options, status=6)["error"]
            assert error["code"] == "decision-open"
        assert database.content() == before
        for key, value in ((2, 1), (3, 0), (1, 1)):  # now another admin is enabled
            answer("data", "set", "people", str(key), f"disabled={value}", *options)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_column_that_is_true_in_one_row_of_a_group_stays_so_if_rows_get_another_group(
    answer, tmp_path, monkeypatch, engine
):
    monkeypatch.setenv("DBCTL_STATE", "off")
    (tmp_path / "club.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "club"\ntitle = "Club"\n[databases.main]\n'
        'engines = ["sqlite", "postgresql", "mysql"]\n[[exclusive]]\ntable = "chats"\ncolumn = "shown"\nwithin = "person"\n'
    )
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table chats (id integer primary key, person integer, shown integer not null default 1)",
            "insert into chats values (1, 1, 1), (2, 2, 1), (3, 2, 0)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}", "--yes")
        before = database.content()
        for words in (
            ("set", "chats", "--filter", "shown=1", "person=7"),
            ("add", "chats", "id=4", "person=1"),
        ):
            error = answer("data", *words, *options, status=6)["error"]
            assert "may be true in a single row of one person" in error["message"]
        assert database.content() == before
        answer("data", "set", "chats", "--filter", "shown=0", "person=1", *options)


def test_several_rows_with_the_same_key_of_a_setting_are_named_as_the_reason(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", "off")
    (tmp_path / "club.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "club"\ntitle = "Club"\n[databases.main]\nengines = ["sqlite"]\n'
        '[[settings]]\nscope = "system"\ntable = "choices"\nkey = "name"\nfields = { value = "val" }\n'
    )
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table choices (name text, val text)",
            "insert into choices values ('color', 'red'), ('color', 'blue')",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer("settings", "set", "color", "green", *options, status=6)["error"]
        assert "2 rows would be written instead of 1; several may have the same key" in error["message"]


def test_day_in_a_column_of_dates_of_sqlite_gets_no_time_of_day(answer, tmp_path, monkeypatch):
    """SQLite stores any text in such a column, and libraries of apps read only days from it."""
    monkeypatch.setenv("DBCTL_STATE", "off")
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, born date, seen date, met date)",
            "insert into people values (1, '2001-03-29', '2026-03-29T10:00:00.000Z', null)",
        )
        options = ("--url", f"main={database.url}")
        answer("data", "set", "people", "1", "born=2002-03-31", "seen=2026-03-31", "met=2026-03-31", *options)
        stored = database.rows("select born, seen, met from people")
        assert stored == [("2002-03-31", "2026-03-31T00:00:00.000Z", "2026-03-31")]
        answer("data", "add", "people", "id=2", "born=now", *options)
        assert len(database.rows("select born from people where id = 2")[0][0]) == len("2026-03-31")
        words = ("data", "set", "people", "1", "born=2002-03-31T10:00:00Z", *options)
        assert "the column stores no time of day" in answer(*words, status=2)["error"]["message"]


def test_fields_of_a_user_that_have_the_value_are_not_reported_as_changed(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", "off")
    (tmp_path / "club.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "club"\ntitle = "Club"\n[databases.main]\nengines = ["sqlite"]\n'
        '[users]\ntable = "people"\nid = { column = "id" }\nlogin = ["login"]\nadmin = false\n'
        'fields = { login = "login", email = "mail" }\n'
    )
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, login text, mail text, note text)",
            "insert into people values (1, 'ann', 'ann@x.org', '')",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        words = ("data", "set", "people", "1", "login=ann", "mail=a@x.org", "note=x")
        changed = answer(*words, *options)["data"]
        assert (changed["before"], changed["after"]) == (
            {"note": "", "mail": "ann@x.org"},
            {"note": "x", "mail": "a@x.org"},
        )
