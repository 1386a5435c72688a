"""MySQL and MariaDB fulfil the engine contract."""

from __future__ import annotations

import pytest

from dbctl.engines.contract.database import Condition
from dbctl.engines.contract.streaming import UserQuery
from dbctl.errors.connection import QueryFailedError, SecretColumnError, StoredFunctionError
from tests.caching import mysql_database
from tests.conformance.contract import ROWS, SCHEMA, EngineContract
from tests.conformance.streaming import run_query
from tests.engines.conftest import MySQLFixture, open_mysql_fixture


def fill_contract(cursor):
    for sql in SCHEMA:
        cursor.execute(sql.format(key=MySQLFixture.key))
    for table, (columns, rows) in ROWS.items():
        placeholders = ", ".join(["%s"] * len(columns))
        cursor.executemany(f"insert into {table} ({', '.join(columns)}) values ({placeholders})", rows)


def fill_accounts(cursor):
    cursor.execute('create table "User" (id integer primary key, password text, name text)')
    cursor.execute("insert into \"User\" values (1, 'hash', 'Ann')")


class TestMySQL(EngineContract):
    @pytest.fixture
    def fresh(self, mysql):
        return mysql

    @pytest.fixture
    def filled(self):
        with open_mysql_fixture(mysql_database(fill_contract)) as database:
            yield database


@pytest.mark.parametrize(
    "sql",
    [
        "select load_file('/etc/passwd')",
        "select get_lock('x', 0)",
        "select 1 into outfile '/tmp/x'",
        "select `sys_exec`('id')",
        "select 1 --\x01 ' \n, load_file('/etc/passwd') -- '",
        "select 1 --\xa0+length(load_file('/etc/passwd')) from (select 1 as \xa0) t",
    ],
)
def test_query_with_external_effects_is_refused(mysql, sql):
    with (
        pytest.raises(QueryFailedError, match="more than"),
        mysql.reader().streams.query_read_only(UserQuery(sql)),
    ):
        pass


@pytest.fixture
def accounts():
    with open_mysql_fixture(mysql_database(fill_accounts)) as database:
        yield database.reader()


@pytest.mark.parametrize(
    "sql",
    [
        "select distinctrow * from `User`",
        "select sql_no_cache straight_join * from `User`",
        "select high_priority * from `User` as u",
        "select 1, * from `User`",
        "select * from`User`",
        "select c from (select 1 as a, 2 as b, 3 as c union all select sql_buffer_result * from `User`) x",
        "with q(a, b, c) as (table `User`) select b from q",
        "select 1, 2, 3 union table `User`",
        "select row(1, 'a', 'b') < (select * from `User`)",
        "select 1 from `User` a join (select 'hash' as password) b using (password)",
        "select * from mysql.user",
        "select authentication_string from mysql.user",
        "select max_value from mysql.column_stats",
        "show grants",
        "show create user root@localhost",
    ],
)
def test_secret_columns_cannot_be_read_indirectly(accounts, sql):
    with pytest.raises(SecretColumnError):
        run_query(accounts, sql, hidden={"User": ["password"]})


@pytest.mark.parametrize(
    "sql",
    [
        "select 2 * id, 2*count( * ) from `User` group by id",
        "select host from mysql.user",
        "show create table `User`",
        "show columns from `User`",
        "desc `User`",
    ],
)
def test_other_columns_of_a_secret_table_are_readable(accounts, sql):
    run_query(accounts, sql, hidden={"User": ["password"]})


@pytest.mark.mariadb
def test_savepoint_after_a_statement_about_an_aria_table_is_explained(mysql):
    mysql.execute("create table log (id integer primary key) engine=Aria transactional=1")
    writer = mysql.writer()
    with pytest.raises(QueryFailedError) as caught, writer.transaction():
        assert writer.count("log") == 0
        with writer.transaction():
            pass
    assert "engine = 'Aria'" in caught.value.hint


def test_cascade_of_too_many_levels_is_explained(mysql):
    mysql.execute(
        "create table node (id integer primary key, parent integer, foreign key (parent) references node (id) on delete cascade)"
    )
    for number in range(1, 21):
        mysql.execute(f"insert into node values ({number}, {number - 1 or 'null'})")
    writer = mysql.writer()
    with pytest.raises(QueryFailedError) as caught, writer.transaction():
        writer.delete("node", [Condition("id", "=", 1)])
    assert "data delete" in caught.value.hint
    assert writer.count("node") == 20
    with writer.transaction():  # as the hint proposes
        writer.delete("node", [Condition("id", "=", 12)])
    with writer.transaction():
        writer.delete("node", [Condition("id", "=", 1)])
    assert writer.count("node") == 0


def test_cascade_of_too_many_tables_is_explained(mysql):
    if mysql.rows("show variables like 'innodb_native_foreign_keys'") != [
        ("innodb_native_foreign_keys", "OFF")
    ]:
        pytest.skip("requires MySQL 9.6, which follows foreign keys outside of InnoDB")
    mysql.execute(
        "create table node (id integer primary key, parent integer, quoted integer,"
        " foreign key (parent) references node (id) on delete cascade,"
        " foreign key (quoted) references node (id) on delete set null)"
    )
    mysql.execute("insert into node values (1, null, null), (2, 1, null), (3, 2, null), (4, null, 2)")
    writer = mysql.writer()
    with pytest.raises(QueryFailedError) as caught, writer.transaction():
        writer.delete("node", [Condition("id", "=", 1)])
    assert "data delete" in caught.value.hint
    with writer.transaction():  # as the hint proposes
        writer.delete("node", [Condition("id", "=", 3)])
    with writer.transaction():
        writer.delete("node", [Condition("id", "=", 1)])
    assert mysql.rows("select * from node") == [(4, None, None)]


def test_zero_dates_are_preserved(mysql):
    mysql.execute("set sql_mode = 'ANSI_QUOTES'")
    mysql.execute("create table old (id integer primary key, d date, at datetime)")
    mysql.execute("insert into old values (1, '0000-00-00', '0000-00-00 00:00:00'), (2, '2020-00-00', null)")
    writer, columns = mysql.writer(), ["id", "d", "at"]
    with writer.streams.stream("old", columns) as result:
        rows = [row for batch in result.batches for row in batch]
    parsers = [writer.codec.json_parser("old", column) for column in columns]
    parsed_rows = [
        [None if value is None else parse(value) for parse, value in zip(parsers, row, strict=True)]
        for row in rows
    ]
    before = mysql.rows("select id, cast(d as char), cast(at as char) from old order by id")
    with writer.transaction():
        writer.delete("old", [])
        assert writer.insert_many("old", columns, parsed_rows) == 2
    assert mysql.rows("select id, cast(d as char), cast(at as char) from old order by id") == before


@pytest.mark.parametrize(
    "sql",
    [
        "select leak()",
        "select `Leak` ()",
        "select id from `User` where leak() = 'a'",
        "select c from outer_view",
        "explain select leak()",
    ],
)
def test_stored_functions_are_called_only_with_permission(mysql, sql):
    for statement in (
        "create table `User` (id integer primary key, password text)",
        "create function leak() returns text deterministic reads sql data return (select max(password) from `User`)",
        "create view leaking as select leak() as c",
        "create view outer_view as select c from leaking",
        "create view harmless as select id from `User`",
    ):
        mysql.execute(statement)
    reader = mysql.reader()
    with pytest.raises(StoredFunctionError):
        run_query(reader, sql, calls_stored_functions=False)
    run_query(reader, "select count(id), max(id) from harmless", calls_stored_functions=False)
    run_query(reader, sql)
