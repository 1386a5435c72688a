"""A schema of one engine, derived for another one, created there, and read back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbctl.engines.mysql.dialect import parse_server
from dbctl.extensions.transfer.engines.mysql.derive import MySQLDerivation
from dbctl.extensions.transfer.portable.contract import DerivedSchema, PortableSchema, PortableTable
from tests.databases import ComparedDatabase
from tests.extensions.transfer.portable.conftest import DIRECTIONS, ENGINES, derive, read_portable
from tests.extensions.transfer.portable.schemas import OMISSIONS, SCHEMAS

Create = Callable[..., ComparedDatabase]
Case = tuple[PortableSchema, DerivedSchema, ComparedDatabase]


@pytest.fixture(params=DIRECTIONS, ids="-".join)
def case(request: pytest.FixtureRequest, create_database: Create) -> Case:
    """Return the schema of a source, what is derived from it, and the database in which it was created."""
    source_engine, destination_engine = request.param
    source = read_portable(create_database(source_engine, *SCHEMAS[source_engine]))
    destination = create_database(destination_engine)
    derived = derive(source, destination)
    destination.run(*derived.before, *derived.after)
    return source, derived, destination


#: The default of ``note.data`` by the dialect of the source.
DATA = {"sqlite": b"\x00\xff", "postgres": b"\x00\xff", "mysql": b"ab"}


def table(schema: PortableSchema, name: str) -> PortableTable:
    return {each.name: each for each in schema.tables}[name]


def insert_rows(database: ComparedDatabase) -> None:
    database.run(
        "insert into owner (email, is_active) values ('a@example.org', {})".format(
            "true" if database.engine == "postgresql" else 1
        ),
        "insert into note (owner_id, title) values (1, 'first')",
        "insert into tag (note_id, name) values (1, 'new')",
    )


def test_created_schema_has_the_announced_types(case: Case) -> None:
    _, derived, destination = case
    created = read_portable(destination)
    types = {(each.name, column.name): column.type for each in created.tables for column in each.columns}
    for pair in derived.columns:
        announced, own = pair.destination_type, types[pair.table, pair.column]
        if announced.kind == "enum" and destination.engine != "mysql":  # text with a check of the labels
            assert own.kind == "text"
        elif announced.kind == "uuid" and own.kind == "text":  # MySQL has no type for it
            assert (own.length, own.charset) == (36, "ascii")
        else:
            assert announced == own


def test_created_schema_has_the_tables_keys_and_references(case: Case) -> None:
    source, _, destination = case
    created = read_portable(destination)
    assert [each.name for each in created.tables] == [each.name for each in source.tables]
    for before in source.tables:
        after = table(created, before.name)
        assert list(after.key) == list(before.key)
        assert {
            (tuple(each.columns), each.table, tuple(each.to), each.on_delete) for each in after.references
        } == {(tuple(each.columns), each.table, tuple(each.to), each.on_delete) for each in before.references}
        assert [
            column.is_nullable
            for column in after.columns
            if column.name in {each.name for each in before.columns}
        ] == [column.is_nullable and column.name not in before.key for column in before.columns]


def test_every_object_that_is_not_carried_is_reported(case: Case) -> None:
    source, derived, _ = case
    engine = {"postgres": "postgresql"}.get(source.dialect, source.dialect)
    # MariaDB writes a function with parentheses
    reported = {(omission.kind, omission.name.removesuffix("()")) for omission in derived.omissions}
    assert reported >= OMISSIONS[engine]
    assert not any(omission.is_blocking for omission in derived.omissions)


def test_defaults_and_automatic_numbers_work(case: Case) -> None:
    source, _, destination = case
    insert_rows(destination)
    ((title, price, rating, data, stamp),) = destination.rows(
        "select title, price, rating, data, stamp from note"
    )
    assert (title, float(str(price)), float(str(rating)), bytes(data)) == (
        "first",
        1.5,
        0.5,
        DATA[source.dialect],
    )  # type: ignore[call-overload]
    assert int(str(stamp)) == 7 or int(str(stamp)) > 1_700_000_000
    assert [tuple(row) for row in destination.rows("select role from owner")] == [("reader",)]
    ((created, day, size),) = destination.rows("select created, day, size from note")
    assert (str(created)[:2], str(day), size) == ("20", "2026-01-02", 5)


def test_constraints_are_enforced(case: Case) -> None:
    _, _, destination = case
    insert_rows(destination)
    for refused in (
        "insert into note (owner_id, title, rating) values (1, 'other', 9)",
        "insert into tag (note_id, name) values (1, 'new')",
        "insert into owner (email, role) values ('b@example.org', 'guest')",
        "insert into owner (email) values ('A@EXAMPLE.ORG')",
    ):
        if refused.endswith("ORG')") and _lacks_expression_index(case):
            continue
        with pytest.raises(Exception, match=r"(?i)check|unique|duplicate|constraint|truncated|enum"):
            destination.run(refused)
    enforce = ["pragma foreign_keys = on"] if destination.engine == "sqlite" else []
    destination.run(*enforce, "delete from owner")
    assert [list(rows) for rows in destination.results("select 1 from note", "select 1 from tag")] == [[], []]


def _lacks_expression_index(case: Case) -> bool:
    return any(omission.kind == "index" and omission.name == "owner_email" for omission in case[1].omissions)


@pytest.mark.parametrize(
    "case", [direction for direction in DIRECTIONS if direction[0] != "mysql"], indirect=True, ids="-".join
)
def test_unique_index_of_some_rows_is_unique_for_them_only(case: Case) -> None:
    _, _, destination = case
    insert_rows(destination)
    true = "true" if destination.engine == "postgresql" else "1"
    destination.run(f"insert into note (owner_id, title, done) values (1, 'first', {true})")
    destination.run(f"insert into note (owner_id, title, done) values (1, 'first', {true})")
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        destination.run("insert into note (owner_id, title) values (1, 'first')")


def test_view_returns_rows(case: Case) -> None:
    _, _, destination = case
    insert_rows(destination)
    destination.run("insert into note (owner_id, title, body) values (1, 'second', 'text')")
    assert [tuple(row) for row in destination.rows("select title from open_note")] == [("second",)]


@pytest.mark.parametrize("engine", ENGINES)
def test_names_are_quoted(engine: str, create_database: Create) -> None:
    name = """sel"ect `x` é"""
    quoted = '"' + name.replace('"', '""') + '"'
    source = create_database(
        "sqlite", f"create table {quoted} ({quoted} integer primary key, \"Order\" text default 'a''\\{{}}')"
    )
    destination = create_database(engine)
    derived = derive(read_portable(source), destination)
    destination.run(*derived.before)
    (created,) = read_portable(destination).tables
    assert (created.name, [column.name for column in created.columns]) == (name, [name, "Order"])
    assert not derived.omissions


def test_names_of_indexes_are_unique_and_short(create_database: Create) -> None:
    long = "i" * 80
    source = create_database(
        "sqlite",
        "create table a (x integer, y integer)",
        f"create index {long}1 on a (x)",
        f"create index {long}2 on a (y)",
        "create table b (x integer)",
        "create index a_x on b (x)",
    )
    for engine in ("postgresql", "mysql"):
        destination = create_database(engine)
        derived = derive(read_portable(source), destination)
        destination.run(*derived.before, *derived.after)
        assert sum(len(each.indexes) for each in read_portable(destination).tables) == 3


def test_tables_that_differ_in_case_only_block_a_transfer_to_sqlite(create_database: Create) -> None:
    source = create_database("postgresql", 'create table a ("X" int, x int)', 'create table "A" (y int)')
    derived = derive(read_portable(source), create_database("sqlite"))
    assert {(each.kind, each.name) for each in derived.omissions if each.is_blocking} == {
        ("table", "a"),
        ("column", "x"),
    }


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_long_names_block_a_transfer(engine: str, create_database: Create) -> None:
    source = create_database("sqlite", f"create table {'t' * 65} (x int, {'c' * 65} int)")
    derived = derive(read_portable(source), create_database(engine))
    assert [(each.kind, len(each.name)) for each in derived.omissions if each.is_blocking] == [
        ("table", 65),
        ("column", 65),
    ]


def test_rows_of_inherited_tables_block_a_transfer(create_database: Create) -> None:
    source = create_database("postgresql", "create table a (x int)", "create table b () inherits (a)")
    derived = derive(read_portable(source), create_database("sqlite"))
    assert [each.kind for each in derived.omissions if each.is_blocking] == ["inheritance"]


def test_foreign_keys_that_servers_refuse_are_reported(create_database: Create) -> None:
    source = create_database(
        "sqlite",
        "create table parent (id integer primary key, code text)",
        "create table child (parent_code text references parent (code), other_id integer references missing (id))",
    )
    for engine in ("postgresql", "mysql"):
        destination = create_database(engine)
        derived = derive(read_portable(source), destination)
        destination.run(*derived.before, *derived.after)
        assert sorted(each.name for each in derived.omissions if each.kind == "foreign key") == [
            "other_id",
            "parent_code",
        ]


def test_long_keys_of_mysql_are_shortened(create_database: Create) -> None:
    columns = ", ".join(f"c{number} varchar(500)" for number in range(60))
    source = create_database(
        "sqlite",
        f"create table wide (url text primary key, path text not null unique, {columns})",
        "create index wide_c0 on wide (c0, c1)",
        "create unique index wide_all on wide (c0, c1, c2)",
    )
    destination = create_database("mysql")
    derived = derive(read_portable(source), destination)
    destination.run(*derived.before, *derived.after)
    (created,) = read_portable(destination).tables
    assert (created.column("url").type.length, created.column("path").type.length) == (764, 764)
    assert [(each.kind, each.name) for each in derived.omissions] == [("unique index", "wide_all")]


def test_bytes_that_the_catalog_of_mysql_replaces_are_not_carried(create_database: Create) -> None:
    source = create_database(
        "mysql",
        "create table a (x binary(2) default x'00ff', y varbinary(9) default x'610062', z blob default (x'4142'))",
    )
    schema = read_portable(source)
    defaults = [column.default for column in schema.tables[0].columns]
    omitted = [each.name for each in schema.omissions]
    # MariaDB before 11.8 replaces them, and MySQL ends them at a zero byte, but computes them
    known = [default.lower() for default in defaults[:2]]
    assert (known, omitted) in [(["", ""], ["x", "y"]), (["x'00ff'", "x'610062'"], [])]
    assert defaults[2].lower() in ("x'4142'", "0x4142")


@pytest.mark.parametrize("engine", ENGINES)
def test_properties_of_postgresql_that_are_left_out_are_reported(
    engine: str, create_database: Create
) -> None:
    source = create_database(
        "postgresql",
        "create table plain (id int primary key, title text, body text)",
        "create unique index plain_title on plain (title, body desc)",
    )
    assert not read_portable(source).omissions
    source.run(
        'create table note (id int primary key, title text, size int unique deferrable, code text collate "C",'
        " parent int references plain deferrable initially immediate, other int references plain)",
        "create index included on note (title) include (size)",
        "create index classed on note (title text_pattern_ops)",
        "create index first on note (title nulls first, size)",
        "create index last on note (size desc nulls last)",
        "create index hashed on note using hash (size)",
        'create index collated on note (title collate "C")',
        "create index inherited on note (code)",
    )
    destination = create_database(engine)
    derived = derive(read_portable(source), destination)
    destination.run(*derived.before, *derived.after)
    assert sorted((omission.kind, omission.name, omission.table) for omission in derived.omissions) == [
        ("collation", "code", "note"),
        ("deferred check", "note_parent_fkey", "note"),
        ("deferred check", "note_size_key", "note"),
        *(("index", name, "note") for name in ("classed", "collated", "first", "hashed", "included", "last")),
    ]


def test_unique_null_of_postgresql_is_reported(create_database: Create) -> None:
    source = create_database("postgresql", "create table note (id int primary key, title text)")
    ((version,),) = source.rows("show server_version_num")
    if int(str(version)) < 150000:
        return
    source.run("create unique index note_title on note (title) nulls not distinct")
    (omission,) = read_portable(source).omissions
    assert (omission.kind, omission.name) == ("index", "note_title")


@pytest.mark.parametrize("engine", ENGINES)
def test_collations_of_sqlite_that_are_left_out_are_reported(engine: str, create_database: Create) -> None:
    source = create_database(
        "sqlite",
        "create table note (id integer primary key, title text collate rtrim, body text, mail text collate nocase unique)",
        "create index note_title on note (title)",
        "create index note_body on note (body collate rtrim desc)",
    )
    derived = derive(read_portable(source), create_database(engine))
    # MariaDB writes a function with parentheses
    reported = {(omission.kind, omission.name.removesuffix("()")) for omission in derived.omissions}
    assert {("collation", "title"), ("index", "note_body")} <= reported
    assert ("index", "note_title") not in reported
    assert (("collation", "mail") in reported) == (engine == "postgresql")


@pytest.mark.parametrize("engine", ENGINES)
def test_comparisons_that_change_are_reported(engine: str, create_database: Create) -> None:
    source = create_database(
        "mysql",
        "create table note (id int primary key, title varchar(20) collate utf8mb4_unicode_ci, code varchar(20) collate utf8mb4_bin)",
        "insert into note values (1, 'a', 'a')",
    )
    destination = create_database(engine)
    derived = derive(read_portable(source), destination)
    reported = [(omission.kind, omission.name) for omission in derived.omissions]
    assert reported == [("collation", "title")] * {"sqlite": 1, "postgresql": 2, "mysql": 0}[engine]
    destination.run(*derived.before, *derived.after, "insert into note values (1, 'a', 'a')")
    ((ignores_case_of_title, ignores_case_of_code),) = destination.rows(
        "select title = 'A', code = 'A' from note"
    )
    assert (bool(ignores_case_of_title), bool(ignores_case_of_code)) == (engine != "postgresql", False)


COMMENTS = {
    "postgresql": (
        "create table note (id int primary key, title varchar(20) default 'x' not null, body text)",
        "comment on table note is 'it''s a %s {note} é'",
        "comment on column note.title is 'first \"line\"\nsecond'",
    ),
    "mysql": (
        (
            "create table note (id int primary key, title varchar(20) default 'x' not null comment 'first \"line\"\nsecond', body text)"
            " default charset utf8mb4 comment 'it''s a %s {note} é'"
        ),
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("source_engine", ["postgresql", "mysql"])
def test_comments_are_carried_or_reported(engine: str, source_engine: str, create_database: Create) -> None:
    source = read_portable(create_database(source_engine, *COMMENTS[source_engine]))
    destination = create_database(engine)
    derived = derive(source, destination)
    destination.run(*derived.before, *derived.after)
    (created,) = read_portable(destination).tables
    reported = [omission.name for omission in derived.omissions if omission.kind == "comment"]
    comments = [created.comment, *(column.comment for column in created.columns)]
    if engine == "sqlite":
        assert (reported, comments) == (["note, title"], ["", "", "", ""])
    else:
        assert (reported, comments) == ([], ["it's a %s {note} é", "", 'first "line"\nsecond', ""])


def test_comments_that_mysql_cannot_store_are_reported(create_database: Create) -> None:
    source = create_database(
        "postgresql",
        "create table note (id int primary key, title text, body text)",
        "create index note_title on note (title)",
        f"comment on column note.id is '{'x' * 1025}'",
        f"comment on column note.title is '{'x' * 1024}'",
        "comment on column note.body is 'back\\slash'",
        "comment on index note_title is 'an index'",
    )
    destination = create_database("mysql")
    derived = derive(read_portable(source), destination)
    destination.run(*derived.before, *derived.after)
    reported = [(omission.kind, omission.name) for omission in derived.omissions]
    assert reported == [("index", "note_title"), ("comment", "id, body")]
    (created,) = read_portable(destination).tables
    assert created.column("title").comment == "x" * 1024


def test_comments_of_indexes_and_views_are_reported(create_database: Create) -> None:
    source = create_database(
        "mysql", "create table note (id int primary key, title int, key note_title (title) comment 'x')"
    )
    assert [(each.kind, each.name) for each in read_portable(source).omissions] == [("index", "note_title")]
    source = create_database("postgresql", "create view one as select 1 as id", "comment on view one is 'x'")
    assert [(each.kind, each.name) for each in read_portable(source).omissions] == [("comment", "one")]


@pytest.mark.parametrize(
    ("version", "declared"),
    [("10.6.23-MariaDB", "char(36)"), ("10.7.1-MariaDB", "uuid"), ("8.4.7", "char(36)")],
)
def test_uuids_are_texts_where_the_server_lacks_their_type(
    create_database: Create, version: str, declared: str
) -> None:
    source = create_database("sqlite", "create table note (id uuid primary key)")
    statement = MySQLDerivation(read_portable(source), parse_server(version, "tests")).derive().before[0]
    assert f"`id` {declared} " in statement
