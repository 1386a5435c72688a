"""Databases of each engine, for direct access by tests: run SQL, read every row, destroy the database."""

from __future__ import annotations

import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from dbctl import url as urls
from dbctl.engines.sql.catalog import ident
from tests import servers

Rows = Sequence[tuple[object, ...]]


def on_sqlite(fixture: str) -> pytest.MarkDecorator:
    """Run a test of a fixture that exists for each engine on SQLite only, because the engines have no part in its fact."""
    return pytest.mark.parametrize(fixture, ["sqlite"], indirect=True)


class ComparedDatabase(ABC):
    """A database; ``url`` is its URL or path in a configuration."""

    engine: str
    url: str

    #: returns the names of the tables
    table_query: str

    @abstractmethod
    def run(self, *statements: str) -> None: ...

    @abstractmethod
    def connect(self) -> AbstractContextManager[Callable[[str], Rows]]:
        """Yield a function that returns the rows of a query; all are read with one connection."""

    @abstractmethod
    def destroy(self) -> None: ...

    def results(self, *queries: str) -> list[Rows]:
        """Return the rows of each query, read with one connection."""
        with self.connect() as fetch:
            return [fetch(sql) for sql in queries]

    def rows(self, sql: str) -> Rows:
        return self.results(sql)[0]

    def tables(self) -> list[str]:
        return [str(name) for (name,) in self.rows(self.table_query)]

    def content(self) -> dict[str, list[str]]:
        """Return every row of every table, except audit entries of restores."""
        with self.connect() as fetch:
            names = sorted(str(name) for (name,) in fetch(self.table_query))
            rows_by_table = {name: fetch(f"select * from {ident(name)}") for name in names}
        return {
            name: sorted(text for text in map(str, rows) if "restore.apply" not in text)
            for name, rows in rows_by_table.items()
        }


class File(ComparedDatabase):
    """A SQLite file."""

    engine = "sqlite"
    table_query = "select name from sqlite_master where type = 'table'"

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, str(path)

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def connect(self) -> Iterator[Callable[[str], Rows]]:
        with closing(sqlite3.connect(self.path)) as connection:
            yield lambda sql: connection.execute(sql).fetchall()

    def destroy(self) -> None:
        self.path.unlink()


def create_database(path: Path, script: str, *rows: Mapping[str, Sequence[Mapping[str, object]]]) -> Path:
    """Create a file of SQLite by a script, with rows by table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma synchronous = off")
        connection.executescript(f"begin; {script}")
        for tables in rows:
            for table, records in tables.items():
                for row in records:
                    placeholders = ", ".join("?" * len(row))
                    connection.execute(
                        f"insert into {table} ({', '.join(row)}) values ({placeholders})", list(row.values())
                    )
        connection.execute("commit")
    return path


class Folder:
    """A LanceDB folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def content(self) -> dict[str, list[str]]:
        """Return every row of every table."""
        import lancedb

        names = [path.name.removesuffix(".lance") for path in sorted(self.path.glob("*.lance"))]
        tables = {name: lancedb.connect(str(self.path)).open_table(name).to_arrow() for name in names}
        return {name: sorted(map(str, rows.to_pylist())) for name, rows in tables.items()}

    def destroy(self) -> None:
        shutil.rmtree(self.path)


class PostgreSQL(ComparedDatabase):
    """A PostgreSQL database, or one schema of it."""

    engine = "postgresql"
    table_query = (
        "select c.relname from pg_class c where c.relkind = 'r' and pg_table_is_visible(c.oid)"
        " and c.relnamespace = current_schema()::regnamespace"
    )

    def __init__(self, own: servers.Url) -> None:
        self.own, self.url = own, servers.text(own)

    def run(self, *statements: str) -> None:
        with closing(servers.connection(self.own)) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def connect(self) -> Iterator[Callable[[str], Rows]]:
        with closing(servers.connection(self.own)) as connection:
            yield lambda sql: connection.execute(sql).fetchall()

    def destroy(self) -> None:
        schema = self.rows("select current_schema()")[0][0]
        if schema != "public":
            self.run(f"drop schema {ident(str(schema))} cascade")
            return
        with closing(servers.connection(servers.postgresql())) as central:
            central.execute(f"drop database {ident(self.own.path)} with (force)")


class MySQL(ComparedDatabase):
    """A MySQL or MariaDB database."""

    engine = "mysql"
    table_query = "select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'"

    def __init__(self, own: servers.Url) -> None:
        self.own, self.url = own, servers.text(own)

    def run(self, *statements: str) -> None:
        with closing(servers.mysql_connection(self.own)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    @contextmanager
    def connect(self) -> Iterator[Callable[[str], Rows]]:
        with closing(servers.mysql_connection(self.own)) as connection, connection.cursor() as cursor:

            def fetch(sql: str) -> Rows:
                cursor.execute(sql)
                return list(cursor.fetchall())

            yield fetch

    def destroy(self) -> None:
        self.run(f"drop database {ident(self.own.path)}")


def from_url(url: str) -> ComparedDatabase:
    """Return the database with this URL or path."""
    own = urls.parse_url(url)
    return File(Path(url)) if own.is_file else PostgreSQL(own) if own.engine == "postgresql" else MySQL(own)


@contextmanager
def empty_database(engine: str, path: Path) -> Iterator[ComparedDatabase]:
    """Yield an empty server database, which is dropped at the end, or the path of a SQLite file that does not exist yet."""
    if engine == "sqlite":
        yield File(path)
    elif engine == "postgresql":
        with servers.postgresql_database(encoding="UTF8") as url:
            yield PostgreSQL(url)
    else:
        with servers.mysql_database() as url:
            yield MySQL(url)


def read_event_store(folder):
    """Return all bytes of the event store in a directory for state as text."""
    paths = sorted(folder.glob("events.sqlite*"))
    return b"".join(path.read_bytes() for path in paths).decode(errors="backslashreplace")
