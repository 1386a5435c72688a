"""Schemas of PostgreSQL: tables and keys, scripts, checks, and scratch schemas."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from dbctl.engines import registry
from dbctl.engines.contract.database import Condition, Query
from dbctl.engines.postgresql.database import PostgreSQLWriter
from dbctl.engines.postgresql.statements import SCRIPTS
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import ConstraintError, QueryFailedError
from dbctl.errors.usage import SchemaMismatchError
from tests import servers
from tests.engines.conftest import PostgreSQLFixture


@pytest.fixture
def other_schema():
    """Create another schema in the same database."""
    with servers.postgresql_schema() as url:
        schema = PostgreSQLFixture(url)
        with closing(schema.connection):
            yield schema
            for session in schema.opened:
                session.close()


def test_only_tables_in_search_path_are_listed(postgresql, other_schema):
    other_schema.execute("create table hidden (id integer)")
    postgresql.execute("create table shown (id integer)")
    postgresql.execute("create view seen as select id from shown")
    postgresql.execute("create materialized view stored as select id from shown")
    tables = postgresql.reader().tables()
    assert {name: table.is_view for name, table in tables.items()} == {
        "shown": False,
        "seen": True,
        "stored": True,
    }


def test_tables_of_the_system_in_the_search_path_are_not_listed():
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as connection:
            connection.execute("create table shown (id integer)")
            path = "public, pg_catalog, information_schema"
            connection.execute(f"alter database {ident(url.path)} set search_path = {path}")
        with closing(PostgreSQLWriter(url, "app/main", timeout=5)) as writer:
            assert set(writer.tables()) == {"shown"}
            assert writer.scripts.drop_statements() == ["drop table if exists public.shown cascade"]
            with pytest.raises(SchemaMismatchError):
                writer.count("pg_authid")


def test_hint_names_the_search_path_whose_schemas_do_not_exist():
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as connection:
            connection.execute(f"alter database {ident(url.path)} set search_path = missing, other")
        with (
            closing(PostgreSQLWriter(url, "app/main", timeout=5)) as writer,
            pytest.raises(QueryFailedError) as failure,
            writer.transaction(),
        ):
            writer.scripts.run_statement("create table t (id integer)")
    assert "search_path" in failure.value.hint


def test_partitions_belong_to_their_parent_table(postgresql):
    postgresql.execute("create table p (id integer primary key)")
    postgresql.execute("create table t (id integer, p integer references p, at date) partition by range (at)")
    postgresql.execute("create table t1 partition of t for values from ('2024-01-01') to ('2025-01-01')")
    postgresql.execute("create table t2 partition of t default")
    writer = postgresql.writer()
    assert set(writer.tables()) == {"p", "t"}
    assert [item.table for item in writer.references("p")] == ["t"]
    with writer.transaction():
        writer.insert("p", {"id": 1})
        assert writer.insert_many("t", ["id", "p", "at"], [(1, 1, "2024-05-05"), (2, 1, "2030-01-01")]) == 2
        assert writer.delete("t", [Condition("at", "<", "2025-01-01")]) == 1
    assert writer.explainer.explain(Query("t", ["id"], [Condition("p", "=", 1)])).full_scans
    sizes = {item.table: item for item in writer.storage.measure_tables()}
    assert sizes["t"].rows == 1
    assert sizes["t"].bytes > 0


def test_required_columns_have_no_default(postgresql):
    postgresql.execute("create domain needed as text not null")
    postgresql.execute("create domain with_default as text not null default 'x'")
    postgresql.execute(
        """create table t (id serial primary key, a integer generated always as identity, b text not null,
        c text not null default 'x', d text generated always as (b || 'x') stored, e needed, f with_default, g text)"""
    )
    columns = postgresql.reader().tables()["t"].columns
    assert [name for name, column in columns.items() if column.required] == ["b", "e"]
    assert [name for name, column in columns.items() if column.nullable] == ["d", "g"]
    assert (columns["e"].type, columns["e"].kind) == ("NEEDED", "text")


def test_key_to_partitioned_table_is_one_key(postgresql):
    """The server also stores one for each partition."""
    postgresql.execute("create table t (id integer primary key) partition by range (id)")
    postgresql.execute("create table t1 partition of t for values from (0) to (10) partition by hash (id)")
    postgresql.execute("create table t1a partition of t1 for values with (modulus 1, remainder 0)")
    postgresql.execute("create table t2 partition of t default")
    postgresql.execute(
        "create table child (id integer primary key, t integer references t on delete cascade)"
    )
    tables = {table.name: table for table in postgresql.reader().schema_reader.schema().tables}
    assert [(key.table, key.on_delete) for key in tables["child"].references] == [("t", "CASCADE")]


def test_foreign_keys_are_listed_with_delete_action(postgresql):
    postgresql.execute('create table "Parent" ("Id" integer primary key, a integer, unique (a, "Id"))')
    postgresql.execute(
        """create table child (p integer references "Parent" on delete restrict, q integer, r integer,
        foreign key (q, r) references "Parent" (a, "Id") on delete set default, s integer references "Parent")"""
    )
    keys = {
        tuple(key.columns): (list(key.to), key.on_delete) for key in postgresql.reader().references("Parent")
    }
    assert keys == {
        ("p",): (["Id"], "RESTRICT"),
        ("q", "r"): (["a", "Id"], "SET DEFAULT"),
        ("s",): (["Id"], "NO ACTION"),
    }


def test_updatable_view_accepts_rows(postgresql):
    postgresql.execute("create table t (id integer primary key, a text)")
    postgresql.execute("create view v as select id, a from t")
    writer = postgresql.writer()
    with writer.transaction():
        assert writer.insert_many("v", ["id", "a"], [(1, "x"), (2, "y")]) == 2
        assert writer.update("v", {"a": "z"}, [Condition("id", "=", 1)]) == 1
    assert writer.select("t", ["a"]) == [("z",), ("y",)]


# A whole schema ----------------------------------------------------------------------------------------------------

STATEMENTS = [
    "create type mood as enum ('happy', 'sad')",
    "create table p (id integer primary key, n integer unique)",
    """create table t (id integer generated always as identity primary key, m mood default 'sad', a text collate "C",
       b text generated always as (a || 'x') stored, p integer references p on delete cascade deferrable initially deferred,
       check (a <> ''))""",
    "create index t_a on t (a desc, lower(b)) where p is not null",
    "create index t_b on t using hash (b)",
    "create view v as select a from t",
    "create function f() returns trigger language plpgsql as $$ begin return new; end $$",
    "create trigger g before insert on t for each row execute function f()",
    "create table part (id integer, at date) partition by range (at)",
    "create table part_old partition of part for values from (minvalue) to ('2024-01-01') partition by list (id)",
    "create table part_old_a partition of part_old for values in (1, 2)",
    "create rule r as on delete to p do instead nothing",
    "create statistics st (ndistinct) on a, p from t",
    "create domain short as text constraint few check (length(value) < 9)",
    "create table d (v short)",
    "create policy own on p using (n > 1)",
    "create type tag as enum ('a, b')",
    "create domain mark as text constraint known check (value <> '')",
    "create table lists (tags tag[], marks mark[], id integer not null, constraint lists_id primary key (id))",
]


def test_fingerprint_is_independent_of_creation_order(postgresql, other_schema):
    for schema, order in (
        (postgresql, range(19)),
        (other_schema, [8, 13, 14, 9, 10, 0, 16, 17, 18, 1, 15, 2, 4, 3, 6, 7, 5, 12, 11]),
    ):
        for index in order:
            schema.execute(STATEMENTS[index])
    description = postgresql.reader().schema_reader.schema()
    assert description == other_schema.reader().schema_reader.schema()
    table = next(item for item in description.tables if item.name == "t")
    assert [(item.name, list(item.columns), item.where) for item in table.indexes] == [
        ("t_a", ["a desc", "lower(b)"], "(p IS NOT NULL)"),
        ("t_b", ["b using hash"], ""),
    ]
    assert (table.references[0].deferred, table.references[0].on_delete) == (True, "CASCADE")
    assert [(item.kind, item.name) for item in description.codes] == [
        ("view", "v"),
        ("trigger", "g"),
        ("partition", "part_old"),
        ("partition", "part_old_a"),
        ("rule", "r"),
        ("statistics", "st"),
    ]
    assert table.columns[1].type == "MOOD (happy, sad)"


def test_indexes_of_materialized_views_are_compared(postgresql, other_schema):
    for schema, names in ((postgresql, ("a", "b")), (other_schema, ("d", "c"))):
        schema.execute("create table t (id integer primary key, n integer)")
        schema.execute("create materialized view stored as select id, n from t")
        schema.execute(f"create unique index {names[0]} on stored (id)")
        schema.execute(f"create index {names[1]} on stored (n desc) where n > 0")
    fingerprints = [schema.reader().schema_reader.fingerprint() for schema in (postgresql, other_schema)]
    assert fingerprints[0] == fingerprints[1]
    for change in ("drop index a", "create index a on stored (id)"):
        postgresql.execute(change)
        assert postgresql.reader().schema_reader.fingerprint() != fingerprints[1]


@pytest.mark.parametrize(
    "change",
    [
        "alter type mood add value 'meh'",
        "alter table t alter a set not null",
        "alter table t alter m set default 'happy'",
        "alter table t alter p type bigint",
        "drop index t_b",
        "alter table t add check (a <> 'b')",
        "alter table t disable row level security, enable row level security",
        "alter table t force row level security",
        "alter domain short add constraint more check (value <> 'y')",
        "alter domain short set default 'x'",
        "alter domain short set not null",
        "alter table p drop constraint p_n_key",
        "create or replace view v as select a || '' as a from t",
        "create or replace function f() returns trigger language plpgsql as $$ begin return null; end $$",
        "alter function f() security definer",
        "alter function f() set search_path = pg_catalog",
        "alter type tag add value 'c'",
        "alter domain mark drop constraint known",
        "alter table lists drop constraint lists_id, add constraint lists_id primary key (id) include (tags)",
        (
            "drop table lists; drop type tag; create type tag as enum ('a', 'b');"
            " create table lists (tags tag[], marks mark[], id integer not null, constraint lists_id primary key (id))"
        ),
        "drop trigger g on t",
        "alter table t disable trigger g",
        'drop index t_a; create index t_a on t (a collate "default" desc, lower(b)) where p is not null',
        "alter table p drop constraint p_n_key, add unique nulls not distinct (n)",
        "alter table p drop constraint p_n_key, add unique (n) deferrable initially deferred",
        "alter table t drop constraint t_p_fkey, add foreign key (p) references p match full on delete cascade deferrable initially deferred",
        "alter table t drop constraint t_p_fkey, add foreign key (p) references p on delete cascade deferrable initially deferred not valid",
        "drop view v; create materialized view v as select a from t",
        "alter view v set (security_barrier = true)",
        "create policy readers on t using (a <> 'secret')",
        "drop policy own on p; create policy own on p to current_user using (n > 1)",
        "drop table part_old; create table part_old partition of part for values from (minvalue) to ('2025-01-01')",
        "create table part_new partition of part for values from ('2024-01-01') to (maxvalue)",
        "alter table t alter id set generated by default",
        "alter table t alter id set increment by 5",
        "alter table t alter id set maxvalue 100 set cycle",
        "alter table p disable rule r",
        "create or replace rule r as on delete to p do also nothing",
        "drop statistics st; create statistics st (dependencies) on a, p from t",
    ],
)
def test_schema_changes_change_the_fingerprint(postgresql, change):
    for sql in STATEMENTS:
        postgresql.execute(sql)
    before = postgresql.reader().schema_reader.fingerprint()
    postgresql.execute(change)
    assert postgresql.reader().schema_reader.fingerprint() != before


# Scripts -------------------------------------------------------------------------------------------------------------

SCRIPT = """-- a comment; with a semicolon
create table t (a text default ';');

create function f() returns text language plpgsql as $body$
begin
  return 'a;' || $q$;$q$; -- one
end $body$;
create function g(x integer) returns integer begin atomic
  select case when x > 0 then 1 else 2 end; select 3;
end;
/* ; /* ; */ ; */ insert into t values (E'\\';'), ('"') ; ; select 1 as "a;b";
create rule r as on update to t do also (select 1; select case when true then 2 end);
"""


def test_script_is_split_into_the_statements_of_the_server(postgresql):
    statements = SCRIPTS.split(SCRIPT)
    assert [(line, sql.split()[:2]) for line, sql in statements] == [
        (2, ["create", "table"]),
        (4, ["create", "function"]),
        (8, ["create", "function"]),
        (11, ["insert", "into"]),
        (11, ["select", "1"]),
        (12, ["create", "rule"]),
    ]
    writer = postgresql.writer()
    with writer.scripts.schema_transaction():
        for _, sql in writer.scripts.script_dialect.split(SCRIPT):
            writer.scripts.run_statement(sql)
    assert writer.select("t", ["a"]) == [("';",), ('"',)]
    assert writer.query("select f(), g(1)") == [("a;;", 3)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("select 1;\nbegin;", "line 2: BEGIN would"),
        ("commit", "COMMIT would"),
        ("start  /* x */ transaction;", "START TRANSACTION would"),
        ("rollback to savepoint a;", "ROLLBACK would"),
        ("create unique index concurrently i on t (a);", "CONCURRENTLY is not possible"),
        ("vacuum full t;", "VACUUM is not"),
        ("alter system set x = 1;", "ALTER SYSTEM is not"),
        ("create database x;", "CREATE DATABASE is not"),
        ("copy t from stdin;\n1\n\\.\n", "requires psql"),
        ("\\connect x", "require psql"),
        ("select 'a", "ends inside the statement that begins on line 1"),
        ('\n\nselect "a', "ends inside the statement that begins on line 3"),
        ("select $a$ ... $b$", "ends inside the statement"),
        ("select 1; /* /* */", "ends inside a comment"),
        ("create function f() returns integer begin atomic select 1;", "ends inside the statement"),
    ],
)
def test_non_transactional_scripts_are_refused_with_line(script, reason):
    with pytest.raises(ValueError, match=reason):
        SCRIPTS.split(script)


def test_failed_script_leaves_no_objects_or_settings(postgresql):
    writer = postgresql.writer()
    with pytest.raises(ConstraintError), writer.scripts.schema_transaction():
        writer.scripts.run_statement("set search_path to pg_catalog")
        writer.scripts.run_statement(f"create table {postgresql.schema}.t (id integer primary key)")
        writer.scripts.run_statement(f"insert into {postgresql.schema}.t values (1), (1)")
    with writer.scripts.schema_transaction():
        writer.scripts.run_statement("set search_path to pg_catalog")
    assert writer.query("select current_schema()") == [(postgresql.schema,)]
    assert writer.tables() == {}
    with pytest.raises(QueryFailedError, match="COMMIT would"), writer.scripts.schema_transaction():
        writer.scripts.run_statement("create table t (id integer)")
        writer.scripts.run_statement("commit")
    assert writer.tables() == {}


# Checks -----------------------------------------------------------------------------------------------------------


def test_orphaned_rows_are_found_with_example(postgresql):
    postgresql.execute("create table p (a integer, b text, primary key (a, b))")
    postgresql.execute(
        "create table c (id integer primary key, a integer, b text, foreign key (a, b) references p)"
    )
    postgresql.execute("alter table c disable trigger all")
    postgresql.execute("insert into c values (1, null, 'x'), (5, 9, 'x'), (6, 9, 'y')")
    (orphans,) = postgresql.reader().checks.find_orphaned_rows()
    assert (orphans.table, list(orphans.columns), orphans.referenced_table) == ("c", ["a", "b"], "p")
    assert (orphans.count, orphans.example) == (2, "id 5")
    assert postgresql.reader().checks.find_orphaned_rows("p") == []


def test_orphaned_rows_are_those_that_the_server_would_reject(postgresql):
    """A key is that of one partition, covers no rows of inheriting tables, or allows NULL in all columns or none."""
    postgresql.execute("create table p (a integer, b integer, primary key (a, b))")
    postgresql.execute("create table heirs () inherits (p)")
    postgresql.execute("insert into heirs values (7, 7)")
    postgresql.execute(
        "create table parts (id integer primary key, a integer, b integer) partition by range (id)"
    )
    postgresql.execute("create table first partition of parts for values from (0) to (10)")
    postgresql.execute("create table second partition of parts for values from (10) to (20)")
    for table in ("first", "whole", "inheritable"):
        if table != "first":
            postgresql.execute(f"create table {table} (id integer primary key, a integer, b integer)")
        match = "match full" if table == "whole" else ""
        postgresql.execute(f"alter table {table} add foreign key (a, b) references p {match}")
        postgresql.execute(f"alter table {table} disable trigger all")
    postgresql.execute("create table free () inherits (inheritable)")
    postgresql.execute("insert into free values (1, 8, 8)")
    postgresql.execute("insert into inheritable values (2, 7, 7), (3, null, 8)")
    postgresql.execute("insert into parts values (4, 9, 9), (14, 9, 9)")
    postgresql.execute("insert into whole values (5, null, null), (6, null, 8)")
    checks = postgresql.reader().checks
    assert [(orphans.table, orphans.count, orphans.example) for orphans in checks.find_orphaned_rows()] == [
        ("inheritable", 1, "id 2"),
        ("first", 1, "id 4"),
        ("whole", 1, "id 6"),
    ]
    assert [orphans.table for orphans in checks.find_orphaned_rows("parts")] == ["first"]


def test_unfinished_index_is_found(postgresql):
    postgresql.execute("create table t (id integer)")
    postgresql.execute("insert into t values (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        postgresql.execute('create unique index concurrently "i of: x" on t (id)')
    reader = postgresql.reader()
    for quick in (True, False):
        (line,) = reader.checks.find_damage(quick=quick)
        assert line == "index i of: x of t is invalid"
        assert reader.checks.parse_index_damage(line).index == "i of: x"
    assert reader.checks.parse_index_damage("t: invalid page in block 0") is None
    with pytest.raises(SchemaMismatchError):
        reader.checks.find_damage(table="nosuch")


def test_index_of_a_partition_is_checked_and_rebuilt(postgresql):
    postgresql.execute("create table t (id integer) partition by list (id)")
    postgresql.execute("create table part partition of t default")
    postgresql.execute("insert into t values (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        postgresql.execute("create unique index concurrently part_id on part (id)")
    postgresql.execute("delete from t where ctid = '(0,1)'")
    writer = postgresql.writer()
    assert writer.checks.find_damage() == ["index part_id of part is invalid"]
    for task in writer.storage.maintenance_tasks("reindex", []):
        writer.storage.maintain(task)
    assert writer.checks.find_damage() == []


# Scratch schemas -----------------------------------------------------------------------------------------


def test_scratch_schema_is_invisible_and_leaves_nothing(postgresql):
    postgresql.execute("create table t (id integer)")
    with closing(
        registry.load_engine(postgresql.url.engine).open_scratch(postgresql.url, "app/user")
    ) as scratch:
        assert scratch.tables() == {}
        with scratch.scripts.schema_transaction():
            for sql in STATEMENTS:
                scratch.scripts.run_statement(sql)
        with pytest.raises(ConstraintError), scratch.scripts.schema_transaction():
            scratch.scripts.run_statement("insert into p values (1), (1)")
        assert set(scratch.tables()) == {"d", "lists", "p", "part", "t", "v"}
        assert postgresql.reader().query("select count(*) from pg_namespace where nspname like 'dbctl%'") == [
            (0,)
        ]
        expected = scratch.schema_reader.schema()
    assert postgresql.rows("select count(*) from pg_namespace where nspname like 'dbctl%'") == [(0,)]
    postgresql.execute("drop table t")
    for sql in STATEMENTS:
        postgresql.execute(sql)
    assert postgresql.reader().schema_reader.schema() == expected
