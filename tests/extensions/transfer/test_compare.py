"""Rows that differ between two databases: which differ, and how many rows are read for them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from zlib import crc32

import pytest
from xxhash import xxh3_128_intdigest

from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.extensions.transfer import compare
from dbctl.extensions.transfer.compare import ChangedKeys, TableComparison, TableDigest, digest_table
from dbctl.extensions.transfer.portable.contract import LineBatch, LineColumn, RowSource, require
from dbctl.extensions.transfer.tables import TransferTable
from tests.observed_progress import observe_progress

KEYED, WORDS, BARE = "id integer primary key, v int", "id text primary key, v int", "id int, v int"
#: Rows of one batch.
BATCH = 128


class RecordedSource:
    """A database, and the limits between which rows of it were read."""

    def __init__(self, reader: SQLiteReader) -> None:
        self._rows = require(reader, RowSource)
        self.reads: list[tuple[str, str]] = []

    def has_integer_order(self, table: str, column: str) -> bool:
        return self._rows.has_integer_order(table, column)

    @contextmanager
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = "", end: str = ""
    ) -> Iterator[Iterator[LineBatch]]:
        self.reads.append((position, end))
        with self._rows.stream_lines(table, columns, position=position, end=end) as batches:
            lines = [line for batch in batches for line in batch.lines]
            yield (LineBatch(lines[start : start + BATCH]) for start in range(0, len(lines), BATCH))


Sides = tuple[TableComparison, RecordedSource, RecordedSource]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sides]]:
    """Return a function that compares a table of two files with the rows of two dicts."""
    with ExitStack() as stack:

        def open_file(name: str, columns: str, rows: Sequence[tuple[object, object]]) -> RecordedSource:
            path = tmp_path / name
            with closing(sqlite3.connect(path)) as db, db:
                db.execute(f"create table t ({columns})")
                db.executemany("insert into t values (?, ?)", rows)
            return RecordedSource(stack.enter_context(closing(SQLiteReader(path, "app/main"))))

        def compare_files(
            left: Sequence[tuple[object, object]],
            right: Sequence[tuple[object, object]],
            columns: str = KEYED,
            other: str = "",
        ) -> Sides:
            sides = open_file("left.db", columns, left), open_file("right.db", other or columns, right)
            words = [LineColumn(name="id", kind="text"), LineColumn(name="v", kind="text")]
            table = TransferTable(name="t", columns=words, key_width=int(columns != BARE), pairs=())
            return TableComparison(*sides, table), *sides  # type: ignore[arg-type]

        yield compare_files


def list_keys(keys: ChangedKeys) -> tuple[list[str], list[str], list[str]]:
    groups = (keys.get(change, ()) for change in ("only a", "changed", "only b"))
    return tuple([line.decode() for line in group] for group in groups)  # type: ignore[return-value]


def pair(numbers: Sequence[object], value: int = 0) -> list[tuple[object, object]]:
    return [(number, value) for number in numbers]


def test_digest_is_the_sum_of_the_digests_of_lines() -> None:
    lines = [b"%d\tx" % number for number in range(9)]
    total = sum(map(xxh3_128_intdigest, lines))
    assert total >> 128  # it is reduced
    digest = TableDigest().add(lines[:4]).add(lines[4:])
    assert (digest.rows, digest.hexadecimal) == (9, f"{total % 2**128:032x}")
    assert TableDigest(rows=4, total=3).hexadecimal == "3".zfill(32)
    parts = TableDigest().add(lines[:6]), TableDigest().add(lines[6:])
    assert parts[0].join(parts[1]) == digest == compare.join_digests(parts)
    largest = TableDigest(rows=1, total=2**128 - 1)
    assert largest.join(TableDigest(rows=2, total=1)) == TableDigest(rows=3, total=0)
    assert TableDigest.parse(9, digest.hexadecimal) == digest


@pytest.mark.parametrize("columns", [KEYED, WORDS, BARE])
def test_progress_counts_the_rows_of_both_sides(start: Callable[..., Sides], columns: str) -> None:
    counts = list[int]()
    with observe_progress(counts.append):
        comparison, left, _ = start(pair(range(5)), pair(range(3)), columns)
        assert sum(counts) == 8
        assert (comparison.source.rows, comparison.destination.rows) == (5, 3)
        digest_table(left, "t", [LineColumn(name="id", kind="text")])  # type: ignore[arg-type]
    assert sum(counts) == 13


@pytest.mark.parametrize("columns", [KEYED, WORDS])
def test_equal_tables_are_read_once(start: Callable[..., Sides], columns: str) -> None:
    comparison, left, right = start(pair(range(5)), pair(reversed(range(5))), columns)
    assert comparison.is_equal
    assert list(comparison.iterate_differences()) == []
    assert left.reads == right.reads == [("", "")]


def test_only_ranges_of_keys_that_differ_are_read_again(start: Callable[..., Sides]) -> None:
    """With the default size, a range has 256 keys."""
    rows = dict.fromkeys(range(2000), 0)
    changed = {**rows, 300: 1, 600: 1, 1300: 1, 2001: 1}
    del changed[1999]
    comparison, left, right = start(list(rows.items()), list(changed.items()))
    result = comparison.find_differences(100)
    assert list_keys(result.keys) == (["1999"], ["300", "600", "1300"], ["2001"])
    assert result.is_complete
    assert left.reads == [("", ""), ("255", "767"), ("1279", "1535"), ("1791", "1999")]
    assert right.reads == [("", ""), ("255", "767"), ("1279", "1535"), ("1791", "2001")]


def test_rows_of_one_side(start: Callable[..., Sides]) -> None:
    comparison, left, right = start([(7, 0)], [])
    assert list_keys(comparison.find_differences(9).keys) == (["7"], [], [])
    assert (left.reads, right.reads) == ([("", ""), ("", "7")], [("", "")])


@pytest.mark.parametrize("is_swapped", [False, True])
def test_ranges_are_joined_until_their_number_fits(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch, *, is_swapped: bool
) -> None:
    monkeypatch.setattr(compare, "_FIRST_WIDTH", 1)
    monkeypatch.setattr(compare, "MAX_PARTS", 4)
    sides = pair(range(-4, 4)), pair([*range(-4, 3), 90])
    comparison, left, right = start(*(reversed(sides) if is_swapped else sides))
    assert sorted(ranges.width for ranges in comparison._ranges) == [1, 2]
    missing, changed, extra = list_keys(comparison.find_differences(9).keys)
    assert (missing, changed, extra) == ((["90"], [], ["3"]) if is_swapped else (["3"], [], ["90"]))
    # the narrower ranges get the width of the others
    assert sorted([left.reads, right.reads]) == [[("", ""), ("-1", "3")], [("", ""), ("-1", "90")]]


def test_ranges_with_many_rows_are_divided(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_FIRST_WIDTH", 2)
    monkeypatch.setattr(compare, "MAX_PARTS", 2)
    monkeypatch.setattr(compare, "MAX_ROWS", 5)
    rows = dict.fromkeys(range(64), 0)
    comparison, left, right = start(list(rows.items()), [*(rows | {3: 1, 40: 1, 41: 1}).items(), (99, 1)])
    groups = [list_keys(group) for group in comparison.iterate_differences()]
    assert groups == [([], ["3"], []), ([], ["40", "41"], []), ([], [], ["99"])]
    reads = ["-", "-63", "-31", "-15", "-7", "-3", "31-63", "31-47", "39-47", "39-43"]
    assert left.reads == [tuple(limits.split("-")) for limits in reads]
    assert right.reads == [*left.reads, ("63", "99")]


@pytest.mark.parametrize(("limit", "size"), [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (9, 6)])
def test_number_of_differences_is_limited(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch, limit: int, size: int
) -> None:
    monkeypatch.setattr(compare, "_FIRST_WIDTH", 0)
    monkeypatch.setattr(compare, "MAX_ROWS", 1)
    comparison, _, _ = start([(1, 0), (2, 0), (4, 0), (6, 0)], [(2, 1), (3, 0), (5, 0)])
    result = comparison.find_differences(limit)
    assert sum(map(len, list_keys(result.keys))) == size
    assert result.is_complete == (limit >= 5)
    if result.is_complete:
        assert list_keys(result.keys) == (["1", "4", "6"], ["2"], ["3", "5"])


@pytest.mark.parametrize("columns", [WORDS, KEYED])
def test_parts_are_selected_by_a_hash_if_one_side_has_another_order(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setattr(compare, "MAX_ROWS", 1)
    monkeypatch.setattr(compare, "ROWS_PER_PART", 2)
    rows = dict.fromkeys(range(80), 0)
    changed = {number: value for number, value in rows.items() if number > 40} | {77: 1, 90: 0}
    comparison, left, right = start(list(rows.items()), list(changed.items()), columns, WORDS)
    groups = [list_keys(group) for group in comparison.iterate_differences()]
    keys = [*map(str, range(41)), "77", "90"]
    parts = {crc32(key.encode()) % 40 for key in keys}
    assert len(groups) == len(parts)
    assert sorted(key for group in groups for kind in group for key in kind) == sorted(keys)
    assert [key for _, kind, _ in groups for key in kind] == ["77"]
    assert [key for _, _, kind in groups for key in kind] == ["90"]
    assert left.reads == right.reads == [("", "")] * (2 + len(parts))


@pytest.mark.parametrize(("size", "most", "count"), [(20, 1 << 14, 16), (80, 20, 20), (80, 1 << 14, 80)])
def test_number_of_parts(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch, size: int, most: int, count: int
) -> None:
    monkeypatch.setattr(compare, "MAX_ROWS", 0)
    monkeypatch.setattr(compare, "MAX_PARTS", most)
    monkeypatch.setattr(compare, "ROWS_PER_PART", 1 if size > 20 else 2)
    comparison, _, _ = start([], pair(range(size)), WORDS)
    parts = {crc32(b"%d" % number) % count for number in range(size)}
    assert len(list(comparison.iterate_differences())) == len(parts)


def test_groups_have_at_most_the_limit_of_rows(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_FIRST_WIDTH", 1)
    monkeypatch.setattr(compare, "MAX_ROWS", 4)
    comparison, left, _ = start(pair(range(12)), pair(range(12), 1))
    assert [len(group["changed"]) for group in comparison.iterate_differences()] == [4, 4, 4]
    assert left.reads == [("", ""), ("", "3"), ("3", "7"), ("7", "11")]


@pytest.mark.parametrize("most", [1, 3, 4, 7])
def test_groups_of_hashes_have_at_most_the_limit_of_rows(
    start: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(compare, "MAX_ROWS", most)
    comparison, _, _ = start(pair(range(30)), pair(range(20), 1), WORDS)
    sizes = Counter(crc32(b"%d" % number) % 16 for number in range(30))
    groups = list[int]()
    for part in sorted(sizes):
        if groups and groups[-1] + sizes[part] <= most:
            groups[-1] += sizes[part]
        else:
            groups.append(sizes[part])
    result = list(comparison.iterate_differences())
    assert [len(group["only a"]) + len(group["changed"]) for group in result] == groups


def test_rows_without_a_key_are_counted(start: Callable[..., Sides]) -> None:
    comparison, _, _ = start([(1, 1), (1, 1), (1, 1), (2, 2), (3, 3)], [(1, 1), (2, 2), (2, 2), (4, 4)], BARE)
    result = comparison.find_differences(9)
    assert [sorted(group) for group in list_keys(result.keys)] == [
        ["1\t1", "1\t1", "3\t3"],
        [],
        ["2\t2", "4\t4"],
    ]
