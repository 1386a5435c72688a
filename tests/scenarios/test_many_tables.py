"""Commands on a database with many tables: their work grows with the number of tables, never with its square.

Lines of dbctl that run and statements that it sends are counted, and the rows that PostgreSQL visits for its catalogue.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import dbctl
from dbctl.engines.contract import Table
from dbctl.engines.postgresql import catalog
from dbctl.engines.postgresql.monitoring import indexes, sizes
from dbctl.engines.sqlite.monitoring import indexes as sqlite_indexes
from tests import servers
from tests.databases import File, PostgreSQL, nothing_yet

SOURCES = str(Path(dbctl.__file__).parent)
ENGINES = ["sqlite", "postgresql"]
SIZES = (40, 80, 160)
#: Between two steps of which the second is twice as large; what is quadratic takes four times as much.
MOST = 3.0
#: Lines or rows, and statements, below which a step is no growth.
LEAST, FEW = 1000, 20
COMMANDS = {
    "status": ["status"],
    "doctor": ["doctor"],
    "integrity": ["integrity", "check"],
    "stats": ["stats", "overview"],
    "tables": ["stats", "tables", "--limit", "5"],
    "indexes": ["stats", "indexes", "--limit", "5"],
    "apps": ["apps", "check"],
    "rows": ["data", "rows", "t0"],
    "describe": ["data", "describe", "t0"],
    "delete": ["data", "delete", "t1", "1", "--dry-run"],
    "backup": ["backup", "create"],
    "verify": ["backup", "verify", "--deep"],
}


def add_tables(database, first, end):
    """Create tables of which every second refers to the one before it, each with two indexes."""
    statements = [
        statement
        for number in range(first, end)
        for statement in (
            f"create table t{number} (id integer primary key, name varchar(40), parent integer"
            + (f", foreign key (parent) references t{number - 1} (id))" if number % 2 else ")"),
            f"create index by_name{number} on t{number} (name)",
            f"insert into t{number} (id, name) values (1, 'a')",
        )
    ]
    if isinstance(database, PostgreSQL):
        database.run("; ".join(statements))  # as one transaction
    else:
        database.run(*statements)


class Work:
    """What dbctl did: lines of its own that ran, and statements that it sent."""

    lines = statements = 0

    def trace(self, frame, event, _argument):
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "call" and frame.f_code.co_name in ("_fetch", "_rows"):
            self.statements += 1
        if event == "line":  # a comprehension that goes on with its next item is one, too
            self.lines += 1
        return self.trace


@contextmanager
def counted():
    work, before = Work(), sys.gettrace()
    sys.settrace(work.trace)
    try:
        yield work
    finally:
        sys.settrace(before)


def growth(figures, least=LEAST):
    """Return by how much the second step is larger than the first."""
    small, middle, large = figures
    return (large - middle) / max(middle - small, least)


@pytest.mark.parametrize("engine", ENGINES)
def test_work_of_each_command_grows_with_the_number_of_tables_alone(engine, tmp_path, answer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with nothing_yet(engine, tmp_path / "many.db") as database:
        (tmp_path / "dbctl.toml").write_text(
            '[apps.many]\nprofile = "plain"\n[apps.many.databases]\n'
            f'main = "{database.url}"\n[apps.many.backup]\nrepository = "backups"\n'
        )
        add_tables(database, 0, 2)
        for words in COMMANDS.values():  # what is imported and cached once
            answer(*words, status=None)
        seen, first = {name: [] for name in COMMANDS}, 2
        for size in SIZES:
            add_tables(database, first, size)
            first = size
            for name, words in COMMANDS.items():
                with counted() as work:
                    answer(*words, status=None)
                seen[name].append((work.lines, work.statements))
    grown = {
        name: (growth([lines for lines, _ in figures]), growth([sent for _, sent in figures], FEW))
        for name, figures in seen.items()
    }
    assert all(lines > 0 for figures in seen.values() for lines, _ in figures)
    assert {name: steps for name, steps in grown.items() if max(steps) > MOST} == {}


def test_sqlite_reads_its_catalogue_in_proportion_to_the_indexes(tmp_path):
    database, figures, first = File(tmp_path / "many.db"), [], 0
    for size in (200, 400, 800):
        add_tables(database, first, size)
        first = size
        with closing(sqlite3.connect(tmp_path / "many.db")) as own:
            tables = {
                name: Table(name=name, columns={})
                for (name,) in own.execute("select name from sqlite_master where type = 'table'")
            }
            steps = []
            own.set_progress_handler(lambda steps=steps: steps.append(1), 10)

            def fetch(sql, parameters, own=own):
                return own.execute(sql, parameters).fetchall()

            assert len(list(sqlite_indexes.list_indexes(fetch, tables))) == size
            figures.append(len(steps))
    assert growth(figures) < MOST, figures


def visited(plan):
    """Return how many rows the nodes of a plan read, also those that they left out."""
    rows = sum(
        plan.get(key, 0) for key in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    return rows * plan.get("Actual Loops", 1) + sum(visited(part) for part in plan.get("Plans", ()))


def test_postgresql_visits_rows_of_its_catalogue_in_proportion_to_the_tables():
    """Also where the catalogue was never analysed, as in a database whose tables are all new."""
    visits = {
        "room": sizes.TABLE_SIZES,
        "indexes": indexes.INDEXES,
        "waste": indexes.BLOAT,
        "columns": catalog.COLUMNS,
    }
    with servers.postgresql_database(encoding="UTF8") as url:
        database, figures, first = PostgreSQL(url), {name: [] for name in visits}, 0
        for size in (60, 120, 240):
            add_tables(database, first, size)
            first = size
            names = "array[" + ", ".join(f"'t{number}'" for number in range(size)) + "]"
            for name, sql in visits.items():
                explained = f"explain (analyze, format json) {sql.replace(':tables', names)}"
                ((((plan,),),),) = (database.rows(explained),)
                figures[name].append(visited(plan["Plan"]))
    assert {name: seen for name, seen in figures.items() if growth(seen) > MOST} == {}
