"""PostgreSQL fulfils the engine contract."""

from __future__ import annotations

import pytest

from dbctl.engines.contract.database import Merge
from dbctl.errors.connection import QueryFailedError, SecretColumnError, StoredFunctionError
from tests.conformance.contract import EngineContract
from tests.conformance.streaming import run_query


class TestPostgreSQL(EngineContract):
    @pytest.fixture
    def fresh(self, postgresql):
        return postgresql


@pytest.fixture
def accounts(postgresql):
    postgresql.execute('create table "User" (id integer primary key, password text, name text)')
    postgresql.execute("""insert into "User" values (1, 'hash', 'Ann')""")
    postgresql.execute('create table heir (more text) inherits ("User")')
    postgresql.execute('create view seen as select id, password as other from "User"')
    return postgresql.reader()


@pytest.mark.parametrize(
    "sql",
    [
        'select c from "User" as a(b, c)',
        'select c from only ("User") "where" (b, c)',
        'select c from "User" * a(b, c)',
        'select c from ("User" cross join heir) as a(b, c)',
        'select u::text from "User" u',
        'select row_to_json(u) from "User" u',
        'with recursive a as (select u.id, u::text as t from "User" u union select id, t from a) select t from a',
        'select u::text from "User" u except select null',
        "select other from seen",
        "select password from heir",
        "explain analyze select 1 from \"User\" where password like 'h%'",
        "explain (analyze, verbose) (select 1 from \"User\" where password like 'h%')",
        "select rolpassword from pg_authid",
        "select setconfig from pg_db_role_setting",
        "select * from pg_shadow",
        "select histogram_bounds from pg_stats",
    ],
)
def test_secret_columns_cannot_be_read_indirectly(accounts, sql):
    with pytest.raises(SecretColumnError):
        run_query(accounts, sql, hidden={"User": ["password"]})


@pytest.mark.parametrize(
    "sql",
    [
        "select id from seen",
        "select id, more from heir",
        'select count(*) from "User" where (id = 1)',
        "select usename from pg_shadow",
        'explain update "User" set name = null',
        'explain (costs off) select id from "User"',
    ],
)
def test_other_columns_of_a_secret_table_are_readable(accounts, sql):
    run_query(accounts, sql, hidden={"User": ["password"]})


@pytest.mark.parametrize(
    "sql",
    [
        "select table_to_xml('tags', true, true, '')",
        "select pg_catalog.schema_to_xml_and_xmlschema('public', true, true, '')",
        "select \"database_to_xml\"(true, true, '')",
        "explain analyze declare c cursor for select 1",
        "explain",
    ],
)
def test_functions_that_run_hidden_sql_are_refused(accounts, sql):
    with pytest.raises(QueryFailedError):
        run_query(accounts, sql, hidden={"User": ["password"]})


FUNCTIONS = """create function leak() returns text language sql security definer as 'select max(password) from "User"';
    create function leak_row("User") returns text language sql as 'select $1.password';
    create function leak_int(integer, text) returns text language plpgsql as 'begin return leak(); end';
    create operator #?# (leftarg = integer, rightarg = text, function = leak_int);
    create type box_of as (a text);
    create function to_box(integer) returns box_of language sql as 'select row(leak())::box_of';
    create cast (integer as box_of) with function to_box(integer);
    create view leaking as select leak() as c; create view outer_view as select c from leaking;
    create view of_operator as select 1 #?# 'a' as c;
    create aggregate leak_all(integer) (sfunc = int4pl, stype = integer);
    create table plain (id integer primary key, name text);
    create function is_leak(integer) returns boolean language sql immutable as 'select $1 > 0';
    create table guarded (id integer primary key); alter table guarded enable row level security;
    create policy by_function on guarded using (is_leak(id)); create view over_guarded as select id from guarded;
    create domain checked as integer check (is_leak(value)); create view over_domain as select 1::checked as c"""


@pytest.mark.parametrize(
    "sql",
    [
        "select leak()",
        'select "leak" ()',
        "select * from leak()",
        'select u.leak_row from "User" u',
        "select 1 #?# 'a'",
        "select 1 operator(pg_catalog.+) 1 #?# 'a'",
        "select 1::box_of",
        "select cast(1 as box_of)",
        "select c from outer_view",
        "select c from of_operator",
        "select leak_all(id) from plain",
        "explain analyze select leak()",
        "select id from guarded",
        "select id from over_guarded",
        "select 1::checked",
        "select c from over_domain",
    ],
)
def test_stored_functions_are_called_only_with_permission(accounts, postgresql, sql):
    for statement in FUNCTIONS.split(";\n"):
        postgresql.execute(statement)
    with pytest.raises(StoredFunctionError):
        run_query(accounts, sql, calls_stored_functions=False)
    harmless = "select lower(name), count(*)::text from plain where id + 1 = 2 group by 1"
    run_query(accounts, harmless, calls_stored_functions=False)
    run_query(accounts, sql)


def test_a_sequence_is_never_lowered(postgresql):
    """``setval(…, false)`` sets a sequence without calling it."""
    postgresql.execute("create table numbered (id serial primary key)")
    postgresql.execute("insert into numbered values (3)")
    writer = postgresql.writer()
    for start, following in (("500, false", 500), ("500, true", 501), ("3, false", 4), ("1, false", 4)):
        postgresql.execute(f"select setval('numbered_id_seq', {start})")
        with writer.transaction():
            writer.advance_sequences("numbered")
        assert postgresql.rows("select nextval('numbered_id_seq')") == [(following,)]


@pytest.mark.parametrize(("kind", "largest"), [("integer", 2**31 - 1), ("bigint", 2**63 - 1)])
def test_sequence_is_not_advanced_to_the_largest_number(postgresql, kind, largest):
    postgresql.execute(f"create table places (id {kind} generated by default as identity primary key)")
    postgresql.execute(f"insert into places values ({largest}), (7)")
    (finding,) = postgresql.reader().checks.schema_findings()
    assert "has reached 7:" in finding.message
    writer = postgresql.writer()
    with writer.transaction():
        writer.advance_sequences("places")
    assert postgresql.rows("insert into places default values returning id") == [(8,)]
    postgresql.execute(f"select setval('places_id_seq', {largest})")  # nothing overflows
    assert list(postgresql.reader().checks.schema_findings()) == []


def test_new_rows_are_numbered_by_the_sequence_of_the_app(postgresql):
    """SQLAlchemy's ``Sequence`` numbers rows in the app: the column has no default, and no column owns the sequence."""
    postgresql.execute('create table "User" (id integer primary key, name text)')
    postgresql.execute('create sequence "User_id_seq"')
    postgresql.execute("create table owned (id integer primary key, other serial)")
    postgresql.execute("alter sequence owned_other_seq rename to owned_id_seq")
    postgresql.execute("create table pairs (a integer, b integer, primary key (a, b))")
    postgresql.execute("create sequence pairs_a_seq")
    writer = postgresql.writer()
    columns = {
        (table, name): column.required
        for table, live in writer.tables().items()
        for name, column in live.columns.items()
    }
    assert not columns["User", "id"]
    assert columns["owned", "id"]
    assert columns["pairs", "a"]
    with writer.transaction():
        assert writer.insert("User", {"name": "Ann"}, returning="id") == 1
        assert writer.insert("User", {}, returning="id") == 2
        writer.insert_many("User", ["name"], [["Bob"]])
        writer.insert("User", {"id": 7, "name": "Cy"})
        writer.advance_sequences("User")
    assert postgresql.rows("""select id, name from "User" order by id""") == [
        (1, "Ann"),
        (2, None),
        (3, "Bob"),
        (7, "Cy"),
    ]
    assert postgresql.rows("""select nextval('"User_id_seq"')""") == [(8,)]


def test_given_numbers_of_a_generated_key_are_stored(postgresql):
    """``undo`` and ``data import`` store the keys that rows had."""
    postgresql.execute("create table numbered (id int generated always as identity primary key, name text)")
    postgresql.execute("create view seen as select id, name from numbered")
    writer = postgresql.writer()
    with writer.transaction():
        writer.insert("numbered", {"id": 7, "name": "a"})
        writer.insert("seen", {"id": 8, "name": "b"})
        writer.insert_many("seen", ["id", "name"], [[9, "c"]])
        writer.merge(
            Merge(
                table="numbered",
                select="select 10, :name",
                parameters={"name": "d"},
                key=["id"],
                columns={"name": "replace"},
            )
        )
        writer.advance_sequences("numbered")
        assert writer.insert("numbered", {"name": "e"}, returning="id") == 11
    assert postgresql.rows("select string_agg(id || name, ' ' order by id) from numbered") == [
        ("7a 8b 9c 10d 11e",)
    ]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ('["a,b", null, "\\"", "é"]', '{"a,b",NULL,"\\"",é}'),
        ("[]", "{}"),
        ('[["a"], ["b"]]', "{{a},{b}}"),
        ("{a,NULL}", "{a,NULL}"),
        ("[2:3]={a,b}", "[2:3]={a,b}"),
        ("[1.50, true]", "{1.50,true}"),
    ],
)
def test_arrays_are_parsed_as_results_show_them_and_as_the_server_does(postgresql, text, stored):
    postgresql.execute("create table boxes (id int primary key, tags text[])")
    writer = postgresql.writer()
    parse = writer.codec.text_parser("boxes", "tags")
    with writer.transaction():
        writer.insert("boxes", {"id": 1, "tags": parse(text)})
    assert postgresql.rows("select tags::text from boxes") == [(stored,)]
