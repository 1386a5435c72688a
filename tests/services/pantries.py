"""Larder, an app that dbctl has never heard of, kept by each engine, with a repository for its backups."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

from dbctl.engines.mysql.script import split
from dbctl.engines.sql import ident
from tests import servers
from tests.shapes import flashpoint_web as shapes

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "profiles/larder.toml"
SCRIPT = ROOT / "shapes/larder_postgresql.sql"
MYSQL_SCRIPT = ROOT / "shapes/larder_mysql.sql"
PLACES = ("sqlite", "postgresql", "postgresql schema", "mysql")


class Pantry:
    """A Larder in a folder; ``path`` is what ``vault`` finds its configuration by."""

    engine = "sqlite"
    ending = ".db"

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.path, self.url = folder, folder / "larder.db", url
        (folder / "dbctl.toml").write_text(
            f'[apps.larder]\nprofile = "{PROFILE}"\n[apps.larder.databases]\npantry = "{url}"\n'
            '[apps.larder.backup]\nrepository = "backups"\n'
        )

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def tables(self) -> list[str]:
        return [str(name) for (name,) in self.rows("select name from sqlite_master where type = 'table'")]

    def content(self) -> dict[str, list[str]]:
        """Return every row of every table, but the app's record of restores."""
        found = {name: self.rows(f"select * from {ident(name)}") for name in sorted(self.tables())}
        return {
            name: sorted(told for told in map(str, rows) if "restore.apply" not in told)
            for name, rows in found.items()
        }

    def spoil(self) -> None:
        """Do what an admin regrets."""
        self.run(
            "delete from recipe_labels",
            "update members set mail = handle || '@spoiled.example'",
            "create table regrets (at text)",
            "insert into regrets values ('now')",
        )

    def destroy(self) -> None:
        """Take all of it away."""
        self.path.unlink()


class ServedPantry(Pantry):
    """Larder on a server, in a database of its own or in a schema of one."""

    engine = "postgresql"
    ending = ".dump"

    def __init__(self, folder: Path, url: servers.Url) -> None:
        super().__init__(folder, servers.text(url))
        self.own = url
        script = SCRIPT.read_text(encoding="utf-8").replace(":password_hash", f"'{shapes.PASSWORD_HASH}'")
        self.run(script)

    def run(self, *statements: str) -> None:
        with closing(servers.connection(self.own)) as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(servers.connection(self.own)) as connection:
            return connection.execute(sql).fetchall()

    def tables(self) -> list[str]:
        return [
            str(name)
            for (name,) in self.rows(
                "select c.relname from pg_class c where c.relkind = 'r' and pg_table_is_visible(c.oid)"
                " and c.relnamespace = current_schema()::regnamespace"
            )
        ]

    def destroy(self) -> None:
        schema = self.rows("select current_schema()")[0][0]
        if schema != "public":
            self.run(f"drop schema {ident(str(schema))} cascade")
            return
        with closing(servers.connection(servers.postgresql())) as central:
            central.execute(f"drop database {ident(self.own.path)} with (force)")

    def databases(self) -> dict[str, bool]:
        """Return the databases of the server that belong to this one, and whether they may be connected to."""
        with closing(servers.connection(servers.postgresql())) as central:
            found = central.execute(
                "select datname, datallowconn from pg_database where starts_with(datname, %s)",
                [self.own.path],
            )
            return dict(found.fetchall())


class MySQLPantry(Pantry):
    """Larder on MySQL or MariaDB, in a database of its own."""

    engine = "mysql"
    ending = ".sql.gz"

    def __init__(self, folder: Path, url: servers.Url) -> None:
        super().__init__(folder, servers.text(url))
        self.own = url
        script = MYSQL_SCRIPT.read_text(encoding="utf-8")
        script = script.replace(":password_hash", f"'{shapes.PASSWORD_HASH}'")
        self.run(*(sql for _, sql in split(script).statements))

    def run(self, *statements: str) -> None:
        with closing(servers.mysql_connection(self.own)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(servers.mysql_connection(self.own)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def tables(self) -> list[str]:
        return [
            str(name)
            for (name,) in self.rows(
                "select table_name from information_schema.tables where table_schema = database()"
                " and table_type = 'BASE TABLE'"
            )
        ]

    def destroy(self) -> None:
        self.run(f"drop database {ident(self.own.path)}")

    def databases(self) -> list[str]:
        """Return the databases of the server that belong to this one."""
        return mysql_databases(self.own.path)


def mysql_databases(name: str) -> list[str]:
    with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
        cursor.execute("select schema_name from information_schema.schemata order by 1")
        return [one for (one,) in cursor.fetchall() if one.startswith(name)]


@contextmanager
def settled(place: str, folder: Path):
    """Give a Larder that is kept in one of ``PLACES``, and take it away again."""
    folder.mkdir()
    if place == "sqlite":
        shapes.sixth_app_db(folder / "larder.db")
        yield Pantry(folder, "larder.db")
    elif place == "postgresql schema":
        with servers.postgresql_schema() as url:
            yield ServedPantry(folder, url)
    elif place == "mysql":
        with servers.mysql_database() as url:
            yield MySQLPantry(folder, url)
    else:
        with servers.postgresql_database(encoding="UTF8") as url:
            yield ServedPantry(folder, url)
