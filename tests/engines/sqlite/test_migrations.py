"""Scripts on SQLite: splitting, and the schema transaction."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.engines.sqlite.lint import SCRIPTS
from dbctl.errors.connection import ConstraintError, QueryFailedError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.profiles import loader
from dbctl.profiles import loader as ledgers
from dbctl.profiles.model.databases import Ledger
from dbctl.services.app.live_table import find_column

TRIGGER = """create trigger t_insert after insert on t
begin
  update t set x = case when x > 1 then 'a;b' else 'end;' end;
  -- end;
  delete from t where x = 'never';
end;"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SQLiteWriter]:
    with closing(
        SQLiteWriter(tmp_path / "app.db", "app/user", OpenOptions(create={"journal_mode": "wal"}))
    ) as writer:
        yield writer


def run(db: SQLiteWriter, script: str) -> None:
    with db.scripts.schema_transaction():
        for _, sql in db.scripts.script_dialect.split(script):
            db.scripts.run_statement(sql)


def run_unsplit(db: SQLiteWriter, *statements: str) -> None:
    with db.scripts.schema_transaction():
        for sql in statements:
            db.scripts.run_statement(sql)


def run_in_other_connection(folder: Path, script: str) -> None:
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        connection.executescript(script)


def split_statements(text: str) -> list[str]:
    return [sql for _, sql in SCRIPTS.split(text)]


# Splitting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "insert into t values ('a;b');",
        "insert into t values ('it''s; fine');",
        'create table "a;b" (x);',
        "create table [a;b] (x);",
        "create table `a;b` (x);",
        "insert /* ; end; */ into t values (1);",
        "insert into t -- ; end;\n values (1);",
        "insert into t values ('-- no comment; /* nor this');",
        "insert into t values (x'3b');",
        "create table t (\r\n  x text -- one;\r\n);",
        TRIGGER,
        TRIGGER.replace("create trigger", "CREATE TEMPORARY TRIGGER"),
        TRIGGER.replace("create trigger", "create/**/trigger if not exists"),
        "create table begin_end (trigger_ text default 'begin;');",
        "select ';' as \"end;\";",
    ],
)
def test_semicolon_inside_a_statement_does_not_end_it(statement: str) -> None:
    assert split_statements(f"select 1;\n{statement}\nselect 2;") == ["select 1;", statement, "select 2;"]


def test_comments_and_lone_semicolons_are_not_statements() -> None:
    assert split_statements("-- first;\n;;\n/* second; */ ;\n\n") == []


def test_statement_has_its_line_and_no_leading_comment() -> None:
    text = "-- a comment\n\n/* two\nlines */ create table a (x);\n\ncreate table b (\n  x\n);select 1;\n"
    assert SCRIPTS.split(text) == [
        (4, "create table a (x);"),
        (6, "create table b (\n  x\n);"),
        (8, "select 1;"),
    ]


def test_byte_order_mark_is_not_part_of_the_first_statement() -> None:
    assert split_statements("\ufeffcreate table a (x);") == ["create table a (x);"]


def test_last_statement_may_lack_its_semicolon() -> None:
    assert split_statements("select 1;\nselect 2 -- the last one\n") == ["select 1;", "select 2;"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("select 1;\nselect 'open;\n", 2),
        ('select 1;\n\nselect "open;', 3),
        ("select 1; select [open;", 1),
        ("select 1;\n" + TRIGGER.removesuffix("end;"), 2),
        ("select 1; select 2 /* open;", 1),
    ],
)
def test_unterminated_statement_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=rf"inside the statement that begins on line {line}$"):
        SCRIPTS.split(text)


def test_unterminated_comment_is_refused() -> None:
    with pytest.raises(ValueError, match="inside a comment"):
        SCRIPTS.split("select 1;\n/* never closed;")


@pytest.mark.parametrize(
    "statement",
    [
        "commit",
        "COMMIT TRANSACTION",
        "end",
        "begin immediate",
        "rollback",
        "vacuum",
        "vacuum into 'x'",
        "attach 'x' as y",
        "detach y",
        "pragma journal_mode = delete",
        "PRAGMA main . journal_mode=wal",
        'pragma "synchronous" = off',
        "/* hidden */ pragma writable_schema = on",
    ],
)
def test_unsupported_statement_is_refused_with_its_line(statement: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: "):
        SCRIPTS.split(f"select 1;\n{statement};")


@pytest.mark.parametrize(
    "statement", ["pragma foreign_keys = off;", "pragma user_version = 5;", "savepoint s;"]
)
def test_transactional_statement_is_accepted(statement: str) -> None:
    assert split_statements(statement) == [statement]


def test_large_script_is_split_in_linear_time() -> None:
    """A string with many semicolons must not take quadratic time."""
    text = "insert into t values ('" + "x;" * 500_000 + "');" + "select 1;" * 20_000
    assert len(SCRIPTS.split(text)) == 20_001


WORDS = st.sampled_from(
    [
        "'a;b'",
        '"q;"',
        "[b;]",
        "`c;`",
        "/* ; */",
        "-- ;\n",
        "x",
        "1",
        "''",
        "\r\n",
        "\ufeff",
        "(",
        ")",
        "begin",
        "end",
    ]
)


@settings(max_examples=3 * settings.default.max_examples)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=6))
def test_sqlite_accepts_every_part_as_one_statement(statement_words: list[list[str]]) -> None:
    """Python's ``execute`` refuses two statements, because SQLite returns the end of the first."""
    text = "".join("select " + " ".join(words) + ";" for words in statement_words)
    with closing(sqlite3.connect(":memory:")) as connection:
        statements = SCRIPTS.split(text)
        assert len(statements) == len(statement_words)
        for _, sql in statements:
            try:
                connection.execute(sql)
            except sqlite3.Warning as error:  # pragma: no cover - only if the split is wrong
                raise AssertionError(sql) from error
            except sqlite3.Error as error:
                assert "one statement" not in str(error), sql  # noqa: PT017 - other errors are expected


# The transaction ------------------------------------------------------------------------------------------------


def test_failed_script_leaves_no_schema_changes(db: SQLiteWriter) -> None:
    with pytest.raises(QueryFailedError, match="no such table: nosuch"):
        run(db, "create table a (x); alter table a add column y; insert into nosuch values (1);")
    assert "a" not in db.tables()


def test_added_column_with_check_validates_existing_rows(db: SQLiteWriter) -> None:
    run(db, "create table a (x); insert into a values (1);")
    run(db, "alter table a add column kind text default 'plain' check (kind in ('plain', 'rare'));")
    assert db.query("select x, kind from a") == [(1, "plain")]
    with pytest.raises((ConstraintError, QueryFailedError), match="CHECK"):
        run(db, "alter table a add column size text default 'none' check (size in ('small'));")


def test_schema_is_read_again_after_a_script(db: SQLiteWriter) -> None:
    run(db, "create table a (x);")
    assert list(db.tables()["a"].columns) == ["x"]
    run(db, "alter table a add column y;")
    assert list(db.tables()["a"].columns) == ["x", "y"]


REBUILD = """
create table parents (id integer primary key, name text);
create table children (id integer primary key, parent integer references parents (id) on delete cascade);
insert into parents values (1, 'a'), (2, 'b');
insert into children values (1, 1), (2, 1), (3, 2);
"""


def test_rebuilt_table_keeps_its_child_rows(db: SQLiteWriter) -> None:
    run(db, REBUILD)
    run(
        db,
        """pragma foreign_keys = off;
        create table new_parents (id integer primary key, name text not null);
        insert into new_parents select * from parents;
        drop table parents;
        alter table new_parents rename to parents;
        pragma foreign_keys = on;""",
    )
    assert db.count("children") == 3
    assert db.references("parents")[0].table == "children"


def test_script_with_new_orphaned_rows_is_rolled_back(db: SQLiteWriter) -> None:
    run(db, REBUILD)
    with pytest.raises(ConstraintError, match="2 rows of children would refer to missing rows of parents"):
        run(db, "delete from parents where id = 1;")
    assert db.count("parents") == 2


def test_existing_orphaned_rows_do_not_block_a_script(db: SQLiteWriter, tmp_path: Path) -> None:
    run(db, REBUILD)
    with closing(sqlite3.connect(tmp_path / "app.db")) as other, other:
        other.execute("delete from parents where id = 1")
    run(db, "create table notes (x);")
    assert "notes" in db.tables()


def test_orphaned_rows_of_other_programs_between_two_scripts_do_not_block_the_second(
    db: SQLiteWriter, tmp_path: Path
) -> None:
    run(db, "create table a (id integer primary key);\ncreate table b (a integer references a (id));")
    run_in_other_connection(tmp_path, "insert into b values (1);")
    run(db, "create table c (id integer);")
    assert "c" in db.tables()


def test_orphaned_rows_are_found_in_each_of_several_scripts(db: SQLiteWriter) -> None:
    run(db, "create table a (id integer primary key);\ncreate table b (a integer references a (id));")
    for _ in range(2):
        with pytest.raises(ConstraintError):
            run(db, "insert into b values (1);")
    with db.transaction():
        db.insert("a", {"id": 1})
    run(db, "insert into b values (1);")
    with pytest.raises(ConstraintError):
        run(db, "delete from a;")


@pytest.mark.parametrize(
    "change", ["alter table a add column x text;", "drop table a;\ncreate table a (x text);"]
)
def test_row_is_inserted_into_a_table_that_a_script_changed(db: SQLiteWriter, change: str) -> None:
    run(
        db,
        "create table a (id integer primary key, at text default current_timestamp);\ncreate table b (id integer);",
    )
    scripts = db.scripts
    assert {"a", "b"} == set(db.tables())
    with scripts.schema_transaction():
        scripts.insert("a", {"id": 1})
        for _, sql in scripts.script_dialect.split(change):
            scripts.run_statement(sql)
        scripts.insert("a", {"x": "new"})
        scripts.run_statement("drop table b;")
        with pytest.raises(SchemaMismatchError):
            scripts.insert("b", {"id": 1})
        with pytest.raises(SchemaMismatchError):
            scripts.insert("a", {"unknown": 1})
    assert db.select("a", ["x"])[-1] == ("new",)


def test_foreign_keys_are_enforced_after_any_script(db: SQLiteWriter) -> None:
    run(db, REBUILD)
    with pytest.raises(QueryFailedError):
        run(db, "nonsense;")
    with pytest.raises(ConstraintError), db.transaction():
        db.insert("children", {"id": 9, "parent": 99})


@pytest.mark.parametrize(
    "statement",
    [
        "commit",
        "begin",
        "rollback",
        "attach ':memory:' as other",
        "pragma journal_mode = delete",
        "pragma writable_schema = on",
    ],
)
def test_engine_refuses_non_transactional_statements(db: SQLiteWriter, statement: str) -> None:
    with pytest.raises(QueryFailedError):
        run_unsplit(db, "create table a (x)", statement)
    assert "a" not in db.tables()
    run(db, "create table b (x);")  # the connection is still usable


def test_implicit_end_of_the_transaction_is_detected(db: SQLiteWriter) -> None:
    run(db, "create table a (x unique on conflict rollback); insert into a values (1);")
    with pytest.raises(ConstraintError):
        run(db, "create table b (x); insert into a values (1); create table c (x);")
    assert set(db.tables()) == {"a"}


def test_select_in_a_script_reads_all_rows(db: SQLiteWriter) -> None:
    run(db, "create table a (x); insert into a values ('1'), ('2'), ('{');")
    with pytest.raises(QueryFailedError, match="malformed JSON"):
        run(db, "select json(x) from a;")
    run(db, "select x from a; drop table a;")


@pytest.mark.parametrize("statement", ["select :x;", "select ?;", "select 'a\0b';"])
def test_placeholders_and_nul_are_refused(db: SQLiteWriter, statement: str) -> None:
    if "\0" not in statement:
        run(db, "select '?', ':x';")
        with pytest.raises(QueryFailedError):
            run(db, statement)
    else:
        with pytest.raises(QueryFailedError, match="null character"):
            run_unsplit(db, statement)


def test_full_text_table_is_created_filled_and_dropped(db: SQLiteWriter) -> None:
    run(db, "create virtual table f using fts5(body); insert into f values ('one'), ('two');")
    run(db, "insert into f (f) values ('rebuild'); drop table f;")
    assert "f" not in db.tables()


def test_user_version_is_part_of_the_transaction(db: SQLiteWriter) -> None:
    with pytest.raises(QueryFailedError):
        run(db, "pragma user_version = 7; nonsense;")
    assert db.query("pragma user_version") == [(0,)]


def test_schema_changes_of_other_programs_are_detected(tmp_path: Path, db: SQLiteWriter) -> None:
    run(db, "create table a (x);")
    assert set(db.tables()) == {"a"}
    run_in_other_connection(tmp_path, "alter table a add column y; create table b (x);")
    with db.scripts.schema_transaction():
        assert {name: list(table.columns) for name, table in db.tables().items()} == {
            "a": ["x", "y"],
            "b": ["x"],
        }


def test_rolled_back_table_is_not_confused_with_another(tmp_path: Path, db: SQLiteWriter) -> None:
    run(db, "create table a (x);")
    with pytest.raises(LookupError), db.scripts.schema_transaction():
        db.scripts.run_statement("create table mine (x)")
        assert "mine" in db.tables()
        raise LookupError
    run_in_other_connection(
        tmp_path, "create table theirs (x);"
    )  # results in the schema version of the rolled-back table
    run(db, "insert into theirs values (1);")
    assert set(db.tables()) == {"a", "theirs"}


def test_schema_transaction_cannot_be_nested(db: SQLiteWriter) -> None:
    with pytest.raises(RuntimeError), db.transaction(), db.scripts.schema_transaction():
        pass


def test_statement_outside_a_transaction_is_refused(db: SQLiteWriter) -> None:
    with pytest.raises(RuntimeError):
        db.scripts.run_statement("create table a (x)")


# Files ------------------------------------------------------------------------------------------------------------


def test_new_file_is_private_and_has_the_journal_mode(tmp_path: Path, db: SQLiteWriter) -> None:
    assert (tmp_path / "app.db").stat().st_mode & 0o777 == 0o600
    assert db.query("pragma journal_mode") == [("wal",)]


def test_empty_file_gets_the_journal_mode(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with closing(SQLiteWriter(path, "app/user", OpenOptions(create={"journal_mode": "wal"}))) as db:
        assert db.query("pragma journal_mode") == [("wal",)]


def test_existing_file_keeps_its_journal_mode(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table a (x)")
    with closing(SQLiteWriter(path, "app/user", OpenOptions(create={"journal_mode": "wal"}))) as db:
        run(db, "create table b (x);")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("delete",)


def test_table_definition_is_stored_as_written(db: SQLiteWriter) -> None:
    create_sql = "CREATE TABLE Notes (\n  id INTEGER, -- the key\n  body TEXT\n)"
    run(db, f"-- Notes of users;\n{create_sql};")
    assert db.query("select sql from sqlite_master where name = 'Notes'") == [(create_sql,)]


def test_reader_sees_schema_changes_only_after_the_commit(tmp_path: Path, db: SQLiteWriter) -> None:
    run(db, "create table a (x);")
    with closing(SQLiteReader(tmp_path / "app.db", "app/user")) as reader, db.scripts.schema_transaction():
        db.scripts.run_statement("create table b (x)")
        assert set(reader.tables()) == {"a"}
    with closing(SQLiteReader(tmp_path / "app.db", "app/user")) as reader:
        assert set(reader.tables()) == {"a", "b"}


@pytest.mark.parametrize(
    "ledger",
    [
        *ledgers.load_ledgers().ledgers.values(),
        *(ledger for name in loader.names() for ledger in loader.load(name).ledgers.values()),
        *(
            database.migrations.ledger
            for name in loader.names()
            for database in loader.load(name).databases.values()
            if database.migrations
            and "sqlite" in database.engines
            and not isinstance(database.migrations.ledger, str)
        ),
    ],
    ids=lambda ledger: ledger.table,
)
def test_every_ledger_can_be_created(db: SQLiteWriter, ledger: Ledger) -> None:
    run(db, ledger.create if isinstance(ledger.create, str) else ledger.create["sqlite"])
    table = db.tables()[ledger.table]
    for column in (ledger.version, ledger.name, ledger.applied_at):
        assert column is None or find_column(table, column)
