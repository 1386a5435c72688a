"""The contract of engines, as far as a JSON file without SQL supports it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dbctl.engines.contract.database import Condition, Readable, Writable
from dbctl.engines.contract.engine import OpenOptions
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError
from dbctl.url import Url
from dbctl_toy.engine import ENGINE, ToyReader
from dbctl_toy.rows import ToyColumn, ToyTable
from tests.conformance.contract import ROWS, EngineContract
from tests.conformance.fulltext import FullTextContract
from tests.conformance.streaming import StreamingContract
from tests.conformance.text_scan import TextScanContract

KEY, NUMBER, TEXT = ToyColumn(type="integer", key=True), ToyColumn(type="integer"), ToyColumn()
REQUIRED = ToyColumn(required=True)
TABLES = {
    "groups_": {"a": KEY, "b": ToyColumn(key=True), "title": TEXT},
    "people": {
        "id": KEY,
        "name": REQUIRED,
        "note": TEXT,
        "size": NUMBER,
        "born": TEXT,
        "group_a": NUMBER,
        "group_b": TEXT,
        "boss": NUMBER,
    },
    "tags": {"person": KEY, "tag": ToyColumn(key=True)},
    "empty_": {"id": KEY, "needed": REQUIRED, "spare": ToyColumn(default="x")},
}
#: The tests of streams and values that need no stream.
WITHOUT_STREAMS = {
    "test_csv_and_json_values_are_inserted_unchanged",
    "test_generated_keys_continue_after_imported_keys",
    "test_first_rejected_row_is_reported",
}
#: Tests of features that the toy lacks: SQL, streams of rows, foreign keys, row locks, full-text indexes.
NOT_APPLICABLE = [
    "test_references_include_composite_keys_and_delete_action",
    "test_query_accepts_named_parameters",
    "test_query_accepts_list_as_set_parameter",
    "test_insert_with_returning_checks_foreign_keys",
    "test_delete_excludes_cascaded_rows_from_count",
    "test_rejected_row_rolls_back",
    "test_select_for_update_blocks_other_writers",
    "test_hostile_name_works_as_table_and_column",
    "test_merge_applies_rules_and_inserts",
    "test_merge_refuses_unknown_columns_and_requires_transaction",
    *(
        name
        for contract in (FullTextContract, TextScanContract, StreamingContract)
        for name in vars(contract)
        if name.startswith("test_") and name not in WITHOUT_STREAMS
    ),
]


class ToyFile:
    """A JSON file, with connections to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("{}")

    def reader(self) -> Readable:
        return ENGINE.create_reader(Url(engine="toy", path=str(self.path)), "app/main", OpenOptions())

    def writer(self) -> Writable:
        return ENGINE.create_writer(Url(engine="toy", path=str(self.path)), "app/main", OpenOptions())


class TestToy(EngineContract):
    @pytest.fixture
    def fresh(self, tmp_path: Path) -> ToyFile:
        return ToyFile(tmp_path / "toy.json")

    @pytest.fixture
    def filled(self, fresh: ToyFile) -> ToyFile:
        tables = {
            name: ToyTable(
                columns=columns,
                rows=[dict(zip(ROWS[name][0], row, strict=True)) for row in ROWS.get(name, ((), ()))[1]],
            )
            for name, columns in TABLES.items()
        }
        fresh.path.write_bytes(msgspec.json.encode(tables))
        return fresh

    locals().update(dict.fromkeys(NOT_APPLICABLE))

    def test_row_with_the_key_of_another_or_without_a_required_value_rolls_back(self, writer: Writable):
        for values in ({"id": 1, "name": "twice"}, {"id": 9, "name": None}, {"id": 9}):
            with pytest.raises(ConstraintError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                writer.insert("people", values)
            assert writer.count("people", [Condition("size", "=", 0)]) == 0

    def test_file_of_another_form_is_refused(self, fresh: ToyFile):
        for text in ("", "[]", '{"users": []}'):
            fresh.path.write_text(text)
            with pytest.raises(DbctlError) as caught:
                ToyReader(fresh.path, "app/main")
            assert caught.value.code == "corrupt"
