"""MySQL and MariaDB keep the contract."""

from __future__ import annotations

import pytest

from dbctl.errors import QueryFailedError, SecretAskedError
from tests.caching import mysql_database
from tests.conformance.contract import ROWS, SCHEMA, EngineContract
from tests.conformance.streaming import asked
from tests.engines.conftest import MadeMySQL, on_mysql


def fill_contract(cursor):
    for sql in SCHEMA:
        cursor.execute(sql.format(key=MadeMySQL.key))
    for table, (columns, rows) in ROWS.items():
        places = ", ".join(["%s"] * len(columns))
        cursor.executemany(f"insert into {table} ({', '.join(columns)}) values ({places})", rows)


def fill_accounts(cursor):
    cursor.execute('create table "User" (id integer primary key, password text, name text)')
    cursor.execute("insert into \"User\" values (1, 'hash', 'Ann')")


class TestMySQL(EngineContract):
    @pytest.fixture
    def fresh(self, mysql):
        return mysql

    @pytest.fixture
    def filled(self):
        with on_mysql(mysql_database(fill_contract)) as made:
            yield made


@pytest.mark.parametrize(
    "sql",
    [
        "select load_file('/etc/passwd')",
        "select get_lock('x', 0)",
        "select 1 into outfile '/tmp/x'",
        "select `sys_exec`('id')",
    ],
)
def test_a_question_that_reaches_out_of_the_tables_is_refused(mysql, sql):
    with pytest.raises(QueryFailedError, match="more than"), mysql.reader().ask(sql):
        pass


@pytest.fixture
def accounts():
    with on_mysql(mysql_database(fill_accounts)) as made:
        yield made.reader()


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
def test_a_secret_has_no_other_name(accounts, sql):
    with pytest.raises(SecretAskedError):
        asked(accounts, sql, hidden={"User": ["password"]})


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
def test_what_stands_beside_a_secret_is_told(accounts, sql):
    asked(accounts, sql, hidden={"User": ["password"]})


def test_dates_of_zeros_come_back_as_they_were(mysql):
    mysql.execute("set sql_mode = 'ANSI_QUOTES'")
    mysql.execute("create table old (id integer primary key, d date, at datetime)")
    mysql.execute("insert into old values (1, '0000-00-00', '0000-00-00 00:00:00'), (2, '2020-00-00', null)")
    opened, columns = mysql.writer(), ["id", "d", "at"]
    with opened.stream("old", columns) as answer:
        rows = [row for batch in answer.batches for row in batch]
    read = [opened.of_json("old", column) for column in columns]
    told = [
        [None if value is None else one(value) for one, value in zip(read, row, strict=True)] for row in rows
    ]
    before = mysql.rows("select id, cast(d as char), cast(at as char) from old order by id")
    with opened.transaction():
        opened.delete("old", [])
        assert opened.insert_many("old", columns, told) == 2
    assert mysql.rows("select id, cast(d as char), cast(at as char) from old order by id") == before
