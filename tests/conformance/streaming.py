"""Tests for streams of rows, CSV, and read-only queries of users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from dbctl.engines.contract.database import Condition, Query, Readable, Writable
from dbctl.engines.contract.streaming import BATCH_ROWS, RowStreams, UserQuery
from dbctl.engines.sql import checks
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, QueryFailedError, QueryTimeoutError, SecretColumnError
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError

if TYPE_CHECKING:
    from tests.conformance.contract import DatabaseFactory

TIMEOUT = timedelta(milliseconds=200)


def find_streams(opened: Readable) -> RowStreams:
    streams = opened.streams
    assert streams is not None
    return streams


def stream_rows(opened: Readable, table: str, columns: Sequence[str]) -> list[tuple[object, ...]]:
    with find_streams(opened).stream(table, columns) as result:
        assert list(result.columns) == list(columns)
        return [row for batch in result.batches for row in batch]


def run_query(
    opened: Readable,
    sql: str,
    *,
    hidden: dict[str, list[str]] | None = None,
    calls_stored_functions: bool = True,
    **parameters: object,
) -> object:
    query = UserQuery(sql, parameters, hidden=hidden or {}, calls_stored_functions=calls_stored_functions)
    with find_streams(opened).query_read_only(query) as result:
        return list(result.columns), [row for batch in result.batches for row in batch]


class StreamingContract:
    @pytest.fixture
    def large(self, filled: DatabaseFactory) -> DatabaseFactory:
        writer = filled.writer()
        with writer.transaction():
            writer.insert_many(
                "groups_", ["a", "b", "title"], [(n, "z", f"row {n}") for n in range(2 * BATCH_ROWS + 7)]
            )
        writer.close()
        return filled

    def test_stream_contains_every_row_of_large_table(self, large: DatabaseFactory) -> None:
        opened = large.reader()
        rows = stream_rows(opened, "groups_", ["a", "title"])
        assert len(rows) == 2 * BATCH_ROWS + 10
        assert {(1, "first"), (2, None), (2 * BATCH_ROWS, f"row {2 * BATCH_ROWS}")} <= set(rows)
        assert stream_rows(opened, "empty_", ["id"]) == []

    def test_digest_of_small_table_ignores_row_order(self, filled: DatabaseFactory) -> None:
        def read_digests() -> dict[str, str]:
            opened = filled.reader()
            digests = checks.digest_tables(opened, dict.fromkeys([*opened.tables(), "nope"], 1))
            opened.close()
            return digests

        before = read_digests()
        assert set(before) == {"groups_", "people", "tags", "empty_"}
        assert len(set(before.values())) == len(before)
        filled.execute("update people set note = 'a_B' where id = 3")  # preserves the row count and the size
        assert checks.find_differences(read_digests(), before) == ["people"]
        filled.execute("update people set note = 'a_b' where id = 3")
        filled.execute("delete from tags where person = 1 and tag = 'red'")
        filled.execute("insert into tags values (1, 'red')")
        assert read_digests() == before
        filled.execute("update people set note = null where id = 5")  # NULL differs from the empty string
        assert checks.find_differences(read_digests(), before) == ["people"]

    def test_large_table_has_no_digest(self, large: DatabaseFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = large.reader()
        rows = {name: opened.count(name) for name in ("groups_", "people")}
        monkeypatch.setattr(checks, "MAX_ROWS", 3 * BATCH_ROWS)
        assert set(checks.digest_tables(opened, rows)) == {"groups_", "people"}
        monkeypatch.setattr(checks, "MAX_ROWS", BATCH_ROWS)
        assert set(checks.digest_tables(opened, rows)) == {"people"}
        monkeypatch.setattr(checks, "MAX_BYTES", 10)
        assert checks.digest_tables(opened, rows) == {}
        assert opened.count("people") == 5

    def test_stream_of_unknown_table_or_column_is_refused(self, reader: Readable) -> None:
        with pytest.raises(SchemaMismatchError):
            stream_rows(reader, "nope", ["a"])
        with pytest.raises(SchemaMismatchError):
            stream_rows(reader, "people", ["nope"])

    def test_unfinished_stream_can_be_closed(self, large: DatabaseFactory) -> None:
        opened = large.reader()
        streams = find_streams(opened)
        with streams.stream("groups_", ["a"]) as result:
            assert len(next(result.batches)) == BATCH_ROWS
        with streams.query_read_only(
            UserQuery("select a from groups_", timeout=timedelta(minutes=1))
        ) as result:
            assert len(next(result.batches)) <= BATCH_ROWS
        assert opened.count("people") == 5

    def test_csv_and_json_values_are_inserted_unchanged(self, filled: DatabaseFactory) -> None:
        opened, columns = filled.writer(), ["id", "name", "size"]
        codec = opened.codec
        csv_parsers = [codec.csv_parser("people", column) for column in columns]
        cells = [("70", True), ("1e5", False), ("-9223372036854775808", True)]
        row = [parse(*cell) for parse, cell in zip(csv_parsers, cells, strict=True)]
        json_parsers = [codec.json_parser("people", column) for column in columns]
        json_row = [
            parse(value) for parse, value in zip(json_parsers, (71, "007", (1 << 63) - 1), strict=True)
        ]
        with opened.transaction():
            assert opened.insert_many("people", columns, [row, json_row]) == 2
        assert opened.select("people", columns, [Condition("id", ">=", 70)]) == [
            (70, "1e5", -(1 << 63)),
            (71, "007", (1 << 63) - 1),
        ]

    def test_numbers_are_shown_with_all_digits(self, fresh: DatabaseFactory) -> None:
        fresh.execute("create table sums (id integer primary key, sum decimal(30, 10))")
        fresh.execute("insert into sums values (1, 12345678901234567.1234567890), (2, 0.5)")
        opened = fresh.reader()
        shown = [sum_ for (sum_,) in opened.select("sums", ["sum"])]
        stored = opened.codec.read(Query("sums", ["sum"]))
        assert shown == [sum_ for (sum_,) in stored]
        # SQLite stores such a number as a float
        assert shown in (
            [Decimal("12345678901234567.1234567890"), Decimal("0.5")],
            [12345678901234567.1234567890, 0.5],
        )

    def test_engine_csv_distinguishes_null_and_empty_text(self, filled: DatabaseFactory) -> None:
        opened = filled.reader()
        parts: list[bytes] = []
        rows = opened.streams and opened.streams.write_csv(
            "people", ["id", "note"], lambda data: parts.append(bytes(data))
        )
        if rows is None:  # the engine does not write CSV itself
            return
        assert rows == 5
        assert b"".join(parts).decode().splitlines() == [
            "id,note",
            "1,",
            "2,50% off",
            "3,a_b",
            '4,"say ""axb""!"',
            '5,""',
        ]

    def test_failing_csv_callback_ends_export(self, filled: DatabaseFactory) -> None:
        opened = filled.reader()
        streams = opened.streams
        if streams is None or streams.write_csv("people", ["id"], lambda _data: None) is None:
            return

        def raise_disk_full(_data: bytes) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            streams.write_csv("people", ["id"], raise_disk_full)
        assert opened.count("people") == 5

    def test_generated_keys_continue_after_imported_keys(self, filled: DatabaseFactory) -> None:
        writer: Writable = filled.writer()
        for largest in (100, 50):  # the sequence never decreases
            with writer.transaction():
                writer.insert_many("empty_", ["id", "needed"], [(largest, "x")])
                writer.advance_sequences("empty_")
        with writer.transaction():
            assert writer.insert("empty_", {"needed": "y"}, returning="id") == 101
            writer.advance_sequences("tags")  # has no sequence

    @pytest.mark.parametrize(
        "rows",
        [
            [(9, "z", "x"), (9, "y", "x"), (1, "y", "was there"), (10, "z", "x"), (11, "z", "x")],
            [(9, "z", "x"), (9, "y", "x"), (9, "z", "twice"), (10, "z", "x"), (9, "y", "twice")],
            [*((n, "large", None) for n in range(3)), (9, "z", None), (9, None, None), (10, "z", None)],
        ],
    )
    def test_first_rejected_row_is_reported(
        self, filled: DatabaseFactory, rows: list[tuple[object, ...]]
    ) -> None:
        writer, count = filled.writer(), 0

        def count_rows() -> Iterator[tuple[object, ...]]:
            nonlocal count
            for row in rows:
                count += 1
                yield row

        with pytest.raises((ConstraintError, ValueInvalidError)) as caught, writer.transaction():
            writer.insert_many("groups_", ["a", "b", "title"], count_rows())
        rejected = next(
            number for number, row in enumerate(rows, 1) if row[2] in ("was there", "twice") or row[1] is None
        )
        assert caught.value.context.get("row", count) == rejected
        assert writer.count("groups_") == 3

    # Read-only queries -------------------------------------------------------------------------------------------------

    def test_query_returns_columns_and_rows(self, reader: Readable) -> None:
        sql = "select id, name from people where name = :name or id = :id order by id"
        assert run_query(reader, sql, name="Zoë", id="1") == (["id", "name"], [(1, "Ann"), (5, "Zoë")])
        assert run_query(reader, "select id from people where id < 0") == (["id"], [])
        assert run_query(reader, "select 1 as a -- and more") == (["a"], [(1,)])

    @pytest.mark.parametrize(
        "sql",
        [
            "delete from tags",
            "insert into tags values (1, 'x')",
            "update people set name = 'x'",
            "create table more (a integer)",
            "drop table tags",
            "select 1; select 2",
            "select 1; delete from tags",
            "begin",
            "commit",
            "savepoint s",
            "",
            "-- nothing",
            "selec 1",
            "select nope from people",
            "select :unknown",
        ],
    )
    def test_non_query_is_refused_without_changes(self, filled: DatabaseFactory, sql: str) -> None:
        for opened in (filled.reader(), filled.writer()):
            with pytest.raises(DbctlError):
                run_query(opened, sql)
            assert opened.count("tags") == 4
            assert opened.count("people", [Condition("name", "=", "x")]) == 0
            opened.close()

    def test_recursive_query_runs(self, reader: Readable) -> None:
        sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select max(i) as m from n"
        for _ in range(2):
            try:
                assert run_query(reader, sql) == (["m"], [(5000,)])
            except QueryFailedError as error:  # MySQL limits the depth
                assert "cte_max_recursion_depth" in str(error)  # noqa: PT017 - only one engine refuses

    def test_transaction_continues_after_query(self, filled: DatabaseFactory) -> None:
        writer = filled.writer()
        with writer.transaction():
            writer.insert("tags", {"person": 1, "tag": "new"})
            assert run_query(writer, "select count(*) as n from tags") == (["n"], [(5,)])
            writer.insert("tags", {"person": 1, "tag": "newer"})
        assert writer.count("tags") == 6

    def test_query_is_cancelled_after_timeout(self, large: DatabaseFactory) -> None:
        opened = large.reader()
        streams = find_streams(opened)
        sql = "select count(*) from groups_ a, groups_ b, groups_ c where a.title < b.title and b.title < c.title"
        with (
            pytest.raises(QueryTimeoutError),
            streams.query_read_only(UserQuery(sql, timeout=TIMEOUT)) as result,
        ):
            list(result.batches)
        with streams.query_read_only(UserQuery("select 1", timeout=TIMEOUT)) as result:
            assert [row for batch in result.batches for row in batch] == [(1,)]
        assert opened.count("people") == 5

    @pytest.mark.parametrize(
        "sql",
        [
            "select note from people",
            "select * from people",
            "select p.* from people p",
            "select count(*) from people where note like 'a%'",
            "select id from people order by note",
            "select upper(q.n) from (select note as n from people) q",
            "with q as (select * from people) select * from q",
            "select max(note) from people",
            "select t.tag from tags t join people p on p.id = t.person where p.note = 'x'",
            "select distinct * from people",
            "select tag from tags union all select note from people",
            "select note as n from people union select tag from tags order by n",
            "with recursive q as (select id, note as n from people union all select id, n from q where 1 = 0) select n from q",
            "with q(a, b, c, d, e, f, g, h) as (select * from people) select c from q",
            "select tag from tags where exists (select 1 from people where note like 'a%')",
            "select row_number() over (order by note) from people",
            "explain select note from people",
        ],
    )
    def test_hidden_column_cannot_be_read(self, reader: Readable, sql: str) -> None:
        with pytest.raises(SecretColumnError, match="note"):
            run_query(reader, sql, hidden={"people": ["note"]})

    @pytest.mark.parametrize(
        "sql",
        [
            "select count(*) from people",
            "select name from people where id = 1",
            "select t.tag from tags t join people p on p.id = t.person where p.name = 'Ann'",
            "select * from tags",
            "select 2 * id from people",
            "select 2 * count(*) * 2 from people where (id > 0)",
            "select p.name, t.tag from people p, tags t where p.id = t.person union select 'x', tag from tags",
            "with recursive q as (select id, name from people union all select id, name from q where 1 = 0) select name from q",
            "explain select name from people where id = 1",
        ],
    )
    def test_query_without_hidden_column_runs(self, reader: Readable, sql: str) -> None:
        run_query(reader, sql, hidden={"people": ["note"]})

    def test_query_error_contains_database_reason(self, reader: Readable) -> None:
        with pytest.raises(QueryFailedError, match="nope"):
            run_query(reader, "select nope from people")
