"""Lint findings of single statements and scripts."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from dbctl.engines import registry
from dbctl.engines.contract.schema import Script
from dbctl.services.migrations.lint_rules import LINT_RULES
from tests import servers

ALL_ENGINES = {
    "create table t (a int)": [],
    "drop table t": ["drops-table", "no-if-exists"],
    "drop table if exists t": ["drops-table"],
    "create table t (a int); drop table t": [],
    "alter table t drop column a": ["drops-column"],
    "alter table t drop a": ["drops-column"],
    "alter table t add a int; alter table t drop column a": [],
    "delete from t": ["deletes-all"],
    "delete from t where a in (select b from u where b > 1)": ["deletes-rows"],
    "delete from t -- where\n": ["deletes-all"],
    "with old as (select a from u where a < 1) delete from t": ["deletes-all"],
    "create table t (a int); delete from t": [],
    "update t set a = 1": ["updates-all"],
    "update t set a = 1, b = (select 2 from u where c = 1)": ["updates-all"],
    "update t set a = 1 where b = 2": [],
    "alter table t add column a int; update t set a = b": [],
    "alter table t add column a int; update t set a = 1, b = 2": ["updates-all"],
    "alter table t rename to u": ["renames"],
    "alter table t rename column a to b": ["renames"],
    "create table n (a int); insert into n select a from t; drop table t; alter table n rename to t": [],
    "alter table t rename to o; create table t (a int); insert into t select a from o; drop table o": [],
    "insert into t values (1, 'drop table t; delete from t')": ["no-insert-or-ignore"],
    "insert into t select a from u": [],
    "/* drop table t; */ insert into t select 'delete from t' -- truncate t\n": [],
    "create index i on t (a)": None,
}
SQLITE = {
    "create table if not exists t (a); create index if not exists i on t (a)": [],
    "create view v as select 1; create trigger g after insert on t begin delete from u; update u set a = 1; end": [
        "no-if-not-exists",
        "no-if-not-exists",
    ],
    "insert or ignore into t values (1)": [],
    'insert into t values (1) on conflict ("a") do nothing': [],
    "pragma foreign_keys = off": ["pragma-no-effect"],
    "pragma foreign_key_check": [],
    "alter table t add column a text not null": ["not-null-without-default"],
    "alter table t add column a text not null default null": ["not-null-without-default"],
    "alter table t add column a text not null default ''": [],
    "alter table t add column a text default current_timestamp": ["default-not-constant"],
    "alter table t add column a text default (strftime('%s', 'now'))": ["default-not-constant"],
    "alter table t add column a int default -1 check (a < 5)": [],
    "alter table t add column a int unique": ["column-refused"],
    "alter table t add column a int primary key": ["column-refused"],
    "alter table t add column a int as (b * 2) stored": ["column-refused"],
    "alter table t add column a int not null generated always as (b * 2)": [],
    'create table if not exists t (a text default "new")': ["double-quoted-text"],
    'insert or ignore into "t" ("a", "b") values (1, "two")': ["double-quoted-text"],
    'insert or ignore into "t" ("a") values (1) on conflict ("a") do update set "a" = excluded."a"': [],
    """select 1 from "t" where "a" = "b" and "a" = 'x'""": [],
    'update t set a = 1 where b = "not a name"': ["double-quoted-text"],
    "create index if not exists i on t (a); create trigger if not exists g after insert on t begin select 1; end;"
    "create table if not exists n (a int); drop table if exists t; alter table n rename to t": [
        "rebuild-drops-objects",
        "rebuild-drops-objects",
    ],
    "create index if not exists i on t (a); create table if not exists n (a int); drop table if exists t;"
    "alter table n rename to t; create index if not exists i on t (a)": [],
    "create index if not exists i on t (a); drop index if exists i; create table if not exists n (a int);"
    "drop table if exists t; alter table n rename to t": [],
}
POSTGRESQL = {
    "create index on t (a)": ["index-locks", "no-if-not-exists"],
    "create unique index if not exists i on only s.t (a)": ["index-locks"],
    "create table if not exists t (a int); create index if not exists i on t (a)": [],
    "create table if not exists s.t (a int); create index if not exists i on s.t (a); drop index if exists s.i": [],
    "drop index if exists i": ["index-locks"],
    "alter table t add column a int not null": ["not-null-without-default"],
    "alter table t add a int not null default 0, add b text not null": ["not-null-without-default"],
    "alter table t add column a timestamptz not null default now()": [],
    "alter table t add column a timestamp(3) not null default current_timestamp(3)": [],
    "alter table t add column a varchar(20) default 'random()'": [],
    "alter table t add column a uuid default gen_random_uuid()": ["rewrites-table"],
    "alter table t add column a timestamptz default clock_timestamp()": ["rewrites-table"],
    "alter table t add column a bigserial": ["rewrites-table"],
    "alter table t add column a int generated always as identity": ["rewrites-table"],
    "alter table t alter column a type bigint": ["rewrites-table"],
    "alter table t alter a set data type text using a::text": ["rewrites-table"],
    "alter table t alter column a set not null": ["not-null-scans"],
    "alter table t alter column a set default 5, alter column a drop not null": [],
    "create table if not exists t (a int); alter table t alter column a type bigint, alter a set not null": [],
    "alter table t add constraint k foreign key (a) references u (b)": ["constraint-scans"],
    "alter table t add constraint k foreign key (a) references u (b) not valid": [],
    "alter table t validate constraint k": [],
    "alter table t add check (a > 0)": ["constraint-scans"],
    "alter table t add unique (a)": ["unique-locks"],
    "alter table t add constraint k primary key using index i": [],
    "alter table t add constraint k primary key (a)": ["unique-locks"],
    "alter type mood add value 'glad'; insert into t select 'glad'": ["enum-value-same-transaction"],
    "alter type mood add value if not exists 'glad' after 'sad'; insert into t select 'sad'": [],
    "create type mood as enum ('sad'); alter type mood add value 'glad'; insert into t select 'glad'": [],
    "lock table t in exclusive mode": ["locks-table"],
    "cluster t using i": ["locks-table"],
    "reindex table t": ["locks-table"],
    "truncate table only t, u": ["deletes-all", "deletes-all"],
    "do $$ begin delete from t; drop table u; end $$": [],
    "create function f() returns void language sql as 'delete from t'": [],
    "create role reader": ["external-side-effect"],
    "do $$ begin create role reader; end $$": ["external-side-effect"],
    "do $$ begin create role reader; create role writer; drop owned by writer; end $$": [
        "external-side-effect",
        "external-side-effect",
    ],
    "copy t (program) from '/rows.csv'": [],
    "copy t from program 'true'": ["external-side-effect"],
    "reindex (concurrently) table t": [],
    "refresh materialized view v": ["locks-table"],
    "alter role reader set work_mem = '1MB'": ["external-side-effect"],
    "create user mapping for public server far": ["external-side-effect"],
    "drop user mapping if exists for public server far": [],
    "drop user mapping for public server far": ["no-if-exists"],
    "drop foreign table if exists far_rows": [],
    "reassign owned by reader to writer": ["external-side-effect"],
    "grant select on t to reader": [],
    "grant admins to reader": ["external-side-effect"],
    "insert into t values (1) on conflict do nothing": [],
    "create type mood as enum ('sad')": [],
}
MYSQL = {
    "create index i on t (a)": [],
    "drop user if exists mapping": ["external-side-effect"],
    "insert ignore into t values (1)": [],
    "insert into t values (1) on duplicate key update a = 1": [],
    "create table if not exists t (a int); alter table t add b int": ["not-transactional"],
    "alter table t add b int; update t set b = 1 where a = 1": ["not-transactional", "mixed-ddl-dml"],
    "update t set b = 1 where a = 1; insert ignore into t values (1)": [],
    "alter table t modify column a bigint": ["copies-table"],
    "alter table t change a b bigint": ["renames", "copies-table"],
    "alter table t modify a enum('x', 'y') not null": ["changes-enum"],
    "alter table t convert to character set utf8mb4": ["copies-table"],
    "alter table t add fulltext key i (a)": ["copies-table"],
    "create fulltext index i on t (a)": ["copies-table"],
    "alter table t drop primary key": ["copies-table"],
    "alter table t drop index i, drop foreign key k, drop constraint c": [],
    "alter table t drop column a, drop b": ["drops-column", "drops-column"],
    "alter table t add (a int, b int); update t set a = 1, b = 2": ["not-transactional", "mixed-ddl-dml"],
    "rename table t to u, v to w": ["renames", "renames"],
    "truncate t": ["deletes-all"],
    "update t x join u y on x.a = y.b set x.c = 1.5 where y.d = 2": [],
    "update app.t set a = 1 where b = 2": ["external-side-effect"],
    "insert into t select a from other.u": ["external-side-effect"],
    "create trigger g before insert on t for each row set new.a = 1": [],
    "create user reader": ["external-side-effect"],
    "grant select on t to reader": ["external-side-effect"],
    "set global max_connections = 5": ["external-side-effect"],
}

CASES = [
    *(("sqlite", sql, codes) for sql, codes in {**ALL_ENGINES, **SQLITE}.items() if codes is not None),
    *(
        ("postgresql", sql, codes)
        for sql, codes in {**ALL_ENGINES, **POSTGRESQL}.items()
        if codes is not None
    ),
    *(("mysql", sql, codes) for sql, codes in {**ALL_ENGINES, **MYSQL}.items() if codes is not None),
]
OPTIONAL_CODES = {"no-if-not-exists", "not-transactional", "mixed-ddl-dml"}


def lint_texts(engine, *texts, outside=False):
    dialect = registry.load_engine(engine).script_dialect
    scripts = [Script(statements=dialect.split(text), outside_transaction=outside) for text in texts]
    return [list(findings) for findings in dialect.lint(scripts)]


@pytest.mark.parametrize(("engine", "sql", "codes"), CASES)
def test_statement_has_exactly_its_findings(engine, sql, codes):
    (findings,) = lint_texts(engine, sql)
    optional_codes = OPTIONAL_CODES if sql in ALL_ENGINES else set()
    assert sorted(finding.code for finding in findings if finding.code not in optional_codes) == sorted(codes)
    assert {finding.code for finding in findings} <= set(LINT_RULES)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_finding_has_the_first_line_of_its_statement(engine):
    (findings,) = lint_texts(
        engine, "-- one\n\ncreate table if not exists t (a int);\n\n/* three\n*/ drop table if exists u;"
    )
    assert [(finding.line, finding.code) for finding in findings if finding.line] == [(6, "drops-table")]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_names_are_case_insensitive_and_shown_unchanged(engine):
    (findings,) = lint_texts(
        engine, 'drop table if exists Users, "User"; create table T (a int); drop table if exists t'
    )
    assert [finding.message for finding in findings if finding.code == "drops-table"] == [
        "DROP TABLE Users deletes its rows",
        "DROP TABLE User deletes its rows",
    ]


def test_objects_of_earlier_scripts_are_tracked():
    created = "create table t (a int); create unique index once on t (a);"
    rebuilt = (
        "create table n (a int); insert into n select a from t; drop table t; alter table n rename to t;"
    )
    assert [
        finding.code
        for finding in lint_texts("sqlite", created, rebuilt)[1]
        if finding.code == "rebuild-drops-objects"
    ]
    assert not [
        finding.code
        for finding in lint_texts("sqlite", rebuilt)[0]
        if finding.code == "rebuild-drops-objects"
    ]


def test_table_of_an_earlier_script_may_have_rows():
    assert [
        finding.code
        for finding in lint_texts("postgresql", "create table t (a int)", "drop table if exists t")[1]
    ] == ["drops-table"]


#: Codes of errors: the database itself refuses the statement if the table has rows.
ERROR_CODES = {
    "not-null-without-default",
    "default-not-constant",
    "column-refused",
    "enum-value-same-transaction",
}


def select_refused_statements(cases):
    return [sql for sql, codes in cases.items() if ERROR_CODES & set(codes)]


@pytest.mark.parametrize("sql", select_refused_statements(SQLITE))
def test_sqlite_refuses_statements_with_errors(sql):
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript("create table t (b int); insert into t values (1)")
        with pytest.raises(sqlite3.OperationalError, match=r"[Cc]annot add"):
            db.executescript(sql)


@pytest.mark.parametrize("sql", select_refused_statements(POSTGRESQL))
def test_postgresql_refuses_statements_with_errors(sql):
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as db:
        db.execute("create table t (c int); insert into t values (1); create type mood as enum ('sad')")
        with pytest.raises(psycopg.Error, match=r"contains null values|unsafe use of new value"):
            db.execute(f"begin; alter table t add m mood; {sql.replace('t select', 't (m) select')}")


def test_pragma_outside_transaction_has_no_finding():
    assert lint_texts("sqlite", "pragma foreign_keys = off", outside=True) == [[]]
