"""Facts about indexes of words, of every engine that says that it has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import pytest
from msgspec import structs

from dbctl.engines.contract import AnyOf, Capability, Condition, Migrates, Order, Readable, Writable
from dbctl.engines.contract.fulltext import FullText, Gathered, Link, MakesFullText, Marked, TextIndex
from dbctl.engines.contract.text_query import TextAnd, TextQuery, TextTerm
from dbctl.errors import SchemaLacksError

if TYPE_CHECKING:
    from tests.conformance.contract import Fresh

INDEX = TextIndex(
    table="people",
    id="id",
    columns=["name", "note"],
    index="people_words",
    own_table="PeopleWords",
    key="pid",
    gathered=[Gathered(name="tags", path=[Link("id", "tags", "person")], column="tag")],
    triggers="words_{table}_{event}",
    language="english",
    mark=Marked(table="marks", key="key", value="value", name="WORDS"),
)
ROWS = [
    (11, "Garden", "A pond and a garden full of lilies"),
    (12, "Kitchen", "There is a garden behind it, and a meadow behind that, and then for a long way nothing"),
    (13, "O'Hara's", "pond; drop table people -- \\ % _ \U0001f40d"),
    (14, "nothing", None),
]
#: The rows that hold the word, for an index that only ranks.
GARDENS = [Condition("id", "in", [11, 12])]


class Finds(Readable, FullText, Protocol):
    """A reader of such an engine."""


class Makes(Writable, FullText, MakesFullText, Migrates, Protocol):
    """A writer of such an engine."""


def finds(opened: Readable) -> Finds:
    assert isinstance(opened, FullText)
    return opened  # type: ignore[return-value]


def makes(opened: Writable) -> Makes:
    assert isinstance(opened, MakesFullText)
    assert isinstance(opened, Migrates)
    return opened  # type: ignore[return-value]


def make(writer: Makes, told: TextIndex = INDEX) -> None:
    with writer.schema_transaction():
        for sql in writer.text_index_makes(told).values():
            writer.run_statement(sql)
        writer.mark_text_index(told)
        writer.probe_text_index(told)


def drop(writer: Makes, told: TextIndex = INDEX) -> None:
    with writer.schema_transaction():
        for sql in writer.text_index_drops(told).values():
            writer.run_statement(sql)


def query(*words: str) -> TextQuery:
    return TextAnd([TextTerm((word,), "word") for word in words])


def found(opened: Readable, *words: str) -> set[object]:
    """Return the rows that the index finds; where it only ranks, those that hold the words."""
    told = finds(opened)
    where = []
    if told.text_index_use(INDEX, query(*words)) == "rank":
        where = [AnyOf([Condition(name, "contains", word) for name in INDEX.columns]) for word in words]
    return {row[0] for row in told.ranked(INDEX, query(*words), ["id"], where)}


class FullTextContract:
    @pytest.fixture
    def worded(self, filled: Fresh) -> Fresh:
        opened = filled.writer()
        with opened.transaction():
            opened.insert_many("people", ["id", "name", "note"], ROWS)
        if Capability.FULL_TEXT not in opened.capabilities:
            pytest.skip("it has no indexes of words")
        make(makes(opened))
        opened.close()
        return filled

    def test_it_says_that_it_finds_words_and_does(self, filled: Fresh) -> None:
        for opened in (filled.reader(), filled.writer()):
            assert (Capability.FULL_TEXT in opened.capabilities) == isinstance(opened, FullText)
        assert (Capability.FULL_TEXT in opened.capabilities) == isinstance(opened, MakesFullText)

    def test_an_index_of_words_is_missing_made_sound_and_dropped(self, worded: Fresh) -> None:
        writer = makes(worded.writer())
        assert writer.text_index(INDEX).state == "sound"
        assert finds(worded.reader()).text_index(INDEX) == writer.text_index(INDEX)
        drop(writer)
        assert writer.text_index(INDEX).state == "missing"
        assert writer.text_index_drops(INDEX) == {}
        make(writer)
        assert writer.text_index(INDEX).state == "sound"
        assert not writer.text_index_faults(INDEX)
        assert writer.count("people") == 9

    def test_one_over_other_columns_is_of_no_use(self, worded: Fresh) -> None:
        other = structs.replace(INDEX, columns=["name"])
        opened = finds(worded.reader())
        assert opened.text_index(other).state == "broken"
        assert opened.text_index(other).reason

    def test_a_probe_leaves_nothing_behind(self, worded: Fresh) -> None:
        writer = makes(worded.writer())
        before = writer.select("people", list(writer.tables()["people"].columns))
        with writer.schema_transaction():
            writer.probe_text_index(INDEX)
        assert writer.select("people", list(writer.tables()["people"].columns)) == before
        assert found(writer, "garden") == {11, 12}

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
    def test_each_word_is_found_in_any_of_the_columns(
        self, worded: Fresh, words: Sequence[str], ids: set[int]
    ) -> None:
        assert found(worded.reader(), *words) == ids

    def test_the_best_come_first_with_their_score(self, worded: Fresh) -> None:
        opened = finds(worded.reader())
        (first, best), (second, less) = opened.ranked(INDEX, query("garden"), ["id"], GARDENS)
        assert (first, second) == (11, 12), "it says it twice, and little else"
        assert float(str(best)) > float(str(less)) > 0

    def test_conditions_and_orders_are_those_of_every_other_reading(self, worded: Fresh) -> None:
        opened = finds(worded.reader())
        backwards = [Order(["id"], descending=True)]
        told = opened.ranked(INDEX, query("garden"), ["id", "name"], GARDENS, order_by=backwards)
        assert [row[:2] for row in told] == [(12, "Kitchen"), (11, "Garden")]
        only = [*GARDENS, Condition("name", "same", "KITCHEN")]
        assert [row[0] for row in opened.ranked(INDEX, query("garden"), ["id"], only)] == [12]
        with pytest.raises(SchemaLacksError):
            opened.ranked(INDEX, query("garden"), ["nope"])

    def test_how_it_would_be_answered_is_told(self, worded: Fresh) -> None:
        opened = finds(worded.reader())
        told = opened.explain_ranked(INDEX, query("garden"), ["id"])
        assert "people" in told.sql
        assert told.plan

    def test_what_changes_is_found_by_its_new_words_alone(self, worded: Fresh) -> None:
        writer = worded.writer()
        with writer.transaction():
            writer.update("people", {"note": "An orchard"}, [Condition("id", "=", 11)])
            writer.update("people", {"name": "Orchard"}, [Condition("id", "=", 14)])
            writer.delete("people", [Condition("id", "=", 12)])
            writer.insert("people", {"id": 15, "name": "New", "note": "meadow"})
        assert found(writer, "orchard") == {11, 14}
        assert found(writer, "garden") == {11}
        assert found(writer, "meadow") == {15}
        with writer.transaction():
            writer.update("people", {"id": 16}, [Condition("id", "=", 15)])
        assert found(writer, "meadow") == {16}
        assert not finds(writer).text_index_faults(INDEX)

    def test_what_is_taken_back_is_not_found(self, worded: Fresh) -> None:
        writer = worded.writer()
        with pytest.raises(LookupError), writer.transaction():
            writer.insert("people", {"id": 15, "name": "New", "note": "orchard"})
            writer.delete("people", [Condition("id", "=", 11)])
            raise LookupError
        assert (found(writer, "orchard"), found(writer, "garden")) == (set(), {11, 12})

    @pytest.mark.parametrize(
        "word", ["*", '"', "'", "''", "\\", "-", "(", "a\0b", "\ud800", "%", "C++", "\U0001f40d", "x" * 300, "@5", "~"]
    )  # fmt: skip
    def test_a_word_of_signs_is_no_failure(self, worded: Fresh, word: str) -> None:
        opened = finds(worded.reader())
        if opened.text_index_use(INDEX, query(word)) == "find":
            assert found(opened, word) == set()
        assert found(opened, "pond") == {11, 13}

    @pytest.mark.parametrize("word", ["O'Hara", "garden", "lilies", "behind"])
    def test_a_word_that_an_index_can_find_is_found(self, worded: Fresh, word: str) -> None:
        assert found(finds(worded.reader()), word)
