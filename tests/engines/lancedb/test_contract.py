"""LanceDB keeps the contract as far as its library goes; what it cannot is refused, and never pretended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines.contract import AnyOf, Condition, Later, Order
from dbctl.errors import (
    ChangedMeanwhileError,
    ConstraintError,
    DbctlError,
    NotSupportedError,
    SchemaLacksError,
)
from tests.conformance.contract import HOSTILE_NAMES, ROWS, EngineContract, ids
from tests.conformance.fulltext import FullTextContract
from tests.conformance.text_scan import LookingContract
from tests.engines import lance

TEXT, WHOLE = pa.string(), pa.int64()
SCHEMAS = {
    "groups_": [("a", WHOLE, False), ("b", TEXT, False), ("title", TEXT, True)],
    "people": [
        ("id", WHOLE, True),
        ("name", TEXT, False),
        ("note", TEXT, True),
        ("size", WHOLE, True),
        ("born", TEXT, True),
        ("group_a", WHOLE, True),
        ("group_b", TEXT, True),
        ("boss", WHOLE, True),
    ],
    "tags": [("person", WHOLE, False), ("tag", TEXT, False)],
    "empty_": [("id", WHOLE, True), ("needed", TEXT, False), ("spare", TEXT, True)],
}
KEYS = {"groups_": ["a", "b"], "tags": ["person", "tag"]}
#: How a table says of a column that it is its key, or part of it.
MARK = "lance-schema:unenforced-primary-key:position"
#: Facts about what it does not have, each told as refused below: SQL, foreign keys, keys that the database makes, rows that
#: are held, tables of any name, numbers of any length.
OTHERS = [
    "test_query_gives_rows_of_portable_sql_with_named_parameters",
    "test_a_list_is_one_parameter_of_a_query_that_holds_a_set",
    "test_references_tell_composite_keys_and_what_a_deletion_takes_along",
    "test_tables_tell_columns_in_their_order",
    "test_insert_returns_what_the_database_made",
    "test_a_foreign_key_is_refused_also_where_something_is_returned",
    "test_delete_counts_its_own_rows_and_follows_foreign_keys",
    "test_a_row_that_the_database_refuses_changes_nothing",
    "test_rows_that_are_held_are_changed_by_nobody_else_until_the_transaction_ends",
    "test_any_name_works_as_table_and_as_column",
    "test_a_schema_is_told_whole_and_its_fingerprint_follows_it_and_not_the_rows",
    "test_what_is_not_clear_in_time_is_not_told",
    "test_a_time_is_moved_on_from_whatever_form_a_row_stores",
    "test_a_time_that_is_moved_on_keeps_its_milliseconds",
    "test_a_merge_adds_replaces_keeps_and_inserts",
    "test_a_merge_names_only_what_is_there_and_nothing_outside_a_transaction",
    "test_keys_that_are_made_go_on_behind_those_that_came",
    "test_numbers_may_come_with_every_digit",
    "test_what_a_small_table_holds_has_a_digest_of_its_own_in_any_order",
    "test_who_wants_no_more_may_go_and_ask_anew",
    "test_a_question_is_answered_with_its_columns",
    "test_a_recursion_is_followed_to_its_end",
    "test_a_writer_writes_on_after_a_question",
    "test_a_question_has_its_time",
    "test_what_is_hidden_is_read_in_no_way",
    "test_what_reads_nothing_hidden_is_answered",
    "test_the_reason_of_the_database_is_told",
    # their tables are made by SQL; what they are about is in test_lancedb_looking.py
    "test_a_word_is_found_in_every_text_with_what_stands_around_it",
    "test_a_word_is_taken_literally_and_no_more_rows_than_asked_for",
    "test_what_takes_too_long_is_given_up",
]


class Folder:
    """A LanceDB in a folder, and what was opened on it."""

    def __init__(self, place) -> None:
        self.place = place
        self.own = lancedb.connect(place)

    def make(self, name: str, columns, key: list[str]) -> None:
        fields = []
        for column, kind, nullable in columns:
            at = {MARK: str(key.index(column) + 1)} if column in key else None
            fields.append(pa.field(column, kind, nullable=nullable and not at, metadata=at))
        self.own.create_table(name, schema=pa.schema(fields))

    def reader(self):
        return lance.reader(self.place, {})

    def writer(self):
        return lance.writer(self.place, {})


class TestLanceDB(EngineContract):
    @pytest.fixture
    def fresh(self, tmp_path) -> Folder:
        return Folder(tmp_path)

    @pytest.fixture
    def filled(self, fresh) -> Folder:
        for name, columns in SCHEMAS.items():
            fresh.make(name, columns, KEYS.get(name, ["id"]))
            given, rows = ROWS.get(name, ([], []))
            if rows:
                told = [dict(zip(given, row, strict=True)) for row in rows]
                table = fresh.own.open_table(name)
                table.add(pa.Table.from_pylist(told, table.schema))
        return fresh

    locals().update(
        dict.fromkeys(
            [
                *OTHERS,
                *(
                    name
                    for one in (FullTextContract, LookingContract)
                    for name in vars(one)
                    if name.startswith("test_")
                ),
            ]
        )
    )

    def test_tables_tell_their_key_in_its_order(self, reader):
        told = reader.tables()["groups_"].columns
        assert [name for name, one in told.items() if one.key] == ["a", "b"]
        assert [name for name, one in reader.tables()["people"].columns.items() if one.required] == [
            "id",
            "name",
        ]
        assert reader.references("people") == []

    @pytest.mark.parametrize("sql", ["select 1", "delete from people"])
    def test_sql_is_refused_wherever_it_is_asked(self, filled, sql):
        for opened in (filled.reader(), filled.writer()):
            with pytest.raises(NotSupportedError):
                opened.query(sql)
            with pytest.raises(NotSupportedError):
                opened.ask(sql)
        with pytest.raises(NotSupportedError), opened.transaction():
            opened.merge("tags", sql, {}, key=["person"], columns={})

    def test_a_second_row_of_one_key_is_refused_though_the_library_would_keep_it(self, writer):
        for values in ({"id": 1, "name": "twice"}, {"id": 9, "name": None}, {"id": 9}):
            with pytest.raises(ConstraintError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                writer.insert("people", values)
            assert writer.count("people", [Condition("size", "=", 0)]) == 0
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert_many("tags", ["person", "tag"], [(1, "new"), (1, "red")])
        assert writer.count("tags") == 4

    def test_whoever_changes_the_same_rows_meanwhile_is_told(self, filled):
        """No row is held: of two that change the same one, the later finds out when it writes."""
        first, second = filled.writer(), filled.writer()
        with first.transaction():
            first.select("people", ["id"], hold=True)
            with second.transaction():
                second.update("people", {"size": 7}, [Condition("id", "=", 1)])
            with suppress(ChangedMeanwhileError):
                first.update("people", {"note": "mine"}, [Condition("id", "=", 1)])
        (row,) = filled.reader().select("people", ["size", "note"], [Condition("id", "=", 1)])
        assert row[0] == 7, "what the other wrote is not lost"

    @pytest.mark.parametrize("name", [one for one in HOSTILE_NAMES if "`" not in one])
    def test_any_name_but_one_with_a_backtick_works_as_column(self, fresh, name):
        fresh.make("t", [("id", WHOLE, True), (name, TEXT, True)], ["id"])
        writer = fresh.writer()
        with writer.transaction():
            writer.insert("t", {"id": 1, name: "v"})
            writer.insert_many("t", ["id", name], [(5, "w")])
            assert writer.update("t", {name: "u"}, [Condition(name, "=", "v")]) == 1
        order = [Order([name], nocase=True, descending=True)]
        assert writer.select("t", [name], order_by=order) == [("w",), ("u",)]
        assert writer.tally("t", name) == {"u": 1, "w": 1}
        with writer.transaction():
            assert writer.delete("t", [Condition(name, "contains", "W")]) == 1

    def test_a_column_that_nobody_can_read_is_as_if_it_were_not_there(self, fresh):
        fresh.make("t", [("id", WHOLE, True), ("a`b", TEXT, True)], ["id"])
        writer = fresh.writer()
        assert list(writer.tables()["t"].columns) == ["id"]
        with pytest.raises(SchemaLacksError):
            writer.count("t", [Condition("a`b", "=", "v")])

    @pytest.mark.parametrize(("form", "factor"), [("epoch-ms", 1), ("epoch-s", 1000)])
    def test_a_time_that_is_a_number_is_moved_on(self, fresh, form, factor):
        fresh.make("t", [("id", WHOLE, True), ("at", pa.float64(), True), ("n", WHOLE, True)], ["id"])
        writer = fresh.writer()
        with writer.transaction():
            writer.insert_many("t", ["id", "at", "n"], [(1, 1.7e12, 5), (2, 1.7e9, 5), (3, None, 5)])
            writer.update("t", {"at": Later("at", timedelta(seconds=1), form)}, [])
        assert ids(writer.select("t", ["at"])) == [1_700_000_001_000 / factor] * 2 + [None]
        with pytest.raises(DbctlError), writer.transaction():
            writer.update("people", {"born": Later("born", timedelta(1), "iso-ms")}, [])

    def test_a_fingerprint_follows_the_schema_and_not_the_rows(self, filled):
        before = filled.reader().fingerprint()
        writer = filled.writer()
        with writer.transaction():
            writer.delete("tags", [])
        assert writer.fingerprint() == filled.reader().fingerprint() == before
        filled.own.open_table("tags").add_columns({"spare": "cast(1 as int)"})
        assert filled.reader().fingerprint() != before

    def test_a_condition_on_very_many_rows_is_answered(self, filled) -> None:
        def rows() -> Iterator[tuple[int, str]]:
            yield from ((number, f"n'{number}") for number in range(30_000))

        writer = filled.writer()
        with writer.transaction():
            writer.insert_many("empty_", ["id", "needed"], rows())
        wanted = [f"n'{number}" for number in range(0, 40_000, 2)]
        assert writer.count("empty_", [Condition("needed", "in", wanted)]) == 15_000
        assert writer.count("empty_", [AnyOf([Condition("id", "=", n) for n in range(500)])]) == 500
