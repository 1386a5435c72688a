"""All types and objects of MySQL and MariaDB are restored, compared with the command-line client.

The kinds are read from the server's catalogs; the tests fail if ``mysql_samples`` has no sample of a kind.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from contextlib import closing

import pymysql
import pytest

from dbctl.engines.mysql.dialect import parse_server
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.options import connection_arguments
from dbctl.errors.usage import NotSupportedError
from tests import servers
from tests.services import mysql_samples
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import apply_restore, create_app_backup

pytestmark = pytest.mark.slow

CONFIGURATION = """[apps.kinds]
profile = "plain"
[apps.kinds.databases]
main = "{url}"
[apps.kinds.backup]
repository = "backups"
"""
#: Tables of the catalog that describe a database, compared row by row.
COMPARED = [
    "CHECK_CONSTRAINTS",
    "COLUMNS",
    "EVENTS",
    "GEOMETRY_COLUMNS",
    "KEY_COLUMN_USAGE",
    "PARAMETERS",
    "PARTITIONS",
    "REFERENTIAL_CONSTRAINTS",
    "ROUTINES",
    "STATISTICS",
    "TABLES",
    "TABLE_CONSTRAINTS",
    "TRIGGERS",
    "VIEWS",
    "ST_GEOMETRY_COLUMNS",
    "COLUMNS_EXTENSIONS",
    "TABLES_EXTENSIONS",
    "TABLE_CONSTRAINTS_EXTENSIONS",
    "VIEW_ROUTINE_USAGE",
    "VIEW_TABLE_USAGE",
    "COLUMN_STATISTICS",
    "LIBRARIES",
    "ROUTINE_LIBRARIES",
    "JSON_DUALITY_VIEWS",
    "JSON_DUALITY_VIEW_COLUMNS",
    "JSON_DUALITY_VIEW_LINKS",
    "JSON_DUALITY_VIEW_TABLES",
    "SEQUENCES",
    "PERIODS",
    "KEY_PERIOD_USAGE",
]
NOT_COMPARED = {
    **dict.fromkeys(
        ("COLUMN_PRIVILEGES", "SCHEMA_PRIVILEGES", "TABLE_PRIVILEGES", "ROLE_COLUMN_GRANTS", "ROLE_ROUTINE_GRANTS", "ROLE_TABLE_GRANTS"),
        "privileges belong to the server and refer to the name only",
    ),
    **dict.fromkeys(("INDEX_STATISTICS", "TABLE_STATISTICS", "FILES"), "counters of the server"),
    **dict.fromkeys(("SCHEMATA", "SCHEMATA_EXTENSIONS"), "the database, which is not replaced"),
}  # fmt: skip
#: Columns of the catalog with times or estimated sizes.
VOLATILE = re.compile(
    r"(?:create|update|check)_time|table_rows|avg_row_length|.*data_length|index_length|data_free|cardinality|checksum|created"
    r"|last_altered|last_executed|.*privileges|table_id|histogram|max_index_length",
    re.IGNORECASE,
)
#: Creation time of a trigger, at the end of its line.
TRIGGER_TIMESTAMP = re.compile(r"\t\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d$")


@pytest.fixture
def server():
    """A server with all engines of its package, or the server of the environment."""
    if os.environ.get("DBCTL_TEST_MYSQL"):
        return servers.mysql()
    return servers.private_mysql(
        "--plugin-load-add=ha_archive", "--plugin-load-add=ha_blackhole", "--plugin-load-add=ha_federatedx"
    )


@pytest.fixture
def shelf(server, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with servers.mysql_database(server=server) as url:
        yield ServerDatabase(url, tmp_path)


class ServerDatabase:
    """A database with its configuration, read with the command-line client."""

    def __init__(self, url, folder):
        self.url, self.name, self.path = url, url.path, folder / "kinds.db"
        text = CONFIGURATION.replace("{url}", servers.text(url))
        self.path.with_name("dbctl.toml").write_text(text, encoding="utf-8")
        with closing(self.connect()) as connection:
            self.server = parse_server(connection.get_server_info(), "tests")

    def connect(self):
        return pymysql.connect(**connection_arguments(self.url), charset="utf8mb4", autocommit=True)

    def run(self, *statements):
        arguments = connection_arguments(self.url)
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                text = statement.replace("{db}", self.name).replace(
                    "{socket}", str(arguments.get("unix_socket"))
                )
                cursor.execute(text.encode())

    def rows(self, sql):
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def run_client(self, statements):
        """Return the output of the command-line client."""
        arguments = connection_arguments(self.url)
        options = (
            [f"--socket={arguments['unix_socket']}"]
            if "unix_socket" in arguments
            else [f"--host={arguments['host']}", f"--port={arguments['port'] or 3306}", "--protocol=tcp"]
        )
        client = "mariadb" if self.server.is_mariadb else "mysql"
        result = subprocess.run(
            [client, "--no-defaults", *options, f"--user={arguments['user']}", "--batch", "--default-character-set=utf8mb4", "--init-command=set time_zone = '+00:00', sort_buffer_size = 64 << 20", self.name],
            input=";\n".join(statements) + ";\n",
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "MYSQL_PWD": arguments["password"].decode()},
        )  # fmt: skip
        assert not result.returncode, result.stderr
        return result.stdout.splitlines()

    def describe(self):
        """Return definitions, rows and catalog of the database as printed by the client."""
        lines = self.run_client([*self._definitions(), *self._contents(), *self._catalog()])
        return [TRIGGER_TIMESTAMP.sub("", line) for line in lines]

    def _definitions(self):
        for name, kind in self.rows(
            "select table_name, table_type from information_schema.tables where table_schema = database() order by 1"
        ):
            yield f"show create {'view' if kind == 'VIEW' else 'table'} {quote(name)}"
            if kind == "SEQUENCE":
                yield f"select next_not_cached_value, cycle_count from {quote(name)}"
        for name, kind in self.rows(
            "select routine_name, routine_type from information_schema.routines where routine_schema = database() order by 1, 2"
        ):
            yield f"show create {kind} {quote(name)}"
        for kind, catalog, prefix in (("trigger", "triggers", "trigger"), ("event", "events", "event")):
            for (name,) in self.rows(
                f"select {prefix}_name from information_schema.{catalog} where {prefix}_schema = database() order by 1"
            ):
                yield f"show create {kind} {quote(name)}"

    def _contents(self):
        for table, kind in self.rows(
            "select table_name, table_type from information_schema.tables where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by 1"
        ):
            columns = self.rows(
                "select column_name, data_type, extra from information_schema.columns where table_schema = database()"
                f" and table_name = x'{table.encode().hex()}' order by ordinal_position"
            )
            if table == "of_today":  # its virtual columns depend on the current time
                columns = columns[:2]
            texts = [exact_value_sql(quote(name), kind) for name, kind, _ in columns]
            history = " for system_time all" if kind == "SYSTEM VERSIONED" else ""
            if history and not any("GENERATED" in extra for _, _, extra in columns):
                texts += ["row_start", "row_end"]
            yield f"select {', '.join(texts)} from {quote(table)}{history} order by {', '.join(map(str, range(1, len(texts) + 1)))}"

    def _catalog(self):
        for table, (schema, columns) in self.catalogs().items():
            if table in COMPARED:
                names = ", ".join(quote(name) for name in columns if not VOLATILE.fullmatch(name))
                order = ", ".join(str(index + 1) for index in range(names.count("`, `") + 1))
                yield f"select {names} from information_schema.{table} where {schema} = '{self.name}' order by {order}"

    def catalogs(self):
        """Return the catalog tables with a database column: that column, and all columns."""
        catalogs = {}
        for table, column in self.rows(
            "select table_name, column_name from information_schema.columns where table_schema = 'information_schema'"
            " and table_name not like 'INNODB%' order by table_name, ordinal_position"
        ):
            catalogs.setdefault(table.upper(), []).append(column)
        schemas = {
            name: [
                column
                for column in columns
                if column.lower().endswith("_schema") or column.lower() == "schema_name"
            ]
            for name, columns in catalogs.items()
        }
        return {name: (schemas[name][0], columns) for name, columns in catalogs.items() if schemas[name]}

    def assert_round_trip(self, *, recreate=True):
        """Back up and restore the database, and compare it with the original; ``recreate``: drop it before the restore."""
        before = self.describe()
        backup = create_app_backup(self.path)
        if recreate:
            with closing(self.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(f"drop database `{self.name}`")
                cursor.execute(f"create database `{self.name}` character set utf8mb4")
        apply_restore(self.path, backup.id)
        assert self.describe() == before


def exact_value_sql(name, kind):
    """Return SQL for the exact value of a column."""
    if kind == "float":
        return f"cast({name} as double)"
    if kind in mysql_samples._SHAPES or kind in ("geometry", "geomcollection"):
        return f"hex(st_aswkb({name})), st_srid({name})"
    if kind == "enum":
        return f"hex({name}), {name} + 0"
    if (
        "char" in kind
        or "text" in kind
        or "blob" in kind
        or "binary" in kind
        or kind in ("set", "bit", "vector")
    ):
        return f"hex({name})"
    return name


def list_types(shelf):
    """Return the canonical names of the keywords that the server accepts as a type."""
    keywords = {str(word) for (word,) in shelf.rows("select word from information_schema.keywords")}
    for name, text in shelf.rows(
        "select t.name, t.description from mysql.help_topic t join mysql.help_category c using (help_category_id)"
        " where c.name in ('Data Types', 'Geographic Features', 'Geometry constructors', 'Geometry Constructors', 'WKT')"
    ):
        keywords |= set(re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", f"{name} {text}"))
    keywords |= {
        str(name)
        for (name,) in shelf.rows(
            "select plugin_name from information_schema.plugins where plugin_type = 'DATA TYPE'"
        )
    }
    types = set()
    with closing(shelf.connect()) as connection, connection.cursor() as cursor:
        for word in sorted({word.upper() for word in keywords if re.fullmatch(r"\w+", word)}):
            for form in (word, f"{word}(3)", f"{word}('a')"):
                try:
                    cursor.execute(f"create table probe (c {form})")
                except pymysql.Error:
                    continue
                cursor.execute(
                    "select data_type from information_schema.columns where table_schema = database() and table_name = 'probe'"
                )
                types.add(str(cursor.fetchone()[0]).lower())
                cursor.execute("drop table probe")
                break
    return types


def test_values_of_every_type_are_restored_exactly(shelf):
    types = list_types(shelf)
    assert types >= {"int", "float", "json" if not shelf.server.is_mariadb else "uuid", "enum", "geometry"}
    assert not types - set(mysql_samples.TYPES)
    statements = ["set sql_mode = 'ALLOW_INVALID_DATES'", "set time_zone = '+00:00'"]
    parse_function = "vec_fromtext" if shelf.server.is_mariadb else "string_to_vector"
    for name in sorted(types):
        for index, (definition, values) in enumerate(mysql_samples.TYPES[name]):
            table = quote(f"{name} {index}")
            statements.append(f"create table {table} (id int auto_increment primary key, c {definition})")
            statements += [
                f"insert ignore into {table} (c) values ({value.replace('{vector}', parse_function)})"
                for value in values
            ]
            if " not null" not in definition:
                statements.append(f"insert into {table} (c) values (null)")
    shelf.run(*statements)
    shelf.assert_round_trip()


def test_texts_of_every_collation_are_restored_exactly(shelf):
    charsets = dict(shelf.rows("select character_set_name, maxlen from information_schema.character_sets"))
    name_column = "full_collation_name" if shelf.server.is_mariadb else "collation_name"
    collations = shelf.rows(
        f"select character_set_name, {name_column} from information_schema.collation_character_set_applicability order by 2"
    )
    assert {charset for charset, _ in collations} == set(charsets)
    statements = ["set sql_mode = ''"]
    for charset, longest in charsets.items():
        if charset == "binary":
            continue
        table = quote(f"bytes of {charset}")
        statements.append(
            f"create table {table} (id int auto_increment primary key, t varchar(300) character set {charset})"
        )
        if longest == 1:
            values = [bytes(range(256))]
        elif charset in ("utf8", "utf8mb3", "utf8mb4"):
            values = ["aä日\\'".encode(), "😀".encode()]
        else:  # invalid byte sequences are ignored
            values = [bytes([first, second]) for first in range(0, 256, 5) for second in range(1, 256, 7)]
        cells = ", ".join(f"(x'{value.hex()}')" for value in values)
        statements.append(f"insert ignore into {table} (t) values {cells}")
    by_charset = {}
    for charset, collation in collations:
        by_charset.setdefault(charset, []).append(collation)
    for charset, names in by_charset.items():
        for start in range(0, len(names) if charset != "binary" else 0, 400):
            columns = ", ".join(
                f"{quote(name)} varchar(2) character set {charset} collate {name}"
                for name in names[start : start + 400]
            )
            statements.append(f"create table {quote(f'collations of {charset} {start}')} ({columns})")
    shelf.run(*statements)
    shelf.assert_round_trip()


def test_objects_of_every_kind_are_restored(shelf):
    created = [
        str(name) for (name,) in shelf.rows("select name from mysql.help_topic where name like 'CREATE %'")
    ]
    assert created
    sampled = {*mysql_samples.KINDS, *mysql_samples.KINDS_OF_SERVERS}
    assert not {name.replace("\\", "").removeprefix("CREATE ") for name in created} - sampled
    catalogs = shelf.catalogs()
    assert not set(catalogs) - {*COMPARED, *NOT_COMPARED}
    shelf.run(
        "drop user if exists gone@localhost",
        "create user gone@localhost",
        "grant all on `{db}`.* to gone@localhost",
    )
    try:
        samples = list(mysql_samples.MARIADB if shelf.server.is_mariadb else mysql_samples.MYSQL)
        if not shelf.server.is_mariadb:
            samples += [sql for version, sql in mysql_samples.MYSQL_NEW if shelf.server.version >= version]
        shelf.run(*mysql_samples.FIRST, *mysql_samples.OBJECTS, *samples)
    finally:
        shelf.run("drop user gone@localhost")
    for table, (schema, _) in catalogs.items():
        if table in COMPARED:
            assert shelf.rows(
                f"select 1 from information_schema.{table} where {schema} = '{shelf.name}' limit 1"
            ), table
    shelf.assert_round_trip()
    shelf.assert_round_trip(recreate=False)


def test_unsupported_objects_are_refused_or_reported(shelf):
    is_mariadb = shelf.server.is_mariadb
    shelf.run(
        "create user if not exists gone@localhost",
        "grant all on `{db}`.* to gone@localhost",
        "create table base (id int primary key)",
        "create definer=gone@localhost view definer_gone as select id from base",
        "create view on_definer_gone as select id from definer_gone",
        "drop user gone@localhost",
    )
    before = {
        name
        for (name,) in shelf.rows(
            "select table_name from information_schema.tables where table_schema = database()"
        )
    }
    backup = create_app_backup(shelf.path)
    assert any("on_definer_gone" in remark for remark in backup.remarks) != is_mariadb
    apply_restore(shelf.path, backup.id)
    after = {
        name
        for (name,) in shelf.rows(
            "select table_name from information_schema.tables where table_schema = database()"
        )
    }
    assert before - after == (set() if is_mariadb else {"on_definer_gone"})
    shelf.run("create table only_generated (g int generated always as (1 + 1) stored)")
    create_app_backup(shelf.path)  # a table without rows can be dumped
    shelf.run("insert into only_generated values ()")
    if is_mariadb:
        create_app_backup(shelf.path)
    else:
        error = catch_error(NotSupportedError, lambda: create_app_backup(shelf.path))
        assert "only_generated" in error.context["feature"]


def test_rows_of_every_type_have_digests(shelf):
    types = list_types(shelf)
    parse_function = "vec_fromtext" if shelf.server.is_mariadb else "string_to_vector"
    statements = ["set sql_mode = 'ALLOW_INVALID_DATES'"]
    for name in sorted(types):
        definition, values = mysql_samples.TYPES[name][0]
        statements += [
            f"create table {quote(name)} (id int primary key, c {definition})",
            f"insert ignore into {quote(name)} values (1, {values[0].replace('{vector}', parse_function)})",
        ]
    shelf.run(*statements)
    (member,) = create_app_backup(shelf.path).members
    assert set(member.digests) == types


def test_table_of_unsupported_engine_is_refused_by_name(server, tmp_path, monkeypatch):
    with servers.mysql_database(server=server) as url:
        engines = [
            str(name)
            for (name,) in ServerDatabase(url, tmp_path).rows(
                "select engine from information_schema.engines where support in ('YES', 'DEFAULT')"
            )
        ]
    # MySQL and MariaDB spell this engine differently.
    engines = ["MRG_MYISAM" if engine.upper() == "MRG_MYISAM" else engine for engine in engines]
    assert not set(engines) - {*mysql_samples.ENGINES, *mysql_samples.ENGINES_WITHOUT_TABLES}
    for engine in engines:
        if engine in mysql_samples.ENGINES_WITHOUT_TABLES:
            continue
        outcome, statements = mysql_samples.ENGINES[engine]
        (tmp_path / engine).mkdir()
        with servers.mysql_database(server=server) as url:
            shelf = ServerDatabase(url, tmp_path / engine)
            shelf.run(*statements)
            if outcome == mysql_samples.REFUSED:
                assert "odd" in str(
                    catch_error(NotSupportedError, lambda path=shelf.path: create_app_backup(path)).context[
                        "feature"
                    ]
                )
            else:
                shelf.assert_round_trip()
