"""Tests for full-text indexes, for every engine with that part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from dbctl.engines.contract.database import AnyOf, Condition, Order, Query, Readable, Writable
from dbctl.engines.contract.fulltext import (
    IndexMarker,
    JoinedText,
    Link,
    TextAnd,
    TextIndexSpec,
    TextQuery,
    TextTerm,
)
from dbctl.errors.usage import SchemaMismatchError

if TYPE_CHECKING:
    from tests.conformance.contract import DatabaseFactory

INDEX = TextIndexSpec(
    table="people",
    id="id",
    columns=["name", "note"],
    index_name="people_words",
    index_table="PeopleWords",
    key="pid",
    joined_texts=[JoinedText(name="tags", path=[Link("id", "tags", "person")], column="tag")],
    trigger_pattern="words_{table}_{event}",
    language="english",
    marker=IndexMarker(table="marks", key="key", value="value", name="WORDS"),
)
ROWS = [
    (11, "Garden", "A pond and a garden full of lilies"),
    (12, "Kitchen", "There is a garden behind it, and a meadow behind that, and then for a long way nothing"),
    (13, "O'Hara's", "pond; drop table people -- \\ % _ \U0001f40d"),
    (14, "nothing", None),
]
#: Selects the rows that contain "garden", for an index that only ranks.
GARDENS = [Condition("id", "in", [11, 12])]


def create_index(writer: Writable, index: TextIndexSpec = INDEX) -> None:
    scripts, indexes = writer.scripts, writer.fulltext
    with scripts.schema_transaction():
        for sql in indexes.text_index_create_statements(index).values():
            scripts.run_statement(sql)
        indexes.mark_text_index(index)
        indexes.probe_text_index(index)


def drop_index(writer: Writable, index: TextIndexSpec = INDEX) -> None:
    scripts = writer.scripts
    with scripts.schema_transaction():
        for sql in writer.fulltext.text_index_drop_statements(index).values():
            scripts.run_statement(sql)


def build_query(*words: str) -> TextQuery:
    return TextAnd([TextTerm((word,), "word") for word in words])


def search(opened: Readable, *words: str) -> set[object]:
    """Return the ids of rows that the index finds; if it only ranks, of rows that contain the words."""
    reader = opened.fulltext
    where = []
    if reader.text_index_use(INDEX, build_query(*words)) == "rank":
        where = [AnyOf([Condition(name, "contains", word) for name in INDEX.columns]) for word in words]
    return {
        row[0] for row in reader.select_ranked(INDEX, build_query(*words), Query(INDEX.table, ["id"], where))
    }


class FullTextContract:
    @pytest.fixture
    def indexed(self, filled: DatabaseFactory) -> DatabaseFactory:
        opened = filled.writer()
        with opened.transaction():
            opened.insert_many("people", ["id", "name", "note"], ROWS)
        if opened.fulltext is None:
            pytest.skip("the engine has no full-text indexes")
        create_index(opened)
        opened.close()
        return filled

    def test_writer_of_searchable_engine_creates_indexes(self, filled: DatabaseFactory) -> None:
        reader, writer = filled.reader(), filled.writer()
        assert (reader.fulltext is None) == (writer.fulltext is None)

    def test_index_is_created_and_dropped(self, indexed: DatabaseFactory) -> None:
        writer = indexed.writer()
        fulltext = writer.fulltext
        assert fulltext.text_index_state(INDEX).state == "valid"
        assert indexed.reader().fulltext.text_index_state(INDEX) == fulltext.text_index_state(INDEX)
        drop_index(writer)
        assert fulltext.text_index_state(INDEX).state == "missing"
        assert fulltext.text_index_drop_statements(INDEX) == {}
        create_index(writer)
        assert fulltext.text_index_state(INDEX).state == "valid"
        assert not fulltext.find_text_index_faults(INDEX)
        assert writer.count("people") == 9

    def test_index_of_other_columns_is_broken(self, indexed: DatabaseFactory) -> None:
        other = structs.replace(INDEX, columns=["name"])
        opened = indexed.reader().fulltext
        assert opened.text_index_state(other).state == "broken"
        assert opened.text_index_state(other).reason

    def test_probe_is_rolled_back(self, indexed: DatabaseFactory) -> None:
        writer = indexed.writer()
        before = writer.select("people", list(writer.tables()["people"].columns))
        with writer.scripts.schema_transaction():
            writer.fulltext.probe_text_index(INDEX)
        assert writer.select("people", list(writer.tables()["people"].columns)) == before
        assert search(writer, "garden") == {11, 12}

    @pytest.mark.parametrize(
        ("words", "ids"),
        [
            (["garden"], {11, 12}),
            (["GARDEN"], {11, 12}),
            (["pond"], {11, 13}),
            (["garden", "pond"], {11}),
            (["kitchen", "meadow"], {12}),
            (["garden", "zebra"], set()),
            (["zebra"], set()),
        ],
    )
    def test_words_match_in_any_column(
        self, indexed: DatabaseFactory, words: Sequence[str], ids: set[int]
    ) -> None:
        assert search(indexed.reader(), *words) == ids

    def test_rows_are_ordered_by_score(self, indexed: DatabaseFactory) -> None:
        opened = indexed.reader().fulltext
        (first, first_score), (second, second_score) = opened.select_ranked(
            INDEX, build_query("garden"), Query(INDEX.table, ["id"], GARDENS)
        )
        assert (first, second) == (11, 12), "the first row contains the word twice in a short text"
        assert float(str(first_score)) > float(str(second_score)) > 0

    def test_ranked_select_supports_conditions_and_orders(self, indexed: DatabaseFactory) -> None:
        opened = indexed.reader().fulltext
        descending = [Order(["id"], descending=True)]
        rows = opened.select_ranked(
            INDEX, build_query("garden"), Query(INDEX.table, ["id", "name"], GARDENS, order_by=descending)
        )
        assert [row[:2] for row in rows] == [(12, "Kitchen"), (11, "Garden")]
        conditions = [*GARDENS, Condition("name", "same", "KITCHEN")]
        assert [
            row[0]
            for row in opened.select_ranked(
                INDEX, build_query("garden"), Query(INDEX.table, ["id"], conditions)
            )
        ] == [12]
        with pytest.raises(SchemaMismatchError):
            opened.select_ranked(INDEX, build_query("garden"), Query(INDEX.table, ["nope"]))

    def test_ranked_select_is_explained(self, indexed: DatabaseFactory) -> None:
        opened = indexed.reader().fulltext
        explanation = opened.explain_ranked(INDEX, build_query("garden"), Query(INDEX.table, ["id"]))
        assert "people" in explanation.sql
        assert explanation.plan

    def test_index_follows_row_changes(self, indexed: DatabaseFactory) -> None:
        writer = indexed.writer()
        with writer.transaction():
            writer.update("people", {"note": "An orchard"}, [Condition("id", "=", 11)])
            writer.update("people", {"name": "Orchard"}, [Condition("id", "=", 14)])
            writer.delete("people", [Condition("id", "=", 12)])
            writer.insert("people", {"id": 15, "name": "New", "note": "meadow"})
        assert search(writer, "orchard") == {11, 14}
        assert search(writer, "garden") == {11}
        assert search(writer, "meadow") == {15}
        with writer.transaction():
            writer.update("people", {"id": 16}, [Condition("id", "=", 15)])
        assert search(writer, "meadow") == {16}
        assert not writer.fulltext.find_text_index_faults(INDEX)

    def test_index_follows_rollback(self, indexed: DatabaseFactory) -> None:
        writer = indexed.writer()
        with pytest.raises(LookupError), writer.transaction():
            writer.insert("people", {"id": 15, "name": "New", "note": "orchard"})
            writer.delete("people", [Condition("id", "=", 11)])
            raise LookupError
        assert (search(writer, "orchard"), search(writer, "garden")) == (set(), {11, 12})

    @pytest.mark.parametrize(
        "word", ["*", '"', "'", "''", "\\", "-", "(", "a\0b", "\ud800", "%", "C++", "\U0001f40d", "x" * 300, "@5", "~"]
    )  # fmt: skip
    def test_punctuation_is_searched_without_error(self, indexed: DatabaseFactory, word: str) -> None:
        opened = indexed.reader()
        if opened.fulltext.text_index_use(INDEX, build_query(word)) == "find":
            assert search(opened, word) == set()
        assert search(opened, "pond") == {11, 13}

    @pytest.mark.parametrize("word", ["O'Hara", "garden", "lilies", "behind"])
    def test_word_with_apostrophe_or_common_word_is_found(self, indexed: DatabaseFactory, word: str) -> None:
        assert search(indexed.reader(), word)
