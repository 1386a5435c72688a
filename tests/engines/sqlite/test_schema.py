"""The schema fingerprint: equal for equivalent schemas, different after any real change."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.engines.sqlite.schema import read_normal_words
from tests.conformance.contract import HOSTILE_NAMES
from tests.shapes import flashpoint_web

PEOPLE_SQL = """create table people (
    id integer primary key autoincrement,
    name text not null unique collate nocase,
    state text not null default 'new' check (state in ('new', 'Old')),
    born text default (strftime('%Y', 'now')),
    size integer generated always as (length(name) * 2) stored,
    boss integer references people (id) on delete set null deferrable initially deferred,
    check (length(name) > 0 and name <> 'a;b'))"""
PETS_SQL = """create table pets (
    person integer not null, name text not null, "order" integer default -1, primary key (person, name desc),
    foreign key (person) references people on delete cascade) without rowid"""
BY_NAME = 'create index by_name on pets (name collate nocase, "order" desc, lower(name)) where "order" > 0'
NAMED = "create view named as select p.name, count(*) as number from people p group by p.name"
TOUCH = """create trigger touch after update of name on people for each row when new.name <> old.name
    begin update pets set name = new.name where person = new.id; select 'A  b'; end"""
STATEMENTS = (PEOPLE_SQL, PETS_SQL, BY_NAME, NAMED, TOUCH)


def create_database(path, *statements):
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma synchronous = off")
        for sql in statements:
            db.execute(sql)
    return path


def read_fingerprint(path):
    with closing(SQLiteReader(path, "app/user")) as reader:
        return reader.schema_reader.fingerprint()


def fingerprint_of(tmp_path, *statements):
    return read_fingerprint(create_database(tmp_path / "schema.db", *statements))


def test_fingerprint_has_64_digits_for_reader_and_writer(tmp_path):
    path = create_database(tmp_path / "app.db", *STATEMENTS)
    expected = read_fingerprint(path)
    assert len(bytes.fromhex(expected)) == 32
    with closing(SQLiteWriter(path, "app/user")) as writer:
        assert writer.schema_reader.fingerprint() == expected


@pytest.mark.parametrize(
    "sql",
    ["vacuum", "analyze", "reindex", "insert into people (name) values ('x')", "pragma journal_mode = wal", "pragma user_version = 7"],
)  # fmt: skip
def test_fingerprint_ignores_rows_and_file_changes(tmp_path, sql):
    path = create_database(tmp_path / "app.db", *STATEMENTS)
    expected = read_fingerprint(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(sql)
    assert read_fingerprint(path) == expected


def test_schema_contains_references_to_missing_tables(tmp_path):
    path = create_database(tmp_path / "app.db", "create table t (a references gone, b references lost (id))")
    with closing(SQLiteReader(path, "app/user")) as reader:
        (table,) = reader.schema_reader.schema().tables
    assert [(key.table, key.to) for key in table.references] == [("gone", []), ("lost", ["id"])]


def test_fingerprint_ignores_temporary_tables(tmp_path):
    path = create_database(tmp_path / "app.db", *STATEMENTS)
    expected = read_fingerprint(path)
    with closing(SQLiteWriter(path, "app/user")) as writer:
        writer.connection.run("create temp table passing (x)")
        assert writer.schema_reader.fingerprint() == expected


def test_fingerprint_ignores_creation_order(tmp_path):
    assert fingerprint_of(tmp_path, PETS_SQL, PEOPLE_SQL, TOUCH, NAMED, BY_NAME) == fingerprint_of(
        tmp_path, *STATEMENTS
    )


def test_fingerprint_ignores_rebuild_of_a_table(tmp_path):
    rebuilt = PETS_SQL.replace("table pets", "table pets_new")
    renamed = [PEOPLE_SQL, PETS_SQL, rebuilt, "drop table pets", "alter table pets_new rename to pets"]
    assert fingerprint_of(tmp_path, *renamed, BY_NAME, NAMED, TOUCH) == fingerprint_of(tmp_path, *STATEMENTS)


def test_fingerprint_ignores_add_column(tmp_path):
    later = ["create table t (a text)", "alter table t add column b integer not null default 0 check (b < 9)"]
    assert fingerprint_of(tmp_path, *later) == fingerprint_of(
        tmp_path, "create table t (a text, b integer not null default 0 check (b < 9))"
    )


@pytest.mark.parametrize("shape", ["deployed", "document", "launcher", "archive", "larder"])
def test_real_schemas_have_the_same_fingerprint_in_reverse_order(tmp_path, shape):
    create = {
        "deployed": flashpoint_web.deployed_user_db,
        "document": flashpoint_web.document_user_db,
        "launcher": flashpoint_web.launcher_flashpoint_db,
        "archive": flashpoint_web.document_flashpoint_db,
        "larder": flashpoint_web.larder_db,
    }[shape]
    path = create(tmp_path / "app.db")
    with closing(sqlite3.connect(path)) as db:
        objects = dict(db.execute("select name, type from sqlite_master where sql is not null"))
        texts = [sql for (sql,) in db.execute("select sql from sqlite_master where sql is not null")]
    texts = [sql for sql in texts if "sqlite_sequence" not in sql and "sqlite_stat" not in sql]
    tables = [sql for sql in reversed(texts) if sql.startswith("CREATE TABLE")]
    rebuilt = create_database(
        tmp_path / "again.db", *tables, *(sql for sql in reversed(texts) if sql not in tables)
    )
    assert objects
    assert read_fingerprint(rebuilt) == read_fingerprint(path)


BLANKS = [" ", "\n", "\t  ", ' -- it\'s "a" remark\n', "/* (, */", "\f"]
NAMES = {
    "people",
    "pets",
    "id",
    "name",
    "state",
    "born",
    "size",
    "boss",
    "person",
    "named",
    "by_name",
    "touch",
}
QUOTES = [str, '"{}"'.format, "`{}`".format, "[{}]".format]


@given(st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fingerprint_ignores_blanks_comments_quotes_and_case(tmp_path, rng):
    respelled = []
    for sql in STATEMENTS:
        text = ""
        for kind, word, _ in read_normal_words(sql, ()):
            spellings = (
                QUOTES if word in NAMES else [str.lower, str.upper, str.title] if kind == "word" else [str]
            )
            text += rng.choice(spellings)(word) + rng.choice(BLANKS)
        respelled.append(text.replace("'order'", '"order"'))
    assert fingerprint_of(tmp_path, *respelled) == fingerprint_of(tmp_path, *STATEMENTS)


CHANGES = {
    "a column": ("state text not null", "state text not null, more text"),
    "the order of columns": (
        "state text not null default 'new' check (state in ('new', 'Old')),\n    born text default (strftime('%Y', 'now')),",
        "born text default (strftime('%Y', 'now')),\n    state text not null default 'new' check (state in ('new', 'Old')),",
    ),
    "a column's name": ("born text", "birth text"),
    "a column's type": ("born text", "born integer"),
    "not null": ("state text not null", "state text"),
    "a default": ("default 'new'", "default 'New'"),
    "a default that is a bare word": ("default -1", "default Abc"),
    "an expression as default": ("strftime('%Y', 'now')", "strftime('%y', 'now')"),
    "a collation": ("unique collate nocase", "unique collate rtrim"),
    "a check": ("state in ('new', 'Old')", "state in ('new', 'old')"),
    "a check of a table": ("length(name) > 0", "length(name) >= 0"),
    "a text inside a check": ("'a;b'", "'a; b'"),
    "the expression of a generated column": ("length(name) * 2", "length(name) * 3"),
    "whether a generated column is stored": ("* 2) stored", "* 2) virtual"),
    "autoincrement": (" autoincrement", ""),
    "a unique constraint": ("not null unique collate", "not null collate"),
    "the delete action of a key": ("on delete cascade", "on delete restrict"),
    "the target of a key": ("references people on", "references people (name) on"),
    "whether a key is deferred": (" deferrable initially deferred", ""),
    "the primary key": ("primary key (person, name desc)", "primary key (name desc, person)"),
    "the direction of a primary key": ("primary key (person, name desc)", "primary key (person, name)"),
    "a table without rowids": (" without rowid", ""),
    "a conflict clause": ("name text not null unique", "name text not null unique on conflict ignore"),
    "an index's column": ('"order" desc, lower', "person desc, lower"),
    "an index's direction": ('"order" desc, lower', '"order", lower'),
    "an index's collation": ("collate nocase, ", "collate rtrim, "),
    "an index's expression": ("lower(name)", "upper(name)"),
    "an index's condition": ('"order" > 0', '"order" > 1'),
    "a unique index": ("create index", "create unique index"),
    "an index's name": ("index by_name", "index by_names"),
    "a view": ("count(*) as number", "count(*) as numbers"),
    "the time of a trigger": ("after update", "before update"),
    "the body of a trigger": ("where person = new.id", "where person = old.id"),
    "a text in a trigger": ("'A  b'", "'A b'"),
}  # fmt: skip


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_fingerprint_changes_with_each_part(tmp_path, change):
    old, new = CHANGES[change]
    changed = [sql.replace(old, new) for sql in STATEMENTS]
    assert sum(sql != other for sql, other in zip(STATEMENTS, changed, strict=True)) == 1, (
        "the change affects exactly one statement"
    )
    assert fingerprint_of(tmp_path, *changed) != fingerprint_of(tmp_path, *STATEMENTS)


@pytest.mark.parametrize("omitted", range(2, len(STATEMENTS)))
def test_fingerprint_changes_without_an_object(tmp_path, omitted):
    assert fingerprint_of(
        tmp_path, *(sql for index, sql in enumerate(STATEMENTS) if index != omitted)
    ) != fingerprint_of(tmp_path, *STATEMENTS)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("create table t (a references p)", "create table t (a references p (id))"),
        ("create table t (a check (a in (\"x\", 'y')))", "create table t (a check (a in ('x', 'y')))"),
        ("create table t (a default CURRENT_TIMESTAMP)", "create table t (a default current_timestamp)"),
        ("create table t (a default Abc)", "create table t (a default 'Abc')"),
        ("create table t (a default (0))", "create table t (a default 0)"),
        ("create table t (a constraint x check (a > 0))", "create table t (a, check (a > 0))"),
        ("create table t (a, constraint k primary key (a))", "create table t (a primary key)"),
        ("create table t (a integer primary key not null)", "create table t (a integer primary key)"),
        ("create table t (a collate binary)", "create table t (a)"),
        ('create table t (key text, "left" text)', 'create table t ("key" text, left text)'),
        ("create table t (a, foreign key (a) references p check (a > 0))", "create table t (a references p check (a > 0))"),
    ],
)  # fmt: skip
def test_equivalent_declarations_have_the_same_fingerprint(tmp_path, first, second):
    parent = "create table p (id integer primary key)"
    assert fingerprint_of(tmp_path, parent, first) == fingerprint_of(tmp_path, parent, second)


def test_trigger_without_time_equals_before_trigger(tmp_path):
    table, body = "create table t (a)", "insert on t begin select 1; end"
    plain = fingerprint_of(tmp_path, table, f"create trigger x {body}")
    assert plain == fingerprint_of(tmp_path, table, f"create trigger x before {body}")
    assert plain != fingerprint_of(tmp_path, table, f"create trigger x after {body}")


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "check", "tab(le", "'quoted'", "a--b"])
def test_any_name_works_for_table_column_and_index(tmp_path, name):
    quoted = '"' + name.replace('"', '""') + '"'
    statements = [
        f"create table {quoted} ({quoted} text default 'x' check ({quoted} <> '') collate nocase, other int)",
        f"create index \"i{quoted[1:]} on {quoted} ({quoted}, other desc) where {quoted} > 'a'",
    ]
    expected = fingerprint_of(tmp_path, *statements)
    assert expected == fingerprint_of(
        tmp_path, *(sql.upper() if name.upper() == name else sql for sql in statements)
    )
    with closing(SQLiteReader(tmp_path / "schema.db", "app/user")) as reader:
        (table,) = reader.schema_reader.schema().tables
    assert (table.name, [column.name for column in table.columns]) == (name, [name, "other"])
    assert (table.columns[0].collation, len(table.checks), len(table.options)) == ("NOCASE", 1, 0)
    assert list(table.indexes[0].columns) == [f"{name} collate NOCASE", "other desc"]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("a int, b text, primary key(a)) without rowid, strict (", ["a", "b"]),
        ("\"a,\" text, 'b)' int, [c d] , `e``f` real", ["a,", "b)", "c d", "e`f"]),
        ("a constraint x not null constraint y, b constraint z check (b) constraint q", ["a", "b"]),
        ("a int, constraint p primary key (a) check (a > 0) unique (a)", ["a"]),
        ("a int /* , ( */ -- )\n, b", ["a", "b"]),
        ("a default(1+(2*3)), b default -1.5e-3, c default x'00', d default ') , ('", ["a", "b", "c", "d"]),
        ("a text collate \"NOCASE\", b varchar ( 10 , 2 ) not null default ''", ["a", "b"]),
        ("a, b as (a||'x') stored, c text generated always as (b) virtual not null", ["a", "b", "c"]),
        ("a unique on conflict replace, b not null on conflict ignore, unique (a,b) on conflict fail", ["a", "b"]),
        ('"check" check ("check" > 0), "primary" text, "foreign" int, "unique" unique', ["check", "primary", "foreign", "unique"]),
        ("key text, desc text, of int, no int, temp int, row int, if int, end int, conflict int, generated int", ["key", "desc", "of", "no", "temp", "row", "if", "end", "conflict", "generated"]),
        ("a text check (a = '(' or a = ')' or a = ','), foreign key ('a') references t", ["a"]),
    ],
)  # fmt: skip
def test_every_column_list_of_sqlite_is_parsed(tmp_path, columns, names):
    body = columns.removesuffix(" (") if columns.endswith(" (") else f"{columns})"
    path = create_database(tmp_path / "app.db", f"create table t ({body}")
    with closing(SQLiteReader(path, "app/user")) as reader:
        (table,) = reader.schema_reader.schema().tables
    assert [column.name for column in table.columns] == names


def test_shadow_tables_are_not_part_of_the_schema(tmp_path):
    path = create_database(
        tmp_path / "app.db", "create table docs_more (a)", "create virtual table docs using fts5(a, b)"
    )
    with closing(SQLiteReader(path, "app/user")) as reader:
        options = {table.name: list(table.options) for table in reader.schema_reader.schema().tables}
    assert options == {"docs": ["using fts5(a, b)"], "docs_more": []}


def test_unknown_module_is_described_by_its_sql(tmp_path):
    path = create_database(tmp_path / "app.db", "create virtual table near using fts5(a)")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma writable_schema = on")
        db.execute(
            "update sqlite_master set sql = 'CREATE VIRTUAL TABLE near USING vec0(a float[3])' where name = 'near'"
        )
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert [list(table.options) for table in reader.schema_reader.schema().tables] == [
            ["using vec0(a float[3])"]
        ]


def test_broken_view_and_invalid_name_are_tolerated(tmp_path):
    path = create_database(
        tmp_path / "app.db", "create table t (a)", "create view v as select a from t", "drop table t"
    )
    with closing(sqlite3.connect(path)) as db:
        db.execute(b'create table "\xff" (b text)'.decode("latin-1"))
        db.commit()
        db.execute("pragma writable_schema = on")
        db.execute(
            "update sqlite_master set name = cast(x'ff' as text), tbl_name = cast(x'ff' as text), sql = cast('CREATE TABLE \"' || x'ff' || '\" (b text)' as text) where type = 'table'"
        )
        db.commit()
    with closing(SQLiteReader(path, "app/user")) as reader:
        schema = reader.schema_reader.schema()
    assert [item.name for item in schema.codes] == ["v"]
    assert [(item.name, list(item.options)) for item in schema.tables] == [("\udcff", ["(b text)"])]
    assert len(read_fingerprint(path)) == 64


@pytest.mark.parametrize(
    "sql",
    [
        "create virtual table words using fts5(body, chat unindexed, tokenize='porter unicode61')",
        "CREATE VIRTUAL TABLE IF NOT EXISTS words USING FTS5(\n  body,\n  chat UNINDEXED,\n  tokenize = 'porter unicode61'\n)",
        """create virtual table "words" USING fts5 (body,chat  unindexed , tokenize ='porter unicode61')""",
    ],
)
def test_spellings_of_one_virtual_table_are_equal(tmp_path, sql):
    with closing(SQLiteReader(create_database(tmp_path / "app.db", sql), "app/user")) as reader:
        (table,) = reader.schema_reader.schema().tables
    assert list(table.options) == ["using fts5(body, chat unindexed, tokenize='porter unicode61')"]


def test_schema_describes_all_parts(tmp_path):
    path = create_database(tmp_path / "app.db", *STATEMENTS)
    with closing(SQLiteReader(path, "app/user")) as reader:
        schema = reader.schema_reader.schema()
    people, pets = schema.tables
    columns = {column.name: column for column in people.columns}
    assert (columns["id"].nullable, columns["boss"].nullable) == (False, True)
    assert (columns["name"].collation, columns["size"].generated) == ("NOCASE", "length(name) * 2 stored")
    assert (columns["born"].default, columns["state"].default) == ("strftime('%Y', 'now')", "'new'")
    assert list(people.checks) == ["length(name) > 0 and name <> 'a;b'", "state in ('new', 'Old')"]
    assert list(people.options) == ["autoincrement"]
    (key,) = people.references
    assert (list(key.columns), key.table, list(key.to), key.on_delete, key.deferred) == (["boss"], "people", ["id"], "SET NULL", True)  # fmt: skip
    assert (list(pets.key), list(pets.options)) == (["person", "name desc"], ["without rowid"])
    assert list(pets.references[0].to) == ["id"]
    (index,) = pets.indexes
    assert list(index.columns) == ["name collate NOCASE", "order desc", "lower(name)"]
    assert index.where == '"order" > 0'
    view, trigger = schema.codes
    assert view.text == "as select p.name, count(*) as number from people p group by p.name"
    assert (trigger.table, trigger.text.partition(" when ")[0]) == (
        "people",
        "after update of name on people",
    )
