"""Values that the destination cannot store, found in a database of each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.extensions.transfer.portable.contract import (
    LogicalType,
    PortableSchemas,
    RowSource,
    StorageLimits,
    require,
)
from dbctl.extensions.transfer.portable.read import ValueScreen
from dbctl.extensions.transfer.tables import build_tables, pair_columns
from dbctl.extensions.transfer.values.duplicates import find_duplicates
from dbctl.extensions.transfer.values.unstorable import CopyProblem, find_unstorable_values
from tests.databases import ComparedDatabase, empty_database
from tests.extensions.transfer.portable.conftest import derive, open_reader, read_portable

BAD_SQLITE = (
    (
        "create table note (id integer primary key, number integer, flag boolean, title varchar(5) not null, body text, rating real,"
        " price decimal(5, 2), created datetime, day date, at time, meta json, uid uuid, data blob)"
    ),
    (
        "insert into note values (1, 1, 1, 'abc', 'x', 1.5, 1.25, '2026-01-02 03:04:05.5', '2026-01-02', '03:04:05', '{}',"
        " '00000000-0000-4000-8000-000000000000', x'00')"
    ),
    (
        "insert into note values (2, 'abc', 2, 'abcdef', cast(x'ff' as text), 'x', 1234.5, '2026-02-30 03:04:05', '2026-13-01', '25:00:00',"
        " '{x', 'no', x'')"
    ),
    "insert into note values (3, 1.5, 'yes', '', 'a' || char(0), 1, 1.234, '0000-00-00 00:00:00', '0000-00-00', 'x', '\"\\u0000\"', '', x'')",
    "insert into note values (4, null, null, 'abc', null, null, null, 1767225600000, null, null, null, null, null)",
    "create table plain (id integer primary key, title text)",
    "insert into plain values (1, 'é')",
)
BAD_MYSQL = (
    "create table note (id int primary key, flag tinyint(1), body text, created datetime, day date, at time, number bigint unsigned)",
    "insert into note values (1, 1, 'x', '2026-01-02 03:04:05', '2026-01-02', '03:04:05', 1)",
    "insert into note values (2, 5, concat('a', char(0)), '0000-00-00 00:00:00', '2026-01-00', '100:00:00', 18446744073709551615)",
)
BAD_POSTGRESQL = (
    "create table note (id int primary key, rating float8, price numeric, big text unique, created timestamp)",
    "insert into note values (1, 1.5, 1.5, 'x', '2026-01-02 03:04:05')",
    "insert into note values (2, 'NaN', 1e40, repeat('x', 800), 'infinity')",
    "insert into note values (3, 'Infinity', 1e-31, null, '12026-01-02 03:04:05')",
)


@pytest.fixture
def find(tmp_path: Path) -> Iterator[Callable[..., dict[tuple[str, str], list[str]]]]:
    """Return a function that returns the keys of unstorable rows by table and column."""
    with ExitStack() as stack:

        def create(engine: str) -> ComparedDatabase:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
            return stack.enter_context(empty_database(engine, path))

        def run(
            source_engine: str, statements: tuple[str, ...], destination_engine: str
        ) -> dict[tuple[str, str], list[str]]:
            source, destination = create(source_engine), create(destination_engine)
            source.run(*(["set sql_mode = ''"] if source_engine == "mysql" else []), *statements)
            derived = derive(read_portable(source), destination)
            with open_reader(source) as reader, open_reader(destination) as other:
                schema = reader.extension_part(PortableSchemas).read_portable()
                tables = build_tables(
                    schema.tables, derived.columns, time_form="sqlite-time", target="app/main"
                )
                limits = other.extension_part(PortableSchemas).limits
                with require(reader, RowSource).snapshot():
                    problems = list(find_unstorable_values(reader, tables, limits))
            keys: dict[tuple[str, str], list[str]] = {}
            for problem in problems:
                assert problem.rows == len(problem.keys)
                keys.setdefault((problem.table, problem.column), []).extend(
                    str(key["id"]) for key in problem.keys
                )
            return {name: sorted(values) for name, values in keys.items()}

        yield run


def test_values_of_sqlite_for_postgresql(find: Callable[..., dict[tuple[str, str], list[str]]]) -> None:
    columns = ["number", "flag", "body", "price", "created", "day", "at", "meta", "uid"]
    assert find("sqlite", BAD_SQLITE, "postgresql") == {
        **{("note", column): ["2", "3"] for column in columns},
        ("note", "title"): ["2"],
        ("note", "rating"): ["2"],
    }


@pytest.mark.parametrize(
    "value",
    [
        "'2026-02-30 03:04:05'",
        "'2026-02-29 03:04:05.25'",
        "'0000-01-01 00:00:00'",
        "'2026-01-02 24:00:00'",
        "-1",
        "'x'",
    ],
)
def test_one_wrong_time_of_sqlite(find: Callable[..., dict[tuple[str, str], list[str]]], value: str) -> None:
    statements = (
        "create table note (id integer primary key, created datetime)",
        "insert into note values (2, '2024-02-29 03:04:05'), (3, '2026-01-31 03:04:05.123456'), (4, 1767225600), (5, null)",
    )
    assert not find("sqlite", statements, "postgresql")
    keys = find("sqlite", (*statements, f"insert into note values (1, {value})"), "postgresql")
    assert keys == ({} if value == "-1" else {("note", "created"): ["1"]})


def test_values_of_mysql_for_postgresql(find: Callable[..., dict[tuple[str, str], list[str]]]) -> None:
    columns = ["flag", "body", "created", "day", "at", "number"]
    assert find("mysql", BAD_MYSQL, "postgresql") == {("note", column): ["2"] for column in columns}


def test_values_of_mysql_for_sqlite(find: Callable[..., dict[tuple[str, str], list[str]]]) -> None:
    assert find("mysql", BAD_MYSQL, "sqlite") == {("note", "number"): ["2"]}


def test_values_of_postgresql_for_mysql(find: Callable[..., dict[tuple[str, str], list[str]]]) -> None:
    assert find("postgresql", BAD_POSTGRESQL, "mysql") == {
        ("note", "rating"): ["2", "3"],
        ("note", "price"): ["2", "3"],
        ("note", "big"): ["2"],
        ("note", "created"): ["2", "3"],
    }


def test_problem_has_the_count_and_the_first_keys(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path / "app.db") as source:
        source.run(
            "create table note (a text, b integer, number, spare text, primary key (a, b))",
            *(f"insert into note values ('k', {number}, 'x', null)" for number in range(7)),
            "create table plain (number, other integer)",
            "insert into plain values ('x', 1), (1, 2), ('y', 3)",
        )
        before = read_portable(source)
        with open_reader(source) as reader, require(reader, RowSource).snapshot():
            tables = [
                structs.replace(
                    table,
                    pairs=[
                        structs.replace(pair, destination_type=LogicalType(kind="integer", bits=16))
                        for pair in table.pairs
                        if pair.column == "number"
                    ],
                )
                for table in build_tables(
                    before.tables, pair_columns(before, before), time_form="sqlite-time", target="app/main"
                )
            ]
            problems = list(find_unstorable_values(reader, tables, StorageLimits()))
    common = {"column": "number", "reason": "not an integer"}
    assert problems == [
        CopyProblem(
            table="note", rows=7, keys=[{"a": "k", "b": str(number)} for number in range(5)], **common
        ),
        CopyProblem(table="plain", rows=2, keys=[], **common),
    ]


def test_only_suspected_columns_are_read_value_by_value(tmp_path: Path) -> None:
    with (
        empty_database("sqlite", tmp_path / "app.db") as source,
        empty_database("postgresql", tmp_path) as destination,
    ):
        source.run(*BAD_SQLITE)
        derived = derive(read_portable(source), destination)
        with open_reader(source) as reader, open_reader(destination) as other:
            limits = other.extension_part(PortableSchemas).limits
            screen = reader.extension_part(ValueScreen)
            pairs = [pair for pair in derived.columns if pair.table == "plain"]
            assert not screen.find_suspects("plain", pairs, limits)
            pairs = [pair for pair in derived.columns if pair.table == "note"]
            assert not {"id", "data"} & set(screen.find_suspects("note", pairs, limits))


@pytest.mark.parametrize(
    ("collation", "refused"),
    [("utf8mb4_unicode_ci", ["2", "3", "4"]), ("utf8mb4_bin", ["4"]), ("utf8mb4_nopad_bin", [])],
)
@pytest.mark.mariadb
def test_rows_that_are_equal_in_a_unique_index_of_the_destination(
    tmp_path: Path, collation: str, refused: list[str]
) -> None:
    with (
        empty_database("sqlite", tmp_path / "app.db") as source,
        empty_database("mysql", tmp_path) as destination,
    ):
        source.run(
            "create table note (id integer primary key, title varchar(20) unique, body varchar(20))",
            "insert into note values (1, 'é', 'x'), (2, 'É', 'x'), (3, 'e', 'x'), (4, 'é ', 'x'), (5, null, 'x'), (6, null, 'x'), (7, 'f', 'x')",
        )
        destination.run(
            f"create table note (id bigint primary key, title varchar(20) collate {collation} unique, body varchar(20)) default charset utf8mb4"
        )
        before, after = read_portable(source), read_portable(destination)
        tables = build_tables(
            before.tables, pair_columns(before, after), time_form="sqlite-time", target="app/main"
        )
        with (
            open_reader(source) as reader,
            open_reader(destination) as other,
            require(reader, RowSource).snapshot(),
        ):
            schemas = other.extension_part(PortableSchemas)
            problems = list(find_duplicates(reader, tables, before, after, schemas))
        assert [str(key["id"]) for problem in problems for key in problem.keys] == refused
        rows = [
            row
            for row in source.rows("select * from note where title is not null order by id")
            if str(row[0]) not in refused
        ]
        destination.run(*(f"insert into note values ({number}, '{title}', 'x')" for number, title, _ in rows))
