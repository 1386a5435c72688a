"""Limits of a server of MySQL or MariaDB that is smaller than the one of a backup."""

from __future__ import annotations

from contextlib import closing

import pytest

from dbctl.engines.contract.database import Order
from dbctl.errors.connection import QueryFailedError
from tests import servers
from tests.engines.conftest import MySQLFixture

PACKET, TABLE = "max_allowed_packet", "max_heap_table_size"


@pytest.fixture(scope="module")
def server():
    return servers.private_mysql()


@pytest.mark.parametrize(
    ("limit", "table", "rows", "code"),
    [
        (PACKET, "(words longtext) engine=InnoDB", "select repeat('x', 2000000)", "connection-lost"),
        (
            TABLE,
            "(words char(100)) engine=MEMORY",
            "select repeat('x', 100) from information_schema.columns",
            "client-failed",
        ),
    ],
)
def test_hint_names_the_limit_that_a_dump_exceeds(
    server, limit, table, rows, code, tmp_path, monkeypatch, answer
):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DBCTL_STATE", "off")
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "mysql://root@/{url.path}?{url.options}"\n[apps.shop.backup]\nrepository = "backups"\n'
        )
        cursor.execute(f"create table goods {table}")
        cursor.execute(f"insert into goods {rows}")
        cursor.execute(f"select @@global.{limit}")
        ((original,),) = cursor.fetchall()
        answer("backup", "create")
        cursor.execute(f"set global {limit} = {1 << 20 if limit == PACKET else 1 << 14}")
        try:
            error = answer("restore", "apply", "latest", "--yes", status=None)["error"]
        finally:
            cursor.execute(f"set global {limit} = {original}")
        if limit == PACKET and not servers.server_at(server).is_mariadb:
            code = "not-supported"  # MySQL names the limit; MariaDB closes the connection
        assert error["code"] == code
        assert limit in error["hint"]
        answer("restore", "apply", "latest", "--yes")


@pytest.mark.mariadb  # MySQL has no sequences
def test_backup_is_not_damaged_if_the_server_cannot_log_its_sequence(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", "off")
    settings = ("--log-bin=mysql-bin", "--server-id=7", "--binlog-format=STATEMENT")
    with servers.private_mysql_app(tmp_path, *settings) as cursor:
        cursor.execute("create table goods (id integer primary key)")
        cursor.execute("create sequence numbers")
        cursor.execute("create user app@localhost")  # without the right to log rows in its own session
        cursor.execute("grant all on `%`.* to app@localhost")
        file = tmp_path / "dbctl.toml"
        file.write_text(file.read_text().replace("//root@", "//app@"))
        answer("backup", "create")
        for words in (["backup", "verify", "--deep"], ["backup", "drill"]):
            error = answer(*words, status=6)["error"]
            assert error["code"] == "binary-log-refused"
            assert "denied" not in error["message"]
            assert "SET GLOBAL binlog_format = 'ROW'" in error["hint"]
        cursor.execute("set global binlog_format = 'ROW'")
        answer("backup", "verify", "--deep")
        answer("backup", "drill")


@pytest.mark.mariadb  # the smallest buffer of MySQL suffices
def test_hint_names_the_memory_that_a_sort_needs(server):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create table goods (id integer primary key, words longtext)")
        cursor.execute("insert into goods values (1, 'a'), (2, 'b')")
        cursor.execute("select @@global.sort_buffer_size, @@global.max_sort_length")
        ((buffer, length),) = cursor.fetchall()
        cursor.execute("set global sort_buffer_size = 1024, global max_sort_length = 8388608")
        database = MySQLFixture(url)
        try:
            with (
                closing(database.connection),
                closing(database.reader()) as reader,
                pytest.raises(QueryFailedError) as failure,
            ):
                reader.select("goods", ["id"], order_by=[Order(["words"])])
        finally:
            cursor.execute(f"set global sort_buffer_size = {buffer}, global max_sort_length = {length}")
    assert "sort_buffer_size" in failure.value.hint


def test_order_of_texts_does_not_depend_on_the_length_that_the_server_compares(server):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create table goods (id integer primary key, path varchar(200))")
        for number in range(1, 6):
            cursor.execute(f"insert into goods values ({number}, '{'/folder' * 10}/{number * 3 % 5}')")
        cursor.execute("set global max_sort_length = 64")
        database = MySQLFixture(url)
        try:
            with closing(database.connection), closing(database.reader()) as reader:
                paths = reader.select("goods", ["path"], order_by=[Order(["path"])])
        finally:
            cursor.execute("set global max_sort_length = default")
    assert [path[-1] for (path,) in paths] == ["0", "1", "2", "3", "4"]


@pytest.mark.mariadb
@pytest.mark.parametrize(
    ("setting", "statement"),
    [
        ("sql_if_exists = 1", "create table if not exists goods (id integer primary key)"),
        ("alter_algorithm = 'INSTANT'", "alter table goods force"),
    ],
)
def test_statement_does_not_depend_on_a_setting_of_the_server(server, setting, statement):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create table goods (id integer primary key)")
        cursor.execute(f"set global {setting}")
        database = MySQLFixture(url)
        try:
            with closing(database.connection), closing(database.writer()) as writer, writer.transaction():
                writer.scripts.run_statement(statement)
        finally:
            cursor.execute(f"set global {setting.split()[0]} = default")


def test_tables_of_dbctl_fit_the_old_format_of_rows(server, tmp_path, monkeypatch, answer):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(url)}"\nmigrations = {{ main = "sql" }}\nbackup.repository = "backups"\n'
        )
        (tmp_path / "sql").mkdir()
        (tmp_path / "sql/001-first.sql").write_text(
            "create table goods (id int); create table more (id int);"
        )
        (tmp_path / "words.csv").write_text("word\none\n")
        cursor.execute("create table keyed (word varchar(255) character set utf8mb4 primary key)")
        answer("backup", "create")
        cursor.execute("drop table keyed")
        cursor.execute("set global innodb_default_row_format = 'compact'")
        try:
            answer("migrate", "up", "--yes")
            answer("data", "import", "words", "words.csv", "--create", "--key", "word", "--yes")
            error = answer("restore", "apply", "latest", "--yes", status=1)["error"]
        finally:
            cursor.execute("set global innodb_default_row_format = 'dynamic'")
        assert "innodb_default_row_format" in error["hint"]


@pytest.mark.mariadb
def test_restore_does_not_move_tables_to_the_engine_that_the_server_enforces(
    server, tmp_path, monkeypatch, answer
):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        monkeypatch.chdir(tmp_path)
        settings = f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(url)}"\nbackup.repository = "backups"\n'
        (tmp_path / "dbctl.toml").write_text(settings)
        cursor.execute("create table goods (id integer primary key)")
        cursor.execute("create table sales (goods integer references goods (id))")
        cursor.execute("create user clerk@localhost")
        cursor.execute(f"grant all on `{url.path[:2]}%`.* to clerk@localhost")
        answer("backup", "create")
        cursor.execute("set global enforce_storage_engine = Aria")
        try:
            answer("restore", "apply", "latest", "--yes")
            (tmp_path / "dbctl.toml").write_text(settings.replace("root@", "clerk@"))
            error = answer("restore", "apply", "latest", "--yes", status=1)["error"]
        finally:
            cursor.execute("set global enforce_storage_engine = null")
            cursor.execute("drop user clerk@localhost")
        assert error["code"] == "restore-failed"
        cursor.execute(
            "select count(*) from information_schema.referential_constraints where constraint_schema = database()"
        )
        assert cursor.fetchall() == ((1,),)


@pytest.mark.parametrize("limit", [2, 3])
def test_hint_names_the_limit_of_connections_that_a_restore_exceeds(
    server, tmp_path, monkeypatch, answer, limit
):
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(url).replace("root@", "clerk@")}"\nbackup.repository = "backups"\n'
        )
        cursor.execute("create table goods (id integer primary key)")
        cursor.execute(f"create user clerk@localhost with max_user_connections {limit}")
        cursor.execute(f"grant all on `{url.path[:2]}%`.* to clerk@localhost")
        try:
            answer("backup", "create")
            error = answer("restore", "apply", "latest", "--yes", status=10)["error"]
        finally:
            cursor.execute("drop user clerk@localhost")
        assert error["code"] == "unreachable"
        assert "MAX_USER_CONNECTIONS" in error["hint"]
