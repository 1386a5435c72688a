"""Rows that a unique index of the destination treats as equal to other rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.extensions.transfer.portable.contract import (
    IndexTerm,
    LineColumn,
    LogicalType,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableSchemas,
    PortableTable,
)
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values import duplicates
from dbctl.extensions.transfer.values.duplicates import find_duplicates
from dbctl.extensions.transfer.values.unstorable import CopyProblem
from tests.databases import empty_database
from tests.extensions.transfer.portable.conftest import open_reader, read_portable

REASON = "equal to another row in a unique index of the destination"


def describe(
    *terms: str | IndexTerm,
    where: str = "",
    key: Sequence[str] = ("id",),
    is_unique: bool = True,
    **facts: bool,
) -> PortableTable:
    """Return a table with an index; ``facts`` are those of the column ``a``."""
    columns = [
        PortableColumn(name=name, declared="text", type=LogicalType(kind="text")) for name in ("id", "a", "b")
    ]
    columns[1] = structs.replace(columns[1], **facts)
    names = [IndexTerm(column=term) if isinstance(term, str) else term for term in terms]
    index = PortableIndex(name="u", terms=names, is_unique=is_unique, where=where)
    return PortableTable(name="t", columns=columns, key=key, indexes=[index] if terms else [])


Find = Callable[..., list[CopyProblem]]


@pytest.fixture
def find(tmp_path: Path) -> Iterator[Find]:
    """Return a function that finds duplicates among rows of a file, whose schema and that of the destination are arguments."""
    with ExitStack() as stack:

        def run(
            source: PortableTable,
            destination: PortableTable,
            rows: Sequence[tuple[str | None, ...]],
            *,
            columns: Sequence[str] = ("id", "a", "b"),
            key_width: int = 1,
        ) -> list[CopyProblem]:
            path = tmp_path / "app.db"
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("create table t (id, a, b)")
                db.executemany("insert into t values (?, ?, ?)", rows)
            reader = stack.enter_context(closing(SQLiteReader(path, "app/main")))
            lines = [LineColumn(name=name, kind="text") for name in columns]
            table = TransferTable(name="t", columns=lines, key_width=key_width, pairs=())
            schemas = reader.extension_part(PortableSchemas)
            before, after = (
                PortableSchema(dialect="sqlite", tables=[side]) for side in (source, destination)
            )
            return list(find_duplicates(reader, [table], before, after, schemas))

        yield run


ROWS = [("1", "x", "y"), ("2", "x", "y")]
PREFIX = IndexTerm(column="a", prefix=3)


@pytest.mark.parametrize(
    ("source", "destination", "is_covered"),
    [
        (describe(), describe("a"), False),
        (describe("a"), describe("a"), True),
        (describe("a", is_unique=False), describe("a"), False),
        (describe("a"), describe("a", is_unique=False), True),
        (describe(), describe("a", is_unique=False), True),
        (describe("a"), describe("b"), False),
        (describe("b", "a"), describe("a", "b"), True),
        (describe("a"), describe("a", "b"), False),
        (describe("a", where="b is null"), describe("a"), False),
        (describe("a"), describe("a", where="b = 'y'"), True),
        (describe("a", where="b = 'y'"), describe("a", where="b = 'y'"), True),
        (describe("a", where="b = 'z'"), describe("a", where="b = 'y'"), False),
        (describe("a", where="b > 'a'"), describe("a"), False),
        (describe(), describe("a", where="b > 'a'"), True),  # a condition that dbctl does not evaluate
        (describe(key=["a"]), describe("a"), True),
        (describe(), describe(key=["a"]), False),
        (describe(key=()), describe(key=()), True),
        (describe("a"), describe(PREFIX), False),
        (describe(PREFIX), describe("a"), True),
        (describe(PREFIX), describe(PREFIX), True),
        (describe(PREFIX), describe(IndexTerm(column="a", prefix=2)), False),
        (describe(PREFIX), describe(IndexTerm(column="a", prefix=4)), True),
        (describe("a"), describe("a", ignores_case=True), False),
        (describe("a", ignores_case=True), describe("a"), True),
        (describe("a", ignores_case=True), describe("a", ignores_case=True), True),
        (describe("a", ignores_case=True), describe(IndexTerm(column="a", ignores_case=True)), True),
        (describe("a"), describe(IndexTerm(column="a", ignores_case=True)), False),
        (describe("a"), describe("a", ignores_accents=True), False),
        (describe("a", ignores_accents=True), describe("a", ignores_accents=True), True),
        (describe("a", ignores_case=True), describe("a", ignores_accents=True), False),
        (describe("a"), describe("a", ignores_spaces=True), False),
        (describe("a", ignores_spaces=True), describe("a", ignores_spaces=True), True),
        (describe("a"), describe(IndexTerm(expression="lower(a)")), False),
        (describe(IndexTerm(expression="lower(a)")), describe(IndexTerm(expression='lower("a")')), True),
        (describe(), describe(IndexTerm(expression="upper(a)")), True),  # an expression that dbctl does not evaluate
        (describe(), describe("a", IndexTerm(expression="upper(b)")), True),
        (describe(), describe("c"), True),  # a column that is not copied
    ],
)  # fmt: skip
def test_only_indexes_that_the_source_does_not_enforce_are_read(
    find: Find, source: PortableTable, destination: PortableTable, *, is_covered: bool
) -> None:
    """The rows contradict the indexes of the source, so that a problem shows that they were read."""
    problems = find(source, destination, ROWS)
    assert [(problem.rows, problem.keys) for problem in problems] == (
        [] if is_covered else [(1, [{"id": "2"}])]
    )


def test_one_of_several_indexes_of_the_source_is_enough(find: Find) -> None:
    both = describe("a", ignores_case=True)
    exact = structs.replace(both, indexes=[*describe(PREFIX).indexes, *both.indexes])
    assert find(exact, both, ROWS) == []


def test_one_column_of_which_less_is_compared_is_enough(find: Find) -> None:
    (problem,) = find(describe("a", "b"), describe("a", "b", ignores_spaces=True), ROWS)
    assert (problem.column, problem.rows) == ("a, b", 1)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_tables_of_one_side_are_not_read(find: Find, side: str) -> None:
    tables = {"source": describe(), "destination": describe("a")}
    tables[side] = structs.replace(tables[side], name="other")
    assert find(tables["source"], tables["destination"], ROWS) == []


def test_problem_has_the_columns_the_count_and_the_first_keys(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_BATCH", 3)
    monkeypatch.setattr(duplicates, "_PARTS", 2)
    rows = [(f"{number}", "x" if number % 2 else "z", "y") for number in range(20)]
    unique = [(f"u{number}", f"x{number}", "y") for number in range(20)]
    nulls: list[tuple[str | None, ...]] = [("n1", None, "y"), ("n2", None, "y"), ("n3", "x", None)]
    (problem,) = find(describe(), describe("b", "a"), [*rows, *unique, *nulls])
    keys = [{"id": f"{number}"} for number in range(2, 7)]
    assert problem == CopyProblem(table="t", column="b, a", reason=REASON, rows=18, keys=keys)


def test_table_without_a_key_has_no_keys(find: Find) -> None:
    (problem,) = find(describe(key=()), describe("a", key=()), [*ROWS, *ROWS], key_width=0)
    assert (problem.rows, problem.keys) == (3, [])


def test_key_of_two_columns(find: Find) -> None:
    (problem,) = find(describe(), describe("b"), [("1", "x", "y"), ("1", "z", "y")], key_width=2)
    assert problem.keys == [{"id": "1", "a": "z"}]


@pytest.mark.parametrize(
    ("destination", "texts", "refused"),
    [
        (describe("a"), ["a", "A", "é", "É", "a "], []),
        (describe("a", ignores_case=True), ["a", "A", "é", "É", "ß", "ss"], ["1"]),
        (describe(IndexTerm(expression="lower(a)")), ["a", "A", "é", "É"], ["1"]),
        (describe("a", ignores_spaces=True), ["a", "a  ", " a", "a\t"], ["1"]),
        (describe(PREFIX), ["abc", "abcd", "ab", "abd", "ab\0"], ["1"]),
        (describe("a", "b"), ["a\0", "a", "a\0\0"], []),
    ],
)
def test_what_an_index_compares(
    find: Find, destination: PortableTable, texts: Sequence[str], refused: Sequence[str]
) -> None:
    rows = [(str(number), text, "y") for number, text in enumerate(texts)]
    problems = find(describe(), destination, rows)
    assert [key["id"] for problem in problems for key in problem.keys] == refused


def test_bytes_that_are_no_text(find: Find) -> None:
    rows: list[tuple[object, ...]] = [("1", b"\xff", "y"), ("2", b"\xff", "y"), ("3", b"\xfe", "y")]
    (problem,) = find(describe(), describe("a"), rows)
    assert problem.keys == [{"id": "2"}]


@pytest.mark.parametrize(
    ("where", "refused"),
    [
        ("b = 'y'", ["2"]),
        ("b is null", ["4"]),
        ("b is not null", ["2", "5", "7", "9", "11"]),
        ("not b is null", ["2", "5", "7", "9", "11"]),
        ("b = 'it''s'", []),
        ("b = 'y' and id = '1'", []),
        ("b = 'y' and id is not null", ["2"]),
        ("b = 1", ["7"]),
        ("b = -5", ["9"]),
        ("b = true", ["7"]),
        ("b", ["2", "5", "7", "9"]),
        ("not b", ["11"]),
        ("b = false", ["11"]),
        ("(\"b\" = 'y'::text)", ["2"]),
        ("`b` is 'y'", ["2"]),
        ("not (b = 'y')", []),
        ("not b = 'y'", []),
        ("b = 'y' or b is null", []),
    ],
)
def test_rows_of_a_partial_index(find: Find, where: str, refused: Sequence[str]) -> None:
    values = ["y", "y", None, None, "z", "1", "1", "-5", "-5", "0", "0"]
    rows = [(str(number), f"x{value}", value) for number, value in enumerate(values, 1)]
    rows[4] = ("5", "xy", "z")
    problems = find(describe(), describe("a", where=where), rows)
    assert [key["id"] for problem in problems for key in problem.keys] == refused


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["é", "e"], ["1"]),
        (["K", "\u212a"], ["1"]),
        (["ß", "ss"], ["1"]),
        (["ß", "s"], []),
        (["a", "b", "a ", "B"], ["2", "3"]),
    ],
)
@pytest.mark.mariadb
def test_collation_of_a_server_decides(tmp_path: Path, texts: Sequence[str], refused: Sequence[str]) -> None:
    with (
        empty_database("sqlite", tmp_path / "app.db") as source,
        empty_database("mysql", tmp_path) as destination,
    ):
        source.run(
            "create table t (id integer primary key, a varchar(20))",
            *(f"insert into t values ({number}, '{text}')" for number, text in enumerate(texts)),
        )
        destination.run(
            "create table t (id bigint primary key, a varchar(20) collate utf8mb4_unicode_ci unique) default charset utf8mb4"
        )
        columns = [LineColumn(name="id", kind="integer"), LineColumn(name="a", kind="text")]
        table = TransferTable(name="t", columns=columns, key_width=1, pairs=())
        with open_reader(source) as reader, open_reader(destination) as other:
            schemas = other.extension_part(PortableSchemas)
            before, after = read_portable(source), read_portable(destination)
            problems = list(find_duplicates(reader, [table], before, after, schemas))
    assert [key["id"] for problem in problems for key in problem.keys] == refused
