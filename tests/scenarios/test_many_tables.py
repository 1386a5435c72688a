"""Commands on a database with many tables: their cost grows linearly with the number of tables.

The cost is the number of lines of dbctl that run, of statements that it sends, and of catalog rows that PostgreSQL reads.
"""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import dbctl
from dbctl.engines.postgresql import catalog, monitoring
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.engines.sqlite.monitoring import SQLiteStorage
from tests import servers
from tests.databases import File, PostgreSQL, empty_database

SOURCES = str(Path(dbctl.__file__).parent)
ENGINES = ["sqlite", "postgresql"]
SIZES = (40, 80, 160)
#: The maximum growth if the number of tables doubles; a quadratic cost grows by a factor of four.
MAXIMUM_GROWTH = 3.0
#: Differences of lines or rows, and of statements, that are too small to be counted as growth.
MINIMUM_LINES, MINIMUM_STATEMENTS = 1000, 20
COMMANDS = {
    "status": ["status"],
    "doctor": ["doctor"],
    "integrity": ["integrity", "check"],
    "stats": ["stats", "overview"],
    "tables": ["stats", "tables", "--limit", "5"],
    "indexes": ["stats", "indexes", "--limit", "5"],
    "apps": ["apps", "check"],
    "rows": ["data", "rows", "t0"],
    "describe": ["schema", "show", "t0"],
    "delete": ["data", "delete", "t1", "1", "--dry-run"],
    "backup": ["backup", "create"],
    "verify": ["backup", "verify", "--deep"],
}


def add_tables(database, first, end):
    """Create tables with two indexes each; every second table references the previous one."""
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
        database.run("; ".join(statements))  # in one transaction
    else:
        database.run(*statements)


class Work:
    """The number of lines of dbctl that ran, and of statements that it sent."""

    lines = statements = 0

    def trace(self, frame, event, _argument):
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "call" and frame.f_code.co_name in ("_fetch", "_rows"):
            self.statements += 1
        if event == "line":  # each iteration of a comprehension is a line event
            self.lines += 1
        return self.trace


@contextmanager
def count_work():
    work, before = Work(), sys.gettrace()
    sys.settrace(work.trace)
    try:
        yield work
    finally:
        sys.settrace(before)


def calculate_growth(figures, minimum=MINIMUM_LINES):
    """Return the ratio of the second step to the first step."""
    small, middle, large = figures
    return (large - middle) / max(middle - small, minimum)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_work_of_each_command_grows_linearly_with_the_number_of_tables(engine, tmp_path, answer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(engine, tmp_path / "many.db") as database:
        (tmp_path / "dbctl.toml").write_text(
            '[apps.many]\nprofile = "plain"\n[apps.many.databases]\n'
            f'main = "{database.url}"\n[apps.many.backup]\nrepository = "backups"\n'
        )
        add_tables(database, 0, 2)
        for words in COMMANDS.values():  # fill the caches and import the modules
            answer(*words, status=None)
        costs, first = {name: [] for name in COMMANDS}, 2
        for size in SIZES:
            add_tables(database, first, size)
            first = size
            for name, words in COMMANDS.items():
                with count_work() as work:
                    answer(*words, status=None)
                costs[name].append((work.lines, work.statements))
    growth = {
        name: (
            calculate_growth([lines for lines, _ in figures]),
            calculate_growth([sent for _, sent in figures], MINIMUM_STATEMENTS),
        )
        for name, figures in costs.items()
    }
    assert all(lines > 0 for figures in costs.values() for lines, _ in figures)
    assert {name: steps for name, steps in growth.items() if max(steps) > MAXIMUM_GROWTH} == {}


def test_sqlite_catalog_queries_grow_linearly_with_the_number_of_indexes(tmp_path):
    database, figures, first = File(tmp_path / "many.db"), [], 0
    for size in (200, 400, 800):
        add_tables(database, first, size)
        first = size
        with closing(SQLiteReader(tmp_path / "many.db", "many/main")) as reader:
            monitor = SQLiteStorage(reader)
            monitor.list_indexes()  # reads the tables
            steps = []
            reader.connection.driver.set_progress_handler(lambda steps=steps: steps.append(1), 10)
            assert len(monitor.list_indexes()) == size
            figures.append(len(steps))
    assert calculate_growth(figures) < MAXIMUM_GROWTH, figures


def test_sqlite_reads_each_table_after_a_change_in_linear_time(tmp_path):
    database, figures, first = File(tmp_path / "many.db"), [], 0
    for size in (200, 400, 800):
        add_tables(database, first, size)
        first = size
        with closing(SQLiteReader(tmp_path / "many.db", "many/main")) as reader:
            reader.catalog.tables()
            reader.connection.notify_change()
            steps = []
            reader.connection.driver.set_progress_handler(lambda steps=steps: steps.append(1), 10)
            assert all(reader.catalog.require_table(f"t{number}") for number in range(size))
            figures.append(len(steps))
    assert calculate_growth(figures, 10) < MAXIMUM_GROWTH, figures


def count_visited_rows(plan):
    """Return the number of rows that the nodes of a plan read, including the rows that they filtered out."""
    rows = sum(
        plan.get(key, 0) for key in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    return rows * plan.get("Actual Loops", 1) + sum(
        count_visited_rows(part) for part in plan.get("Plans", ())
    )


@pytest.mark.slow
def test_postgresql_catalog_queries_grow_linearly_with_the_number_of_tables():
    """The catalog has no statistics, because all tables are new."""
    queries = {
        "sizes": monitoring.TABLE_SIZES,
        "indexes": monitoring.INDEXES,
        "bloat": monitoring.BLOAT,
        "columns": catalog.COLUMNS,
    }
    with servers.postgresql_database(encoding="UTF8") as url:
        database, figures, first = PostgreSQL(url), {name: [] for name in queries}, 0
        for size in (60, 120, 240):
            add_tables(database, first, size)
            first = size
            names = "array[" + ", ".join(f"'t{number}'" for number in range(size)) + "]"
            for name, sql in queries.items():
                statement = f"explain (analyze, format json) {sql.replace(':tables', names)}"
                ((((plan,),),),) = (database.rows(statement),)
                figures[name].append(count_visited_rows(plan["Plan"]))
    assert {name: steps for name, steps in figures.items() if calculate_growth(steps) > MAXIMUM_GROWTH} == {}
