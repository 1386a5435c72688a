"""Problems of a copy: exact tables, columns, keys, counts and reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.sqlite.database import SQLiteWriter
from dbctl.extensions.transfer.check import find_problems, find_refused_statements
from dbctl.extensions.transfer.portable.contract import PortableSchema, RowSource, require
from dbctl.extensions.transfer.schema import TransferSchema, read_schema
from dbctl.extensions.transfer.tables import build_tables, pair_columns
from dbctl.extensions.transfer.values.unstorable import CopyProblem
from dbctl.url import parse_url
from tests.databases import ComparedDatabase
from tests.extensions.transfer.portable.conftest import create_database, open_reader, read_portable

__all__ = ["create_database"]  # a fixture

LARGEST = "the largest one of the destination"


def find(source: ComparedDatabase, destination: ComparedDatabase, copied: Sequence[str]) -> list[CopyProblem]:
    """Return the problems of a copy of some tables."""
    before, after = read_portable(source), read_portable(destination)
    tables = [table for table in before.tables if table.name in copied]
    pairs = pair_columns(before, after)
    built = build_tables(tables, pairs, time_form="sqlite-time", target="app/main")
    with (
        open_reader(source) as reader,
        open_reader(destination) as other,
        require(reader, RowSource).snapshot(),
    ):
        return list(find_problems(reader, other, built, (read_schema(reader), read_schema(other))))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            CopyProblem(table="item.id", column="counter", keys=(), rows=0, reason="too large"),
            "counter item.id: too large",
        ),
        (
            CopyProblem(
                table="t",
                column="c",
                keys=[{"a": 1, "b": "x"}, {"a": 2, "b": None}],
                rows=1200,
                reason="NULL",
            ),
            "t.c: NULL in 1,200 rows (a=1 b=x, a=2 b=None)",
        ),
        (CopyProblem(table="t", column="c", keys=(), rows=1, reason="NULL"), "t.c: NULL in 1 row"),
    ],
)
def test_text_of_a_problem(problem: CopyProblem, text: str) -> None:
    assert str(problem) == text


def test_statements_that_are_refused(create_database: Callable[..., ComparedDatabase]) -> None:
    long = f"create table\n  {'x' * 200} ("
    schema = TransferSchema(
        origin="derived",
        source=PortableSchema(dialect="sqlite", tables=[]),
        statements=["create table a (id)", "create table a (id)", long],
        later_statements=["create index b on a (id)", "create index c on missing (id)"],
    )
    path = Path(parse_url(create_database("sqlite").url).path)
    with closing(SQLiteWriter(path, "app/main")) as scratch:
        problems = list(find_refused_statements(schema, scratch))
        assert sorted(scratch.tables()) == ["a"]
    assert [
        (problem.table, problem.column, problem.keys, problem.rows, problem.reason) for problem in problems
    ] == [
        ("create table a (id)", "statement", (), 0, "table a already exists"),
        (f"create table {'x' * 107}", "statement", (), 0, "incomplete input"),
        ("create index c on missing (id)", "statement", (), 0, "no such table: main.missing"),
    ]


@pytest.mark.parametrize(
    ("engine", "declared", "largest"),
    [
        ("postgresql", "smallint", 32767),
        pytest.param("mysql", "tinyint unsigned", 255, marks=pytest.mark.mariadb),
        ("postgresql", "numeric(30)", None),
    ],
)
def test_next_numbers_up_to_the_largest_one_of_the_destination(
    create_database: Callable[..., ComparedDatabase], engine: str, declared: str, largest: int | None
) -> None:
    limit = largest or 32767
    source = create_database(
        "sqlite",
        *(
            f"create table {name} (id integer primary key autoincrement, level integer)"
            for name in ("fits", "large", "unused")
        ),
        f"insert into sqlite_sequence values ('fits', {limit - 1}), ('large', {limit})",
    )
    destination = create_database(
        engine,
        *(
            f"create table {name} (id {declared} primary key, level smallint)"
            for name in ("fits", "large", "unused")
        ),
    )
    reason = f"its next number {limit + 1} is larger than {largest}, {LARGEST}"
    assert find(source, destination, ["fits", "large", "unused"]) == (
        [CopyProblem(table="large.id", column="counter", keys=(), rows=0, reason=reason)] if largest else []
    )


def test_only_the_column_with_the_counter_is_compared(
    create_database: Callable[..., ComparedDatabase],
) -> None:
    source = create_database(
        "sqlite",
        "create table item (id integer primary key autoincrement, level integer)",
        "insert into item values (100000, 7)",
    )
    destination = create_database("postgresql", "create table item (id integer primary key, level smallint)")
    assert find(source, destination, ["item"]) == []


def test_columns_that_store_every_value_have_no_problem(
    create_database: Callable[..., ComparedDatabase],
) -> None:
    source = create_database(
        "postgresql", "create table t (id int primary key, body text)", "insert into t values (1, 'x')"
    )
    destination = create_database("postgresql", "create table t (id int primary key, body bytea)")
    assert find(source, destination, ["t"]) == []


def test_dates_are_no_durations(create_database: Callable[..., ComparedDatabase]) -> None:
    source, destination = create_database("sqlite"), create_database("postgresql")
    source.run(
        "create table run (id integer primary key, took datetime)",
        "insert into run values (1, '1970-01-01 00:00:01.5'), (2, '00:00:01.5'), (3, '1 day'), (4, null)",
    )
    destination.run("create table run (id int primary key, took interval)")
    (problem,) = find(source, destination, ["run"])
    assert (problem.table, problem.column, problem.keys) == ("run", "took", [{"id": "1"}])


PARENT = "create table parent (id integer primary key, a integer, b integer, unique (a, b))"
ROWS = "insert into parent values (1, 10, 20), (2, 10, 21), (3, null, 20)"


@pytest.mark.parametrize(
    ("columns", "reference", "values", "missing"),
    [
        ("x integer, y integer", "foreign key (x) references parent (id)", ["1, 0", "2, 0", "null, 0", "7, 0", "8, 0"], 2),
        (
            "x integer, y integer",
            "foreign key (x, y) references parent (a, b)",
            ["10, 20", "10, 21", "10, null", "null, 99", "10, 22", "20, 10"],
            2,
        ),
        ("x integer, y integer", "foreign key (y, x) references parent (a, b)", ["20, 10", "10, 20"], 1),
        ("x integer, y integer", "foreign key (x) references parent (id)", ["1, 0", "3, 0", "null, 0"], 0),
    ],
)  # fmt: skip
def test_rows_without_the_parent_that_only_the_destination_requires(
    create_database: Callable[..., ComparedDatabase],
    columns: str,
    reference: str,
    values: Sequence[str],
    missing: int,
) -> None:
    child = f"create table child (id integer primary key, {columns}"
    rows = [f"insert into child (x, y) values ({row})" for row in values]
    source = create_database("sqlite", PARENT, ROWS, f"{child})", *rows)
    destination = create_database("sqlite", PARENT, f"{child}, {reference})")
    names = reference[reference.index("(") + 1 : reference.index(")")]
    expected = CopyProblem(table="child", column=names, keys=(), rows=missing, reason="no row of parent")
    assert find(source, destination, ["parent", "child"]) == ([expected] if missing else [])
    # a table that is not copied has no rows to compare
    assert find(source, destination, ["child"]) == []
    assert find(source, destination, ["parent"]) == []


def test_tables_of_keys_alone_refer_to_their_parents(
    create_database: Callable[..., ComparedDatabase],
) -> None:
    parent, child = (
        "create table parent (id integer primary key)",
        "create table child (id integer primary key",
    )
    rows = ["insert into parent values (1)", "insert into child values (1), (9)"]
    source = create_database("sqlite", parent, f"{child})", *rows)
    destination = create_database("sqlite", parent, f"{child}, foreign key (id) references parent (id))")
    (problem,) = find(source, destination, ["parent", "child"])
    assert (problem.table, problem.column, problem.rows, problem.reason) == (
        "child",
        "id",
        1,
        "no row of parent",
    )


def test_columns_that_only_the_destination_has_refer_to_nothing(
    create_database: Callable[..., ComparedDatabase],
) -> None:
    source = create_database("sqlite", "create table t (id integer primary key)", "insert into t values (1)")
    destination = create_database(
        "sqlite",
        "create table t (id integer primary key, code integer unique, chief integer references t (id),"
        " other integer references t (code))",
    )
    assert find(source, destination, ["t"]) == []


@pytest.mark.parametrize("copied", [["parent", "child", "friend"], ["parent", "friend"]])
def test_rows_without_their_parent_in_the_source(
    create_database: Callable[..., ComparedDatabase], copied: Sequence[str]
) -> None:
    tables = [
        PARENT,
        "create table child (id integer primary key, parent integer references parent (id))",
        "create table friend (x integer, y integer, foreign key (x, y) references parent (a, b), primary key (x, y)) without rowid",
    ]
    rows = [
        "insert into child values (1, 1), (2, 7), (3, 8), (4, null)",
        "insert into friend values (10, 20), (1, 1)",
    ]
    source = create_database("sqlite", *tables, ROWS, *rows)
    destination = create_database("sqlite", *tables)
    expected = [
        CopyProblem(
            table="child", column="parent", keys=[{"row": "rowid 2"}], rows=2, reason="no row of parent"
        ),
        CopyProblem(table="friend", column="x, y", keys=[], rows=1, reason="no row of parent"),
    ]
    assert find(source, destination, copied) == [each for each in expected if each.table in copied]
