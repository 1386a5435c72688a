"""Larder, an app with a custom profile, on each engine, with a repository for its backups."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pymysql

from dbctl.engines.mysql.statements import SCRIPTS
from tests import servers
from tests.caching import mysql_database, postgresql_database
from tests.databases import ComparedDatabase, File, MySQL, PostgreSQL
from tests.shapes.flashpoint_web import PASSWORD_HASH, larder_db

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "profiles/larder.toml"
SCRIPT = ROOT / "shapes/larder_postgresql.sql"
MYSQL_SCRIPT = ROOT / "shapes/larder_mysql.sql"
ANA = "a1b7c0de-0000-4000-8000-000000000002"  #: a user
#: A command of each kind that writes; the import reads ``rows.csv``, the restore needs a backup with other rows.
WRITES = [
    ["users", "create", "zed", "--email", "zed@larder.example", "--role", "cook", "--generate"],
    ["users", "set-role", "ana", "guest"],
    ["sessions", "revoke", "ana"],
    ["settings", "reset", "limits.servings"],
    ["data", "set", "members", ANA, "mail=x@larder.example"],
    ["data", "delete", "members", ANA, "--yes"],
    ["users", "deactivate", "ana"],
    ["users", "delete", "ana", "--yes"],
    ["settings", "set", "kitchen.title", "Pantry"],
    ["sessions", "cleanup", "--yes", "--trust-clock"],
    ["data", "import", "recipe_labels", "rows.csv"],
    ["restore", "apply", "latest", "--yes"],
]
#: Without it, ``settings reset limits.servings`` changes nothing.
CHANGE_SETTING = "update options set val = '6' where name = 'limits.servings'"
KINDS = ("sqlite", "postgresql", "postgresql schema", "mysql")
#: Where a database and a schema of one do not differ.
ENGINES = ("sqlite", "postgresql", "mysql")


class Pantry(File):
    """Larder in a SQLite file; the configuration is next to ``path``."""

    ending = ".db.gz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "larder.db")
        self.folder, self.url = folder, "larder.db"
        configure(folder, self.url)

    def change_data(self) -> None:
        change_data(self)


class ServedPantry(PostgreSQL):
    """Larder on PostgreSQL, in a separate database or schema."""

    ending = ".dump.gz"

    def __init__(self, folder: Path, url: servers.Url) -> None:
        super().__init__(url)
        self.folder, self.path = folder, folder / "larder.db"
        configure(folder, self.url)

    def change_data(self) -> None:
        change_data(self)

    def databases(self) -> dict[str, bool]:
        """Return the databases whose names start with the name of this one, and whether they allow connections."""
        with closing(servers.connection(servers.postgresql())) as connection:
            result = connection.execute(
                "select datname, datallowconn from pg_database where starts_with(datname, %s)",
                [self.own.path],
            )
            return dict(result.fetchall())


class MySQLPantry(MySQL):
    """Larder on MySQL or MariaDB, in a separate database with the tables of ``fill_mysql``."""

    ending = ".sql.gz"

    def __init__(self, folder: Path, url: servers.Url) -> None:
        super().__init__(url)
        self.folder, self.path = folder, folder / "larder.db"
        configure(folder, self.url)

    def change_data(self) -> None:
        change_data(self)

    def databases(self) -> list[str]:
        """Return the databases whose names start with the name of this one."""
        return list_mysql_databases(self.own.path)


def fill_postgresql(connection: psycopg.Connection) -> None:
    script = SCRIPT.read_text(encoding="utf-8")
    connection.execute(script.replace(":password_hash", f"'{PASSWORD_HASH}'"))


def fill_mysql(cursor: pymysql.cursors.Cursor) -> None:
    script = MYSQL_SCRIPT.read_text(encoding="utf-8")
    script = script.replace(":password_hash", f"'{PASSWORD_HASH}'")
    for _, sql in SCRIPTS.split(script):
        cursor.execute(sql)


def configure(folder: Path, url: str) -> None:
    (folder / "dbctl.toml").write_text(
        f'[apps.larder]\nprofile = "{PROFILE}"\n[apps.larder.databases]\npantry = "{url}"\n'
        '[apps.larder.backup]\nrepository = "backups"\n'
    )


def change_data(pantry: ComparedDatabase) -> None:
    """Delete rows, change values and add a table."""
    pantry.run(
        "delete from recipe_labels",
        "update members set mail = handle || '@changed.example'",
        "create table new_table (at text)",
        "insert into new_table values ('now')",
    )


def list_mysql_databases(prefix: str) -> list[str]:
    with closing(servers.mysql_connection(servers.mysql())) as connection, connection.cursor() as cursor:
        cursor.execute("select schema_name from information_schema.schemata order by 1")
        return [name for (name,) in cursor.fetchall() if name.startswith(prefix)]


@contextmanager
def open_pantry(kind: str, folder: Path):
    """Create Larder on one of ``KINDS``; drop it on exit."""
    folder.mkdir()
    if kind == "sqlite":
        larder_db(folder / "larder.db")
        yield Pantry(folder)
    elif kind == "postgresql schema":
        with servers.postgresql_schema() as url:
            with closing(servers.connection(url)) as connection:
                fill_postgresql(connection)
            yield ServedPantry(folder, url)
    elif kind == "mysql":
        with mysql_database(fill_mysql) as url:
            yield MySQLPantry(folder, url)
    else:
        with postgresql_database(fill_postgresql) as url:
            yield ServedPantry(folder, url)
