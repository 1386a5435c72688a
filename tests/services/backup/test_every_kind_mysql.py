"""Everything that a server of MySQL or MariaDB can keep goes through a backup and comes back, by the server's own client.

What there is comes from the server's catalogs; ``mysql_samples`` has a sample of each, and these tests fail where one lacks.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from contextlib import closing

import pymysql
import pytest

from dbctl.engines.mysql.errors import quoted
from dbctl.engines.mysql.options import connecting
from dbctl.engines.mysql.session import server_of
from dbctl.errors import NotSupportedError
from tests import servers
from tests.services import mysql_samples
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, create

CONFIGURATION = """[apps.kinds]
profile = "plain"
[apps.kinds.databases]
main = "{url}"
[apps.kinds.backup]
repository = "backups"
"""
#: Tables of the catalog that tell of a database, and that are compared row by row.
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
        "rights are the server's, and stay with the name",
    ),
    **dict.fromkeys(("INDEX_STATISTICS", "TABLE_STATISTICS", "FILES"), "what a server counts of its own work"),
    **dict.fromkeys(("SCHEMATA", "SCHEMATA_EXTENSIONS"), "the database itself, which stays"),
}  # fmt: skip
#: Columns of the catalog that tell when, or how large by a guess.
VOLATILE = re.compile(
    r"(?:create|update|check)_time|table_rows|avg_row_length|.*data_length|index_length|data_free|cardinality|checksum|created"
    r"|last_altered|last_executed|.*privileges|table_id|histogram|max_index_length",
    re.IGNORECASE,
)
#: When a trigger was made, at the end of its line.
CREATED = re.compile(r"\t\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d$")


@pytest.fixture
def server():
    """A server with all engines that its package brings, unless the environment names another server."""
    if os.environ.get("DBCTL_TEST_MYSQL"):
        return servers.mysql()
    return servers.private_mysql(
        "--plugin-load-add=ha_archive",
        "--plugin-load-add=ha_blackhole",
        "--plugin-load-add=ha_federatedx",
    )


@pytest.fixture
def shelf(server, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with servers.mysql_database(server=server) as url:
        yield Shelf(url, tmp_path)


class Shelf:
    """A database, its configuration, and what the server's own client tells of it."""

    def __init__(self, url, folder):
        self.url, self.name, self.path = url, url.path, folder / "kinds.db"
        text = CONFIGURATION.replace("{url}", servers.text(url))
        self.path.with_name("dbctl.toml").write_text(text, encoding="utf-8")
        with closing(self.connected()) as own:
            self.server = server_of(own.get_server_info(), "tests")

    def connected(self):
        return pymysql.connect(**connecting(self.url), charset="utf8mb4", autocommit=True)

    def run(self, *statements):
        place = connecting(self.url)
        with closing(self.connected()) as own, own.cursor() as cursor:
            for statement in statements:
                text = statement.replace("{db}", self.name).replace("{socket}", str(place.get("unix_socket")))
                cursor.execute(text.encode())

    def rows(self, sql):
        with closing(self.connected()) as own, own.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def ask_client(self, statements):
        """Return what the server's own client prints."""
        where = connecting(self.url)
        place = (
            [f"--socket={where['unix_socket']}"]
            if "unix_socket" in where
            else [f"--host={where['host']}", f"--port={where['port'] or 3306}", "--protocol=tcp"]
        )
        client = "mariadb" if self.server.is_mariadb else "mysql"
        done = subprocess.run(
            [client, "--no-defaults", *place, f"--user={where['user']}", "--batch", "--default-character-set=utf8mb4", "--init-command=set time_zone = '+00:00', sort_buffer_size = 64 << 20", self.name],
            input=";\n".join(statements) + ";\n",
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "MYSQL_PWD": where["password"].decode()},
        )  # fmt: skip
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()

    def picture(self):
        """Return everything that is in the database, by words of the server's own client."""
        lines = self.ask_client([*self._definitions(), *self._contents(), *self._catalog()])
        return [CREATED.sub("", line) for line in lines]

    def _definitions(self):
        for name, kind in self.rows(
            "select table_name, table_type from information_schema.tables where table_schema = database() order by 1"
        ):
            yield f"show create {'view' if kind == 'VIEW' else 'table'} {quoted(name)}"
            if kind == "SEQUENCE":
                yield f"select next_not_cached_value, cycle_count from {quoted(name)}"
        for name, kind in self.rows(
            "select routine_name, routine_type from information_schema.routines where routine_schema = database() order by 1, 2"
        ):
            yield f"show create {kind} {quoted(name)}"
        for kind, catalog, prefix in (("trigger", "triggers", "trigger"), ("event", "events", "event")):
            for (name,) in self.rows(
                f"select {prefix}_name from information_schema.{catalog} where {prefix}_schema = database() order by 1"
            ):
                yield f"show create {kind} {quoted(name)}"

    def _contents(self):
        for table, kind in self.rows(
            "select table_name, table_type from information_schema.tables where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by 1"
        ):
            columns = self.rows(
                "select column_name, data_type, extra from information_schema.columns where table_schema = database()"
                f" and table_name = x'{table.encode().hex()}' order by ordinal_position"
            )
            if table == "of_today":  # whose other columns are another moment's
                columns = columns[:2]
            texts = [exact_text(quoted(name), kind) for name, kind, _ in columns]
            history = " for system_time all" if kind == "SYSTEM VERSIONED" else ""
            if history and not any("GENERATED" in extra for _, _, extra in columns):
                texts += ["row_start", "row_end"]
            yield f"select {', '.join(texts)} from {quoted(table)}{history} order by {', '.join(map(str, range(1, len(texts) + 1)))}"

    def _catalog(self):
        for table, (schema, columns) in self.catalogs().items():
            if table in COMPARED:
                names = ", ".join(quoted(name) for name in columns if not VOLATILE.fullmatch(name))
                order = ", ".join(str(number + 1) for number in range(names.count("`, `") + 1))
                yield f"select {names} from information_schema.{table} where {schema} = '{self.name}' order by {order}"

    def catalogs(self):
        """Return the tables of the catalog that tell of databases: their column of the database, and all columns."""
        found = {}
        for table, column in self.rows(
            "select table_name, column_name from information_schema.columns where table_schema = 'information_schema'"
            " and table_name not like 'INNODB%' order by table_name, ordinal_position"
        ):
            found.setdefault(table.upper(), []).append(column)
        schemas = {
            name: [
                column
                for column in columns
                if column.lower().endswith("_schema") or column.lower() == "schema_name"
            ]
            for name, columns in found.items()
        }
        return {name: (schemas[name][0], columns) for name, columns in found.items() if schemas[name]}

    def goes_through(self, *, emptied=True):
        """Take it through a backup and a restore, into nothing or over itself, and compare before and after."""
        before = self.picture()
        made = create(self.path)
        if emptied:
            with closing(self.connected()) as own, own.cursor() as cursor:
                cursor.execute(f"drop database `{self.name}`")
                cursor.execute(f"create database `{self.name}` character set utf8mb4")
        apply(self.path, made.id)
        assert self.picture() == before


def exact_text(name, kind):
    """Return SQL for every digit and byte of a column."""
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


def types_of_server(shelf):
    """Return the types that the server has, by the words that it takes for one and how it calls it."""
    words = {str(word) for (word,) in shelf.rows("select word from information_schema.keywords")}
    for name, text in shelf.rows(
        "select t.name, t.description from mysql.help_topic t join mysql.help_category c using (help_category_id)"
        " where c.name in ('Data Types', 'Geographic Features', 'Geometry constructors', 'Geometry Constructors', 'WKT')"
    ):
        words |= set(re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", f"{name} {text}"))
    words |= {
        str(name)
        for (name,) in shelf.rows(
            "select plugin_name from information_schema.plugins where plugin_type = 'DATA TYPE'"
        )
    }
    found = set()
    with closing(shelf.connected()) as own, own.cursor() as cursor:
        for word in sorted({word.upper() for word in words if re.fullmatch(r"\w+", word)}):
            for form in (word, f"{word}(3)", f"{word}('a')"):
                try:
                    cursor.execute(f"create table probe (c {form})")
                except pymysql.Error:
                    continue
                cursor.execute(
                    "select data_type from information_schema.columns where table_schema = database() and table_name = 'probe'"
                )
                found.add(str(cursor.fetchone()[0]).lower())
                cursor.execute("drop table probe")
                break
    return found


def test_values_of_every_type_come_back_to_the_last_digit_and_byte(shelf):
    types = types_of_server(shelf)
    assert types >= {"int", "float", "json" if not shelf.server.is_mariadb else "uuid", "enum", "geometry"}
    assert not types - set(mysql_samples.TYPES)
    statements = ["set sql_mode = 'ALLOW_INVALID_DATES'", "set time_zone = '+00:00'"]
    read = "vec_fromtext" if shelf.server.is_mariadb else "string_to_vector"
    for name in sorted(types):
        for number, (declared, values) in enumerate(mysql_samples.TYPES[name]):
            table = quoted(f"{name} {number}")
            statements.append(f"create table {table} (id int auto_increment primary key, c {declared})")
            statements += [
                f"insert ignore into {table} (c) values ({value.replace('{vector}', read)})"
                for value in values
            ]
            if " not null" not in declared:
                statements.append(f"insert into {table} (c) values (null)")
    shelf.run(*statements)
    shelf.goes_through()


def test_texts_of_every_character_set_and_collation_come_back_byte_by_byte(shelf):
    charsets = dict(shelf.rows("select character_set_name, maxlen from information_schema.character_sets"))
    whole = "full_collation_name" if shelf.server.is_mariadb else "collation_name"
    collations = shelf.rows(
        f"select character_set_name, {whole} from information_schema.collation_character_set_applicability order by 2"
    )
    assert {charset for charset, _ in collations} == set(charsets)
    statements = ["set sql_mode = ''"]
    for charset, longest in charsets.items():
        if charset == "binary":
            continue
        table = quoted(f"bytes of {charset}")
        statements.append(
            f"create table {table} (id int auto_increment primary key, t varchar(300) character set {charset})"
        )
        if longest == 1:
            values = [bytes(range(256))]
        elif charset in ("utf8", "utf8mb3", "utf8mb4"):
            values = ["aä日\\'".encode(), "😀".encode()]
        else:  # what is no letter there is left out
            values = [bytes([first, second]) for first in range(0, 256, 5) for second in range(1, 256, 7)]
        cells = ", ".join(f"(x'{value.hex()}')" for value in values)
        statements.append(f"insert ignore into {table} (t) values {cells}")
    by_charset = {}
    for charset, collation in collations:
        by_charset.setdefault(charset, []).append(collation)
    for charset, names in by_charset.items():
        for at in range(0, len(names) if charset != "binary" else 0, 400):
            columns = ", ".join(
                f"{quoted(name)} varchar(2) character set {charset} collate {name}"
                for name in names[at : at + 400]
            )
            statements.append(f"create table {quoted(f'collations of {charset} {at}')} ({columns})")
    shelf.run(*statements)
    shelf.goes_through()


def test_objects_of_every_kind_come_back(shelf):
    created = [
        str(name) for (name,) in shelf.rows("select name from mysql.help_topic where name like 'CREATE %'")
    ]
    assert created
    known = {*mysql_samples.KINDS, *mysql_samples.KINDS_OF_SERVERS}
    assert not {name.replace("\\", "").removeprefix("CREATE ") for name in created} - known
    catalogs = shelf.catalogs()
    assert not set(catalogs) - {*COMPARED, *NOT_COMPARED}
    shelf.run(
        "drop user if exists gone@localhost",
        "create user gone@localhost",
        "grant all on `{db}`.* to gone@localhost",
    )
    try:
        more = list(mysql_samples.MARIADB if shelf.server.is_mariadb else mysql_samples.MYSQL)
        if not shelf.server.is_mariadb:
            more += [sql for version, sql in mysql_samples.MYSQL_NEW if shelf.server.version >= version]
        shelf.run(*mysql_samples.FIRST, *mysql_samples.OBJECTS, *more)
    finally:
        shelf.run("drop user gone@localhost")
    for table, (schema, _) in catalogs.items():
        if table in COMPARED:
            assert shelf.rows(
                f"select 1 from information_schema.{table} where {schema} = '{shelf.name}' limit 1"
            ), table
    shelf.goes_through()
    shelf.goes_through(emptied=False)


def test_what_the_dump_program_cannot_carry_is_refused_or_named(shelf):
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
    made = create(shelf.path)
    assert any("on_definer_gone" in remark for remark in made.remarks) != is_mariadb
    apply(shelf.path, made.id)
    after = {
        name
        for (name,) in shelf.rows(
            "select table_name from information_schema.tables where table_schema = database()"
        )
    }
    assert before - after == (set() if is_mariadb else {"on_definer_gone"})
    shelf.run("create table only_generated (g int generated always as (1 + 1) stored)")
    create(shelf.path)  # without rows there is nothing that could not be written
    shelf.run("insert into only_generated values ()")
    if is_mariadb:
        create(shelf.path)
    else:
        error = caught(NotSupportedError, lambda: create(shelf.path))
        assert "only_generated" in error.facts["what"]


def test_rows_of_every_type_are_digested(shelf):
    types = types_of_server(shelf)
    read = "vec_fromtext" if shelf.server.is_mariadb else "string_to_vector"
    statements = ["set sql_mode = 'ALLOW_INVALID_DATES'"]
    for name in sorted(types):
        declared, values = mysql_samples.TYPES[name][0]
        statements += [
            f"create table {quoted(name)} (id int primary key, c {declared})",
            f"insert ignore into {quoted(name)} values (1, {values[0].replace('{vector}', read)})",
        ]
    shelf.run(*statements)
    (member,) = create(shelf.path).members
    assert set(member.digests) == types


def test_a_table_of_an_engine_that_no_dump_holds_at_one_moment_is_refused_by_name(
    server, tmp_path, monkeypatch
):
    with servers.mysql_database(server=server) as url:
        engines = [
            str(name)
            for (name,) in Shelf(url, tmp_path).rows(
                "select engine from information_schema.engines where support in ('YES', 'DEFAULT')"
            )
        ]
    # One engine is called MRG_MyISAM by one product, and MRG_MYISAM by the other.
    engines = ["MRG_MYISAM" if engine.upper() == "MRG_MYISAM" else engine for engine in engines]
    assert not set(engines) - {*mysql_samples.ENGINES, *mysql_samples.ENGINES_WITHOUT_TABLES}
    for engine in engines:
        if engine in mysql_samples.ENGINES_WITHOUT_TABLES:
            continue
        becomes, statements = mysql_samples.ENGINES[engine]
        (tmp_path / engine).mkdir()
        with servers.mysql_database(server=server) as url:
            shelf = Shelf(url, tmp_path / engine)
            shelf.run(*statements)
            if becomes == mysql_samples.REFUSED:
                assert "odd" in str(
                    caught(NotSupportedError, lambda path=shelf.path: create(path)).facts["what"]
                )
            else:
                shelf.goes_through()
