"""A table with a column of every type of an engine: it is filled with generated rows, and read without dbctl."""

from __future__ import annotations

from contextlib import closing

from hypothesis import HealthCheck, Phase, given, settings

from dbctl.engines.sql.catalog import ident
from tests import servers
from tests.conformance import values


def list_kinds(engine):
    """Return the columns that the server of the tests can have."""
    kinds = values.KINDS[engine]
    if engine == "mysql" and not servers.mysql_server().is_mariadb:
        return {name: kind for name, kind in kinds.items() if name not in values.MARIADB_KINDS}
    return kinds


class ValueTable:
    """A database with the table ``kinds``."""

    def __init__(self, database, *, create=True):
        self.database, self.kinds = database, list_kinds(database.engine)
        if not create:
            return
        columns = ", ".join(f"{self.quote(name)} {kind.type}" for name, kind in self.kinds.items())
        if database.engine == "postgresql":
            database.run(values.POSTGRESQL_SCHEMA)
        self.run(f"create table kinds (n integer primary key, {columns})")

    def quote(self, name):
        return f"`{name}`" if self.database.engine == "mysql" else ident(name)

    def run(self, *statements):
        if self.database.engine == "mysql":
            statements = ["set session sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'", *statements]
        self.database.run(*statements)

    def fill(self, rows):
        statements = [f"insert into kinds values ({n}, {', '.join(row)})" for n, row in enumerate(rows)]
        self.run("delete from kinds", *statements)

    def read(self):
        """Return what is stored, as the server or the library writes it."""
        if self.database.engine == "postgresql":
            with (
                closing(servers.connection(self.database.own)) as connection,
                connection.cursor() as cursor,
                cursor.copy("copy (select * from kinds order by n) to stdout") as copy,
            ):
                return [line.split(b"\t") for line in b"".join(map(bytes, copy)).splitlines()]
        read = (
            "hex(cast({0} as binary)), {0} is null"
            if self.database.engine == "mysql"
            else "hex({0}), typeof({0}), case when typeof({0}) = 'real' then quote({0}) end"
        )
        columns = ", ".join(read.format(self.quote(name)) for name in ("n", *self.kinds))
        return self.database.rows(f"select {columns} from kinds order by n")


def list_differences(rows, expected):
    assert len(rows) == len(expected)
    pairs = zip(rows, expected, strict=True)
    return [pair for row, other in pairs for pair in zip(row, other, strict=True) if pair[0] != pair[1]]


def draw(kinds, test, examples=3):
    """Run a test with generated rows of the columns."""
    draw_examples(values.draw_rows(kinds), test, examples)


def draw_examples(strategy, test, examples=3):
    """Run a test with generated values."""
    limited = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    limited(given(strategy)(test))()
