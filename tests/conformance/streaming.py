"""Facts about rows that come as they are asked for, files that are read back, and questions of people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from dbctl.engines.contract import Capability, Condition, Readable, Writable
from dbctl.engines.contract.streaming import BATCH, Streams, WritesCsv
from dbctl.engines.sql import table_digest
from dbctl.errors import (
    ConstraintError,
    DbctlError,
    QueryFailedError,
    SchemaLacksError,
    SecretAskedError,
    TimeUpError,
    ValueInvalidError,
)

if TYPE_CHECKING:
    from tests.conformance.contract import Fresh

WITHIN = timedelta(milliseconds=200)


def rows_of(opened: Readable, table: str, columns: Sequence[str]) -> list[tuple[object, ...]]:
    assert isinstance(opened, Streams)
    with opened.stream(table, columns) as answer:
        assert list(answer.columns) == list(columns)
        return [row for batch in answer.batches for row in batch]


def asked(
    opened: Readable, sql: str, *, hidden: dict[str, list[str]] | None = None, **given: object
) -> object:
    assert isinstance(opened, Streams)
    with opened.ask(sql, given, hidden=hidden or {}) as answer:
        return list(answer.columns), [row for batch in answer.batches for row in batch]


class TransferContract:
    @pytest.fixture
    def many(self, filled: Fresh) -> Fresh:
        writer = filled.writer()
        with writer.transaction():
            writer.insert_many(
                "groups_", ["a", "b", "title"], [(n, "z", f"row {n}") for n in range(2 * BATCH + 7)]
            )
        writer.close()
        return filled

    def test_it_says_that_it_gives_rows_out_and_does(self, reader: Readable) -> None:
        assert Capability.STREAM in reader.capabilities
        assert isinstance(reader, Streams)
        assert (Capability.CSV in reader.capabilities) == isinstance(reader, WritesCsv)

    def test_every_row_comes_however_many_there_are(self, many: Fresh) -> None:
        opened = many.reader()
        found = rows_of(opened, "groups_", ["a", "title"])
        assert len(found) == 2 * BATCH + 10
        assert {(1, "first"), (2, None), (2 * BATCH, f"row {2 * BATCH}")} <= set(found)
        assert rows_of(opened, "empty_", ["id"]) == []

    def test_what_a_small_table_holds_has_a_digest_of_its_own_in_any_order(self, filled: Fresh) -> None:
        def told() -> dict[str, str]:
            opened = filled.reader()
            found = table_digest.digests(opened, dict.fromkeys([*opened.tables(), "nope"], 1))  # type: ignore[arg-type]
            opened.close()
            return found

        before = told()
        assert set(before) == {"groups_", "people", "tags", "empty_"}
        assert len(set(before.values())) == len(before)
        filled.execute("update people set note = 'a_B' where id = 3")  # as many rows, as many bytes
        assert table_digest.differing(told(), before) == ["people"]
        filled.execute("update people set note = 'a_b' where id = 3")
        filled.execute("delete from tags where person = 1 and tag = 'red'")
        filled.execute("insert into tags values (1, 'red')")
        assert told() == before
        filled.execute("update people set note = null where id = 5")  # NULL is not the empty text
        assert table_digest.differing(told(), before) == ["people"]

    def test_a_table_that_is_not_small_has_no_digest(
        self, many: Fresh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = many.reader()
        rows = {name: opened.count(name) for name in ("groups_", "people")}
        monkeypatch.setattr(table_digest, "ROWS", 3 * BATCH)
        assert set(table_digest.digests(opened, rows)) == {"groups_", "people"}  # type: ignore[arg-type]
        monkeypatch.setattr(table_digest, "ROWS", BATCH)
        assert set(table_digest.digests(opened, rows)) == {"people"}  # type: ignore[arg-type]
        monkeypatch.setattr(table_digest, "BYTES", 10)
        assert table_digest.digests(opened, rows) == {}  # type: ignore[arg-type]
        assert opened.count("people") == 5

    def test_a_table_or_column_that_is_not_there_is_told(self, reader: Readable) -> None:
        with pytest.raises(SchemaLacksError):
            rows_of(reader, "nope", ["a"])
        with pytest.raises(SchemaLacksError):
            rows_of(reader, "people", ["nope"])

    def test_who_wants_no_more_may_go_and_ask_anew(self, many: Fresh) -> None:
        opened = many.reader()
        assert isinstance(opened, Streams)
        with opened.stream("groups_", ["a"]) as answer:
            assert len(next(answer.batches)) == BATCH
        with opened.ask("select a from groups_", within=timedelta(minutes=1)) as answer:
            assert len(next(answer.batches)) <= BATCH
        assert opened.count("people") == 5

    def test_what_csv_says_comes_back_as_it_was(self, filled: Fresh) -> None:
        opened, columns = filled.writer(), ["id", "name", "size"]
        assert isinstance(opened, Streams)
        read = [opened.of_csv("people", column) for column in columns]
        told = [("70", True), ("1e5", False), ("-9223372036854775808", True)]
        row = [one(*cell) for one, cell in zip(read, told, strict=True)]
        json = [opened.of_json("people", column) for column in columns]
        other = [one(value) for one, value in zip(json, (71, "007", (1 << 63) - 1), strict=True)]
        with opened.transaction():
            assert opened.insert_many("people", columns, [row, other]) == 2
        assert opened.select("people", columns, [Condition("id", ">=", 70)]) == [
            (70, "1e5", -(1 << 63)),
            (71, "007", (1 << 63) - 1),
        ]

    def test_numbers_may_come_with_every_digit(self, fresh: Fresh) -> None:
        fresh.execute("create table sums (id integer primary key, sum decimal(30, 10))")
        fresh.execute("insert into sums values (1, 12345678901234567.1234567890), (2, 0.5)")
        opened = fresh.reader()
        assert isinstance(opened, Streams)
        with opened.exactly():
            told = [sum_ for (sum_,) in opened.select("sums", ["sum"])]
        kept = [sum_ for (sum_,) in opened.select("sums", ["sum"])]
        assert told[1] == kept[1] == 0.5
        assert told[0] in (Decimal("12345678901234567.1234567890"), kept[0])
        assert not isinstance(kept[0], Decimal)

    def test_csv_that_the_engine_writes_is_what_it_reads(self, filled: Fresh) -> None:
        opened = filled.reader()
        if not isinstance(opened, WritesCsv):
            return
        parts: list[bytes] = []
        assert opened.write_csv("people", ["id", "note"], lambda data: parts.append(bytes(data))) == 5
        assert b"".join(parts).decode().splitlines() == [
            "id,note",
            "1,",
            "2,50% off",
            "3,a_b",
            '4,"say ""axb""!"',
            '5,""',
        ]

    def test_a_writer_of_csv_that_fails_ends_it(self, filled: Fresh) -> None:
        opened = filled.reader()
        if not isinstance(opened, WritesCsv):
            return

        def full(_data: bytes) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            opened.write_csv("people", ["id"], full)
        assert opened.count("people") == 5

    def test_keys_that_are_made_go_on_behind_those_that_came(self, filled: Fresh) -> None:
        writer: Writable = filled.writer()
        for largest in (100, 50):  # never back
            with writer.transaction():
                writer.insert_many("empty_", ["id", "needed"], [(largest, "x")])
                writer.follow_keys("empty_")
        with writer.transaction():
            assert writer.insert("empty_", {"needed": "y"}, returning="id") == 101
            writer.follow_keys("tags")  # it has none

    @pytest.mark.parametrize(
        "rows",
        [
            [(9, "z", "x"), (9, "y", "x"), (1, "y", "was there"), (10, "z", "x"), (11, "z", "x")],
            [(9, "z", "x"), (9, "y", "x"), (9, "z", "twice"), (10, "z", "x"), (9, "y", "twice")],
            [*((n, "many", None) for n in range(3)), (9, "z", None), (9, None, None), (10, "z", None)],
        ],
    )
    def test_the_first_row_that_is_refused_is_told(
        self, filled: Fresh, rows: list[tuple[object, ...]]
    ) -> None:
        writer, given = filled.writer(), 0

        def counted() -> Iterator[tuple[object, ...]]:
            nonlocal given
            for row in rows:
                given += 1
                yield row

        with pytest.raises((ConstraintError, ValueInvalidError)) as caught, writer.transaction():
            writer.insert_many("groups_", ["a", "b", "title"], counted())
        wrong = next(
            at for at, row in enumerate(rows, 1) if row[2] in ("was there", "twice") or row[1] is None
        )
        assert caught.value.facts.get("row", given) == wrong
        assert writer.count("groups_") == 3

    # Questions -------------------------------------------------------------------------------------------------

    def test_a_question_is_answered_with_its_columns(self, reader: Readable) -> None:
        sql = "select id, name from people where name = :name or id = :id order by id"
        assert asked(reader, sql, name="Zoë", id="1") == (["id", "name"], [(1, "Ann"), (5, "Zoë")])
        assert asked(reader, "select id from people where id < 0") == (["id"], [])
        assert asked(reader, "select 1 as a -- and more") == (["a"], [(1,)])

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
            "select :nobody",
        ],
    )
    def test_what_is_no_question_is_refused_and_changes_nothing(self, filled: Fresh, sql: str) -> None:
        for opened in (filled.reader(), filled.writer()):
            with pytest.raises(DbctlError):
                asked(opened, sql)
            assert opened.count("tags") == 4
            assert opened.count("people", [Condition("name", "=", "x")]) == 0
            opened.close()

    def test_a_recursion_is_followed_to_its_end(self, reader: Readable) -> None:
        sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select max(i) as m from n"
        for _ in range(2):
            try:
                assert asked(reader, sql) == (["m"], [(5000,)])
            except QueryFailedError as error:  # MySQL says that it goes no further
                assert "cte_max_recursion_depth" in str(error)  # noqa: PT017 - one engine alone refuses

    def test_a_writer_writes_on_after_a_question(self, filled: Fresh) -> None:
        writer = filled.writer()
        with writer.transaction():
            writer.insert("tags", {"person": 1, "tag": "new"})
            assert asked(writer, "select count(*) as n from tags") == (["n"], [(5,)])
            writer.insert("tags", {"person": 1, "tag": "newer"})
        assert writer.count("tags") == 6

    def test_a_question_has_its_time(self, many: Fresh) -> None:
        opened = many.reader()
        assert isinstance(opened, Streams)
        sql = "select count(*) from groups_ a, groups_ b, groups_ c where a.title < b.title and b.title < c.title"
        with pytest.raises(TimeUpError), opened.ask(sql, within=WITHIN) as answer:
            list(answer.batches)
        with opened.ask("select 1", within=WITHIN) as answer:
            assert [row for batch in answer.batches for row in batch] == [(1,)]
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
    def test_what_is_hidden_is_read_in_no_way(self, reader: Readable, sql: str) -> None:
        with pytest.raises(SecretAskedError, match="note"):
            asked(reader, sql, hidden={"people": ["note"]})

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
    def test_what_reads_nothing_hidden_is_answered(self, reader: Readable, sql: str) -> None:
        asked(reader, sql, hidden={"people": ["note"]})

    def test_the_reason_of_the_database_is_told(self, reader: Readable) -> None:
        with pytest.raises(QueryFailedError, match="nope"):
            asked(reader, "select nope from people")
