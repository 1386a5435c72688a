"""Larder, an app with a custom profile, on each engine, with a repository for its backups."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path

import pymysql

from dbctl.engines.mysql.sql.script import split
from tests import servers
from tests.caching import mysql_database, postgresql_database
from tests.databases import ComparedDatabase, File, MySQL, PostgreSQL
from tests.shapes.flashpoint_web import PASSWORD_HASH, sixth_app_db

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "profiles/larder.toml"
SCRIPT = ROOT / "shapes/larder_postgresql.sql"
MYSQL_SCRIPT = ROOT / "shapes/larder_mysql.sql"
PLACES = ("sqlite", "postgresql", "postgresql schema", "mysql")


class Pantry(File):
    """A Larder in a SQLite file; its configuration is next to ``path``."""

    ending = ".db.gz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "larder.db")
        self.folder, self.url = folder, "larder.db"
        configure(folder, self.url)

    def spoil(self) -> None:
        spoil(self)


class ServedPantry(PostgreSQL):
    """Larder on PostgreSQL, in a separate database or schema."""

    ending = ".dump"

    def __init__(self, folder: Path, url: servers.Url) -> None:
        super().__init__(url)
        self.folder, self.path = folder, folder / "larder.db"
        configure(folder, self.url)
        script = SCRIPT.read_text(encoding="utf-8").replace(":password_hash", f"'{PASSWORD_HASH}'")
        self.run(script)

    def spoil(self) -> None:
        spoil(self)

    def databases(self) -> dict[str, bool]:
        """Return the databases of the server whose names start with that of this one, and whether they allow connections."""
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

    def spoil(self) -> None:
        spoil(self)

    def databases(self) -> list[str]:
        """Return the databases of the server whose names start with that of this one."""
        return mysql_databases(self.own.path)


def fill_mysql(cursor: pymysql.cursors.Cursor) -> None:
    script = MYSQL_SCRIPT.read_text(encoding="utf-8")
    script = script.replace(":password_hash", f"'{PASSWORD_HASH}'")
    for _, sql in split(script):
        cursor.execute(sql)


def configure(folder: Path, url: str) -> None:
    (folder / "dbctl.toml").write_text(
        f'[apps.larder]\nprofile = "{PROFILE}"\n[apps.larder.databases]\npantry = "{url}"\n'
        '[apps.larder.backup]\nrepository = "backups"\n'
    )


def spoil(pantry: ComparedDatabase) -> None:
    """Change data so that a restore is needed."""
    pantry.run(
        "delete from recipe_labels",
        "update members set mail = handle || '@spoiled.example'",
        "create table regrets (at text)",
        "insert into regrets values ('now')",
    )


def mysql_databases(name: str) -> list[str]:
    with closing(servers.mysql_connection(servers.mysql())) as connection, connection.cursor() as cursor:
        cursor.execute("select schema_name from information_schema.schemata order by 1")
        return [name_ for (name_,) in cursor.fetchall() if name_.startswith(name)]


@contextmanager
def open_pantry(kind: str, folder: Path):
    """Create a Larder of one of the kinds in ``PLACES``, and drop it at the end."""
    folder.mkdir()
    if kind == "sqlite":
        sixth_app_db(folder / "larder.db")
        yield Pantry(folder)
    elif kind == "postgresql schema":
        with servers.postgresql_schema() as url:
            yield ServedPantry(folder, url)
    elif kind == "mysql":
        with mysql_database(fill_mysql) as url:
            yield MySQLPantry(folder, url)
    else:
        with postgresql_database() as url:
            yield ServedPantry(folder, url)
