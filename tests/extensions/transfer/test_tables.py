"""The tables of a transfer, their order and columns, and what changes with their schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec import structs

from dbctl.engines.contract.schema import SchemaReference
from dbctl.extensions.transfer.errors import TransferSchemaError
from dbctl.extensions.transfer.portable.contract import (
    IndexTerm,
    LogicalType,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableTable,
    PortableView,
)
from dbctl.extensions.transfer.schema import fingerprint_objects
from dbctl.extensions.transfer.tables import (
    Exclusions,
    TransferTable,
    build_tables,
    pair_columns,
    select_tables,
)
from dbctl.services.app import ledger_detection

TEXT, INTEGER = LogicalType(kind="text"), LogicalType(kind="integer")
NOTHING = Exclusions(ledgers=(), patterns=())


def refer(parent: str) -> SchemaReference:
    return SchemaReference(columns=["id"], table=parent, to=["id"], on_update="", on_delete="")


def describe(name: str, *parents: str, columns: Sequence[str] = ("id",), **facts: Any) -> PortableTable:
    """Return a table that refers to others."""
    return PortableTable(
        name=name,
        columns=[PortableColumn(name=column, declared="text", type=TEXT) for column in columns],
        key=facts.pop("key", ["id"]),
        references=[refer(parent) for parent in parents],
        **facts,
    )


def schema(*tables: PortableTable, **facts: Any) -> PortableSchema:
    return PortableSchema(dialect="sqlite", tables=tables, **facts)


@pytest.mark.parametrize(
    ("tables", "order"),
    [
        ({"b": [], "a": [], "c": []}, "abc"),
        ({"a": ["c"], "b": ["a"], "c": []}, "cab"),
        ({"a": ["z", "y"], "y": [], "z": []}, "yza"),
        ({"a": ["b"], "b": ["a"], "c": ["a"]}, "bac"),
        ({"a": ["a"], "b": ["missing", "c"], "c": []}, "acb"),
    ],
)
def test_tables_follow_those_to_which_they_refer(tables: Mapping[str, Sequence[str]], order: str) -> None:
    described = [describe(name, *parents) for name, parents in tables.items()]
    assert [table.name for table in select_tables(schema(*described), NOTHING)] == list(order)


def test_excluded_tables() -> None:
    exclusions = Exclusions(ledgers=["history"], patterns=["search_*", "docs?"])
    own = [ledger_detection.TRANSFER_TABLE, ledger_detection.JOURNAL]
    names = [*own, "history", "search_data", "docs1", "Search_data", "docs", "item"]
    tables = schema(*map(describe, names))
    assert [table.name for table in select_tables(tables, exclusions)] == ["Search_data", "docs", "item"]
    selected = select_tables(tables, Exclusions(ledgers=[], patterns=exclusions.patterns))
    assert [table.name for table in selected] == ["Search_data", "docs", "history", "item"]


def test_pairs_are_columns_of_both_sides_that_the_destination_does_not_compute() -> None:
    source = schema(describe("item", columns=["id", "name", "size", "old"]), describe("other"))
    columns = [
        PortableColumn(name="size", declared="int", type=INTEGER, generated="1 + 1"),
        PortableColumn(name="name", declared="int", type=INTEGER, is_nullable=False),
        PortableColumn(name="id", declared="int", type=INTEGER),
        PortableColumn(name="new", declared="int", type=INTEGER),
    ]
    destination = schema(structs.replace(describe("item"), columns=columns), describe("third"))
    pairs = pair_columns(source, destination)
    assert [(pair.table, pair.column, pair.is_nullable) for pair in pairs] == [
        ("item", "id", True),
        ("item", "name", False),
    ]
    assert {(pair.source, pair.source_type, pair.destination, pair.destination_type) for pair in pairs} == {
        ("text", TEXT, "int", INTEGER)
    }


def build(table: PortableTable, *copied: str) -> TransferTable:
    """Return a table of which the destination has some columns."""
    pairs = pair_columns(schema(table), schema(describe(table.name, columns=copied)) if copied else schema())
    (result,) = build_tables([table], pairs, time_form="epoch-ms", target="app/main")
    assert [pair.column for pair in result.pairs] == [column.name for column in result.columns]
    assert {column.kind for column in result.columns} == {"text"}
    assert {column.time_form for column in result.columns} == {"epoch-ms"}
    return result


@pytest.mark.parametrize(
    ("key", "columns", "width"),
    [
        ([], ["a", "b", "c"], 0),
        (["b"], ["b", "a", "c"], 1),
        (["c", "a"], ["c", "a", "b"], 2),
        (["c", "b", "a"], ["c", "b", "a"], 3),
    ],
)
def test_columns_of_the_key_are_first(key: Sequence[str], columns: Sequence[str], width: int) -> None:
    table = build(describe("t", columns=["a", "b", "c"], key=key), "c", "b", "a")
    assert ([column.name for column in table.columns], table.key_width) == (columns, width)
    assert [column.name for column in table.key] == list(key)


@pytest.mark.parametrize(
    ("copied", "missing"), [((), "table t"), (("id", "name"), "column t.size"), (("name",), "column t.id")]
)
def test_destination_that_lacks_a_part_is_refused(copied: Sequence[str], missing: str) -> None:
    with pytest.raises(TransferSchemaError) as caught:
        build(describe("t", columns=["id", "name", "size"]), *copied)
    assert caught.value.context == {"target": "app/main", "missing": missing}


def test_generated_columns_are_copied_if_the_destination_stores_them() -> None:
    table = describe("t", columns=["id", "name", "sum"], key=["sum"])
    computed = structs.replace(table.columns[2], generated="1 + 1")
    table = structs.replace(table, columns=[*table.columns[:2], computed])
    stored, skipped = build(table, "id", "name", "sum"), build(table, "id", "name")
    assert ([column.name for column in stored.columns], stored.key_width) == (["sum", "id", "name"], 1)
    assert ([column.name for column in skipped.columns], skipped.key_width) == (["id", "name"], 0)


WHOLE = schema(
    describe("ledger"),
    describe(
        "item",
        "parent",
        columns=["id", "name"],
        indexes=[
            PortableIndex(name="item_name", terms=[IndexTerm(column="name")]),
            PortableIndex(name="", terms=[IndexTerm(column="id"), IndexTerm(expression="lower(name)")]),
        ],
    ),
    views=[PortableView(name="names", query="select 1")],
)
NAMES = {
    "view names",
    "table item",
    "column item.id",
    "column item.name",
    "index item_name of item",
    "index id, lower(name) of item",
    "foreign key id of item",
}
NAME = WHOLE.tables[1].columns[1]


def change_item(**facts: Any) -> PortableSchema:
    return structs.replace(WHOLE, tables=[WHOLE.tables[0], structs.replace(WHOLE.tables[1], **facts)])


def change_column(**facts: Any) -> PortableSchema:
    return change_item(columns=[WHOLE.tables[1].columns[0], structs.replace(NAME, **facts)])


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (WHOLE, set()),
        (structs.replace(WHOLE, views=[PortableView(name="names", query="select 2")]), {"view names"}),
        (structs.replace(WHOLE, tables=[describe("ledger", "item"), *WHOLE.tables[1:]]), set()),
        (change_item(key=["name"]), {"table item"}),
        (change_item(checks=["id > 0"]), {"table item"}),
        (change_item(references=[]), {"foreign key id of item"}),
        (change_item(references=[refer("other")]), {"foreign key id of item"}),
        (
            change_item(indexes=[structs.replace(WHOLE.tables[1].indexes[0], is_unique=True)]),
            {"index item_name of item", "index id, lower(name) of item"},
        ),
        *(
            (change_column(**facts), {"column item.name"})
            for facts in (
                {"declared": "varchar(9)"},
                {"is_nullable": False},
                {"default": "'x'"},
                {"generated": "id + 1"},
                {"is_automatic": True},
            )
        ),
        (change_column(type=INTEGER), set()),  # it may depend on the values
    ],
)
def test_objects_whose_fingerprint_changes(changed: PortableSchema, names: set[str]) -> None:
    before, after = fingerprint_objects(WHOLE, ["ledger"]), fingerprint_objects(changed, ["ledger"])
    assert before.keys() == NAMES
    assert {name for name in NAMES if before[name] != after.get(name)} == names
