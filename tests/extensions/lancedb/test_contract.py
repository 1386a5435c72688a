"""LanceDB: the engine contract, as far as the library supports it; other features are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines.contract.database import AnyOf, Condition, Merge, Order, ShiftedTime
from dbctl.engines.contract.streaming import UserQuery
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConcurrentChangeError, ConstraintError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError
from tests.conformance.contract import HOSTILE_NAMES, ROWS, EngineContract, first_values
from tests.conformance.fulltext import FullTextContract
from tests.conformance.text_scan import TextScanContract
from tests.extensions.lancedb import opening

STRING, INTEGER = pa.string(), pa.int64()
SCHEMAS = {
    "groups_": [("a", INTEGER, False), ("b", STRING, False), ("title", STRING, True)],
    "people": [
        ("id", INTEGER, True),
        ("name", STRING, False),
        ("note", STRING, True),
        ("size", INTEGER, True),
        ("born", STRING, True),
        ("group_a", INTEGER, True),
        ("group_b", STRING, True),
        ("boss", INTEGER, True),
    ],
    "tags": [("person", INTEGER, False), ("tag", STRING, False)],
    "empty_": [("id", INTEGER, True), ("needed", STRING, False), ("spare", STRING, True)],
}
KEYS = {"groups_": ["a", "b"], "tags": ["person", "tag"]}
#: The metadata key that declares a column as part of the key.
KEY_METADATA = "lance-schema:unenforced-primary-key:position"
#: Tests of features that LanceDB lacks: SQL, foreign keys, generated keys, row locks, tables of any name, numbers of any
#: length.
NOT_APPLICABLE = [
    "test_query_accepts_named_parameters",
    "test_query_accepts_list_as_set_parameter",
    "test_references_include_composite_keys_and_delete_action",
    "test_columns_are_in_declared_order",
    "test_insert_returns_generated_value",
    "test_insert_with_returning_checks_foreign_keys",
    "test_delete_excludes_cascaded_rows_from_count",
    "test_rejected_row_rolls_back",
    "test_select_for_update_blocks_other_writers",
    "test_hostile_name_works_as_table_and_column",
    "test_schema_is_complete_and_fingerprint_ignores_rows",
    "test_exists_returns_none_on_timeout",
    "test_time_of_any_form_is_shifted",
    "test_shifted_time_retains_milliseconds",
    "test_merge_applies_rules_and_inserts",
    "test_merge_refuses_unknown_columns_and_requires_transaction",
    "test_generated_keys_continue_after_imported_keys",
    "test_numbers_are_shown_with_all_digits",
    "test_digest_of_small_table_ignores_row_order",
    "test_unfinished_stream_can_be_closed",
    "test_query_returns_columns_and_rows",
    "test_recursive_query_runs",
    "test_transaction_continues_after_query",
    "test_query_is_cancelled_after_timeout",
    "test_hidden_column_cannot_be_read",
    "test_query_without_hidden_column_runs",
    "test_query_error_contains_database_reason",
    # these create tables with SQL; test_text_scan.py has the same tests for LanceDB
    "test_match_includes_surrounding_text",
    "test_word_is_literal_and_limit_applies",
    "test_scan_returns_none_on_timeout",
]


class LanceFolder:
    """LanceDB database in a folder, with connections to it."""

    def __init__(self, path) -> None:
        self.path = path
        self.connection = lancedb.connect(path)

    def create_table(self, name: str, columns, key: list[str]) -> None:
        fields = []
        for column, kind, nullable in columns:
            metadata = {KEY_METADATA: str(key.index(column) + 1)} if column in key else None
            fields.append(pa.field(column, kind, nullable=nullable and not metadata, metadata=metadata))
        self.connection.create_table(name, schema=pa.schema(fields))

    def reader(self):
        return opening.open_reader(self.path, {})

    def writer(self):
        return opening.open_writer(self.path, {})


class TestLanceDB(EngineContract):
    @pytest.fixture
    def fresh(self, tmp_path) -> LanceFolder:
        return LanceFolder(tmp_path)

    @pytest.fixture
    def filled(self, fresh) -> LanceFolder:
        for name, columns in SCHEMAS.items():
            fresh.create_table(name, columns, KEYS.get(name, ["id"]))
            names, rows = ROWS.get(name, ([], []))
            if rows:
                records = [dict(zip(names, row, strict=True)) for row in rows]
                table = fresh.connection.open_table(name)
                table.add(pa.Table.from_pylist(records, table.schema))
        return fresh

    locals().update(
        dict.fromkeys(
            [
                *NOT_APPLICABLE,
                *(
                    name
                    for contract in (FullTextContract, TextScanContract)
                    for name in vars(contract)
                    if name.startswith("test_")
                ),
            ]
        )
    )

    def test_key_columns_are_in_order(self, reader):
        columns = reader.tables()["groups_"].columns
        assert [name for name, column in columns.items() if column.is_primary_key] == ["a", "b"]
        assert [name for name, column in reader.tables()["people"].columns.items() if column.required] == [
            "id",
            "name",
        ]
        assert reader.references("people") == []

    @pytest.mark.parametrize("sql", ["select 1", "delete from people"])
    def test_sql_is_refused(self, filled, sql):
        for opened in (filled.reader(), filled.writer()):
            with pytest.raises(NotSupportedError):
                opened.query(sql)
            with pytest.raises(NotSupportedError):
                opened.streams.query_read_only(UserQuery(sql))
        with pytest.raises(NotSupportedError), opened.transaction():
            opened.merge(Merge(table="tags", select=sql, parameters={}, key=["person"], columns={}))

    def test_duplicate_key_is_refused(self, writer):
        for values in ({"id": 1, "name": "twice"}, {"id": 9, "name": None}, {"id": 9}):
            with pytest.raises(ConstraintError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                writer.insert("people", values)
            assert writer.count("people", [Condition("size", "=", 0)]) == 0
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert_many("tags", ["person", "tag"], [(1, "new"), (1, "red")])
        assert writer.count("tags") == 4

    def test_concurrent_change_of_same_row_is_detected(self, filled):
        """There are no row locks: the later of two writers gets a conflict when it writes."""
        writer, other = filled.writer(), filled.writer()
        with writer.transaction():
            writer.select("people", ["id"], for_update=True)
            with other.transaction():
                other.update("people", {"size": 7}, [Condition("id", "=", 1)])
            with suppress(ConcurrentChangeError):
                writer.update("people", {"note": "mine"}, [Condition("id", "=", 1)])
        (row,) = filled.reader().select("people", ["size", "note"], [Condition("id", "=", 1)])
        assert row[0] == 7, "the change of the other writer is not lost"

    @pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if "`" not in name])
    def test_hostile_column_names_work(self, fresh, name):
        fresh.create_table("t", [("id", INTEGER, True), (name, STRING, True)], ["id"])
        writer = fresh.writer()
        with writer.transaction():
            writer.insert("t", {"id": 1, name: "v"})
            writer.insert_many("t", ["id", name], [(5, "w")])
            assert writer.update("t", {name: "u"}, [Condition(name, "=", "v")]) == 1
        order = [Order([name], nocase=True, descending=True)]
        assert writer.select("t", [name], order_by=order) == [("w",), ("u",)]
        assert writer.count_by("t", name) == {"u": 1, "w": 1}
        with writer.transaction():
            assert writer.delete("t", [Condition(name, "contains", "W")]) == 1

    def test_column_with_backtick_is_hidden(self, fresh):
        fresh.create_table("t", [("id", INTEGER, True), ("a`b", STRING, True)], ["id"])
        writer = fresh.writer()
        assert list(writer.tables()["t"].columns) == ["id"]
        with pytest.raises(SchemaMismatchError):
            writer.count("t", [Condition("a`b", "=", "v")])

    @pytest.mark.parametrize(("form", "factor"), [("epoch-ms", 1), ("epoch-s", 1000)])
    def test_numeric_time_is_shifted(self, fresh, form, factor):
        fresh.create_table(
            "t", [("id", INTEGER, True), ("at", pa.float64(), True), ("n", INTEGER, True)], ["id"]
        )
        writer = fresh.writer()
        with writer.transaction():
            writer.insert_many("t", ["id", "at", "n"], [(1, 1.7e12, 5), (2, 1.7e9, 5), (3, None, 5)])
            writer.update("t", {"at": ShiftedTime("at", timedelta(seconds=1), form)}, [])
        assert first_values(writer.select("t", ["at"])) == [1_700_000_001_000 / factor] * 2 + [None]
        with pytest.raises(DbctlError), writer.transaction():
            writer.update("people", {"born": ShiftedTime("born", timedelta(1), "iso-ms")}, [])

    def test_fingerprint_depends_on_schema_only(self, filled):
        before = filled.reader().schema_reader.fingerprint()
        writer = filled.writer()
        with writer.transaction():
            writer.delete("tags", [])
        assert writer.schema_reader.fingerprint() == filled.reader().schema_reader.fingerprint() == before
        filled.connection.open_table("tags").add_columns({"spare": "cast(1 as int)"})
        assert filled.reader().schema_reader.fingerprint() != before

    @pytest.mark.slow
    def test_condition_with_thousands_of_values_works(self, filled) -> None:
        def rows() -> Iterator[tuple[int, str]]:
            yield from ((number, f"n'{number}") for number in range(30_000))

        writer = filled.writer()
        with writer.transaction():
            writer.insert_many("empty_", ["id", "needed"], rows())
        names = [f"n'{number}" for number in range(0, 40_000, 2)]
        assert writer.count("empty_", [Condition("needed", "in", names)]) == 15_000
        assert writer.count("empty_", [AnyOf([Condition("id", "=", n) for n in range(500)])]) == 500
