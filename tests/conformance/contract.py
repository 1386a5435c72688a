"""Tests for every engine. A new engine inherits them in one test class.

```python
class TestMyEngine(EngineContract):
    @pytest.fixture
    def fresh(self, tmp_path):  # an empty database
        ...
```
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Merge,
    Not,
    Order,
    Query,
    Readable,
    ReferenceCount,
    ShiftedTime,
    Where,
    Writable,
    after_key,
)
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, ConstraintError, QueryFailedError
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError
from dbctl.signals import Interrupted
from tests.conformance.abilities import find_mismatches
from tests.conformance.fulltext import FullTextContract
from tests.conformance.streaming import StreamingContract
from tests.conformance.text_scan import TextScanContract

#: Names that require correct quoting, or that contain control characters of terminals.
HOSTILE_NAMES = [
    'a"b',
    "a'b",
    "a]b",
    "a`b",
    "a;b",
    "a b",
    "a\nb",
    "a\x1b[31mb",
    "a\u202eb",
    "select",
    "[a]b]",
]

#: ``{key}`` is the engine's declaration of an autoincrement key.
SCHEMA = [
    "create table groups_ (a integer not null, b varchar(40) not null, title text, primary key (a, b))",
    """create table people (id {key}, name text not null, note text, size bigint, born text,
       group_a integer, group_b varchar(40), boss integer,
       foreign key (boss) references people (id) on delete set null,
       foreign key (group_a, group_b) references groups_ (a, b) on delete cascade)""",
    """create table tags (person integer not null, tag varchar(40) not null, primary key (person, tag),
       foreign key (person) references people (id) on delete cascade)""",
    "create table empty_ (id {key}, needed text not null, spare text default ('x'))",
]

ROWS: dict[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = {
    "groups_": (["a", "b", "title"], [(1, "x", "first"), (1, "y", "second"), (2, "x", None)]),
    "people": (
        ["id", "name", "note", "size", "born", "group_a", "group_b", "boss"],
        [
            (1, "Ann", None, 10, "2024-01-01T00:00:00.000Z", 1, "x", None),
            (2, "bob", "50% off", 20, "2024-01-01T02:00:00+02:00", 1, "y", 1),
            (3, "BOB", "a_b", 30, "2024-06-01 00:00:00", 2, "x", 1),
            (4, "O'Hara", 'say "axb"!', None, None, None, None, 2),
            (5, "Zoë", "", 20, "2023-01-01T00:00:00Z", 1, "x", 2),
        ],
    ),
    "tags": (["person", "tag"], [(1, "red"), (1, "blue"), (2, "red"), (5, "green")]),
}

#: The classes of all engines inherit each test, and run it with different databases.
INHERITED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


class DatabaseFactory(Protocol):
    """Factory of connections to one database."""

    key: str  #: the declaration of an autoincrement key: ``integer primary key`` on SQLite

    def execute(self, sql: str) -> None: ...
    def writer(self) -> Writable: ...
    def reader(self) -> Readable: ...


def first_values(rows: Sequence[Sequence[object]]) -> list[object]:
    return [row[0] for row in rows]


def read_fingerprint(db: Readable) -> str:
    schema_reader = db.schema_reader
    assert schema_reader is not None
    return schema_reader.fingerprint()


class EngineContract(StreamingContract, FullTextContract, TextScanContract):
    @pytest.fixture
    @abstractmethod
    def fresh(self) -> Iterator[DatabaseFactory]: ...

    @pytest.fixture
    def filled(self, fresh: DatabaseFactory) -> DatabaseFactory:
        for sql in SCHEMA:
            fresh.execute(sql.format(key=fresh.key))
        writer = fresh.writer()
        with writer.transaction():
            for table, (columns, rows) in ROWS.items():
                writer.insert_many(table, columns, rows)
        writer.close()
        return fresh

    @pytest.fixture
    def reader(self, filled: DatabaseFactory) -> Readable:
        return filled.reader()

    @pytest.fixture
    def writer(self, filled: DatabaseFactory) -> Writable:
        return filled.writer()

    # The schema ----------------------------------------------------------------------------------------------

    def test_columns_are_in_declared_order(self, reader):
        assert set(reader.tables()) == {"groups_", "people", "tags", "empty_"}
        columns = reader.tables()["people"].columns
        assert list(columns) == ["id", "name", "note", "size", "born", "group_a", "group_b", "boss"]
        assert [name for name, column in columns.items() if column.is_primary_key] == ["id"]
        assert (columns["id"].required, columns["name"].required, columns["note"].required) == (
            False,
            True,
            False,
        )
        assert (columns["name"].nullable, columns["note"].nullable) == (False, True)
        assert [name for name, column in reader.tables()["empty_"].columns.items() if column.required] == [
            "needed"
        ]

    def test_references_include_composite_keys_and_delete_action(self, reader):
        (reference,) = reader.references("groups_")
        assert (reference.table, list(reference.columns), list(reference.to)) == (
            "people",
            ["group_a", "group_b"],
            ["a", "b"],
        )
        assert reference.on_delete == "CASCADE"
        delete_actions = {(key.table, *key.columns): key.on_delete for key in reader.references("people")}
        assert delete_actions == {("people", "boss"): "SET NULL", ("tags", "person"): "CASCADE"}
        assert reader.references("empty_") == []

    def test_unknown_names_are_refused_before_sql(self, writer):
        with pytest.raises(SchemaMismatchError, match="table nosuch"):
            writer.select("nosuch", ["id"])
        with pytest.raises(SchemaMismatchError, match=r"column people\.nosuch"):
            writer.select("people", ["nosuch"])
        with pytest.raises(SchemaMismatchError):
            writer.select("people", ["id"], [Condition('id" or 1 = 1 --', "=", 1)])
        with pytest.raises(SchemaMismatchError), writer.transaction():
            writer.delete("people", [Condition("nosuch", "=", "nosuch")])
        assert writer.count("people") == 5

    # Conditions ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (Condition("size", "=", 20), [2, 5]),
            (Condition("size", "!=", 20), [1, 3]),
            (Condition("size", "<", 20), [1]),
            (Condition("size", "<=", 20), [1, 2, 5]),
            (Condition("size", ">", 20), [3]),
            (Condition("size", ">=", 20), [2, 3, 5]),
            (Condition("note", "=", None), [1]),
            (Condition("note", "!=", None), [2, 3, 4, 5]),
            (Condition("note", "=", ""), [5]),
            (Condition("note", "identical", ""), [5]),
            (Condition("note", "identical", None), [1]),
            (Condition("size", "identical", 20), [2, 5]),
            (Condition("name", "identical", "bob"), [2]),
            (Condition("name", "identical", "bob "), []),
            (Condition("id", "in", [1, 3, 99]), [1, 3]),
            (Condition("id", "in", [1, 3, 2**15, 2**31, -(2**31) - 1, 2**62]), [1, 3]),
            (Condition("name", "in", ["bob", "O'Hara", 'x"y', "a\0b", "\u2028"]), [2, 4]),
            (Condition("name", "in", ["Ann\0"]), []),
            (Condition("id", "in", []), []),
            (Not(Condition("id", "in", [])), [1, 2, 3, 4, 5]),
            (Condition("id", "in", range(4, 9)), [4, 5]),
            (Condition("name", "same", "BoB"), [2, 3]),
            (Condition("name", "same", "b_b"), []),
            (Condition("name", "same", "bob%"), []),
            (Condition("name", "contains", "O"), [2, 3, 4, 5]),
            (Condition("name", "contains", "'"), [4]),
            (Condition("note", "contains", "%"), [2]),
            (Condition("note", "contains", "_"), [3]),
            (Condition("note", "contains", "A_B"), [3]),
            (Condition("note", "contains", "!"), [4]),
            (Condition("note", "contains", '"axb"'), [4]),
            (Condition("note", "contains", ""), [2, 3, 4, 5]),
            (Condition("name", "starts", "b"), [2, 3]),
            (Condition("name", "starts", "ob"), []),
            (Condition("note", "starts", "50%"), [2]),
            (Condition("note", "starts", "5_"), []),
            (Not(Condition("size", "=", 20)), [1, 3, 4]),
            (Not(Condition("note", "contains", "a")), [1, 2, 5]),
            (Not(Not(Condition("size", "=", 20))), [2, 5]),
            (AnyOf([]), []),
            (AllOf([]), [1, 2, 3, 4, 5]),
            (Not(AnyOf([])), [1, 2, 3, 4, 5]),
            (AnyOf([Condition("id", "=", 1), Condition("size", "=", 30)]), [1, 3]),
            (AllOf([Condition("size", "=", 20), Condition("name", "same", "BOB")]), [2]),
            (
                AnyOf([AllOf([Condition("id", "=", 1), Condition("id", "=", 2)]), Condition("id", "=", 3)]),
                [3],
            ),
            (InSubquery(["id"], "tags", ["person"], [Condition("tag", "=", "red")]), [1, 2]),
            (InSubquery(["id"], "tags", ["person"]), [1, 2, 5]),
            (Not(InSubquery(["id"], "tags", ["person"])), [3, 4]),
            (
                InSubquery(["group_a", "group_b"], "groups_", ["a", "b"], [Condition("title", "=", "first")]),
                [1, 5],
            ),
            (
                InSubquery(
                    ["boss"],
                    "people",
                    ["id"],
                    [InSubquery(["id"], "tags", ["person"], [Condition("tag", "=", "blue")])],
                ),
                [2, 3],
            ),
            (InSubquery(["boss"], "people", ["id"], [Condition("id", "=", 2)]), [4, 5]),
            (ReferenceCount("id", "tags", "person", "=", 0), [3, 4]),
            (ReferenceCount("id", "tags", "person", ">=", 2), [1]),
            (ReferenceCount("id", "tags", "person", "<", 2), [2, 3, 4, 5]),
            (ReferenceCount("id", "people", "boss", "=", 2), [1, 2]),
            (Not(ReferenceCount("id", "tags", "person", "=", 0)), [1, 2, 5]),
        ],
    )
    def test_condition_selects_exactly_its_rows(self, reader, where: Where, expected):
        assert first_values(reader.select("people", ["id"], [where])) == expected
        assert reader.count("people", [where]) == len(expected)

    def test_conditions_are_combined_with_and(self, reader):
        where = [Condition("size", "=", 20), Condition("name", "starts", "z")]
        assert first_values(reader.select("people", ["id"], where)) == [5]

    @pytest.mark.parametrize(
        ("op", "expected"),
        [("=", [1, 2]), ("!=", [3, 5]), ("<", [5]), ("<=", [1, 2, 5]), (">", [3]), (">=", [1, 2, 3])],
    )
    def test_times_in_any_form_compare_chronologically(self, reader, op, expected):
        timestamp = datetime(2024, 1, 1, tzinfo=UTC)
        assert first_values(reader.select("people", ["id"], [Condition("born", op, timestamp)])) == expected

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ([], True),
            ([Condition("name", "=", "Ann")], True),
            ([Condition("name", "=", "ann")], False),
            ([Condition("born", "<", datetime(2023, 1, 1, tzinfo=UTC))], False),
            ([Condition("born", "<=", datetime(2023, 1, 1, tzinfo=UTC))], True),
            ([Condition("born", "<", datetime(2023, 6, 1, tzinfo=UTC)), Condition("size", "=", 10)], False),
        ],
    )
    def test_exists_reports_whether_any_row_matches(self, reader, where, expected):
        assert reader.exists("people", where, timeout=timedelta(minutes=1)) is expected

    def test_exists_returns_none_on_timeout(self, filled):
        writer = filled.writer()
        with writer.transaction():
            writer.insert_many("empty_", ["needed"], ((f"row {n}",) for n in range(50_000)))
        where = [Condition("needed", "=", "nothing")]
        assert writer.exists("empty_", where, timeout=timedelta(0)) is None
        assert writer.exists("empty_", where, timeout=timedelta(minutes=1)) is False
        assert writer.count("empty_", where) == 0, "the timeout applies to one query only"

    @given(
        st.lists(TEXTS, max_size=6), st.one_of(st.sampled_from(["%", "_", "!", "a_b", "'", '"', "\\"]), TEXTS)
    )
    @settings(suppress_health_check=INHERITED)
    def test_text_conditions_ignore_ascii_case_like_python(self, writer, texts, word):
        def lower_ascii(text: str) -> str:
            return "".join(letter.lower() if letter.isascii() else letter for letter in text)

        rows = [*texts, word, f"x{word.upper() if word.isascii() else word}y"]
        with writer.transaction():
            writer.delete("empty_", [])
            writer.insert_many("empty_", ["id", "needed"], list(enumerate(rows)))
        for op, matches in (
            ("contains", lambda text: lower_ascii(word) in lower_ascii(text)),
            ("starts", lambda text: lower_ascii(text).startswith(lower_ascii(word))),
            ("same", lambda text: lower_ascii(text) == lower_ascii(word)),
            ("in", lambda text: text == word),
        ):
            condition = Condition("needed", op, [word] if op == "in" else word)
            keys = first_values(writer.select("empty_", ["id"], [condition]))
            assert keys == [number for number, text in enumerate(rows) if matches(text)], op

    @pytest.mark.parametrize("value", ["a\ud800", 1 << 63, float("nan")])
    @pytest.mark.parametrize("op", ["=", "in"])
    def test_condition_with_unstorable_value_is_refused(self, reader, value, op):
        with pytest.raises(ValueInvalidError):
            reader.select("people", ["id"], [Condition("name", op, [value] if op == "in" else value)])

    # Orders and limits --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ([], [1, 2, 3, 4, 5]),
            ([Order(["size"])], [1, 2, 5, 3, 4]),
            ([Order(["size"], descending=True)], [3, 2, 5, 1, 4]),
            ([Order(["name"], nocase=True)], [1, 2, 3, 4, 5]),
            ([Order(["name"], nocase=True, descending=True)], [5, 4, 2, 3, 1]),
            ([Order(["born"], time=True)], [5, 1, 2, 3, 4]),
            ([Order(["born"], time=True, descending=True)], [3, 1, 2, 5, 4]),
            ([Order(["note", "name"])], [2, 1, 5, 3, 4]),
            ([Order(["size"]), Order(["id"], descending=True)], [1, 5, 2, 3, 4]),
            ([Order(["tag"], through=InSubquery(["id"], "tags", ["person"]))], [1, 5, 2, 3, 4]),
            (
                [Order(["tag"], through=InSubquery(["id"], "tags", ["person"]), descending=True)],
                [2, 5, 1, 3, 4],
            ),
            (
                [
                    Order(
                        ["tag"],
                        through=InSubquery(["id"], "tags", ["person"], [Condition("tag", "=", "red")]),
                    )
                ],
                [1, 2, 3, 4, 5],
            ),
        ],
    )
    def test_order_puts_null_last_and_sorts_ties_by_key(self, reader, order, expected):
        assert first_values(reader.select("people", ["id"], order_by=order)) == expected

    def test_order_uses_next_column_if_first_is_empty(self, writer):
        with writer.transaction():
            writer.insert_many(
                "empty_", ["id", "needed", "spare"], [(1, "", None), (2, "b", "z"), (3, "", "a")]
            )
        for descending, expected in ((False, [3, 2, 1]), (True, [2, 3, 1])):
            order = [Order(["needed", "spare"], descending=descending)]
            assert first_values(writer.select("empty_", ["id"], order_by=order)) == expected

    def test_random_order_contains_every_row_once(self, reader):
        orders = [
            tuple(first_values(reader.select("people", ["id"], order_by=[Order([], random=True)])))
            for _ in range(30)
        ]
        assert {tuple(sorted(order)) for order in orders} == {(1, 2, 3, 4, 5)}
        assert len(set(orders)) > 1

    @pytest.mark.parametrize(
        ("limit", "offset", "expected"),
        [
            (2, 0, [1, 2]),
            (2, 2, [3, 4]),
            (2, 4, [5]),
            (2, 9, []),
            (None, 3, [4, 5]),
            (0, 0, []),
            (99, 0, [1, 2, 3, 4, 5]),
        ],
    )
    def test_limit_and_offset_select_page(self, reader, limit, offset, expected):
        assert first_values(reader.select("people", ["id"], limit=limit, offset=offset)) == expected

    def test_count_by_counts_each_value_and_null(self, reader):
        assert reader.count_by("people", "size") == {10: 1, 20: 2, 30: 1, None: 1}
        assert reader.count_by("people", "size", [Condition("name", "starts", "b")]) == {20: 1, 30: 1}

    def test_query_accepts_named_parameters(self, reader):
        assert reader.query('select "name" from people where "id" = :id', {"id": 4}) == [("O'Hara",)]

    def test_query_accepts_list_as_set_parameter(self, reader):
        sql = 'select "id" from people where "id" in :ids order by "id"'
        assert reader.query(sql, {"ids": [4, 1, 99, None]}) == [(1,), (4,)]
        assert reader.query(sql, {"ids": []}) == []

    @pytest.mark.parametrize("sql", ["delete from people", "update people set size = 1", "drop table tags"])
    def test_query_cannot_write(self, filled, sql):
        for opened in (filled.reader(), filled.writer()):
            with pytest.raises(DbctlError):
                opened.query(sql)
            assert opened.count("people", [Condition("size", "=", 20)]) == 2
            assert opened.count("tags") == 4

    def test_parts_match_protocols(self, reader):
        assert find_mismatches(reader) == []

    def test_explain_names_fully_scanned_tables(self, reader):
        explainer = reader.explainer
        if explainer is None:
            return
        explanation = explainer.explain(
            Query(
                "people",
                ["id"],
                [Condition("note", "contains", "x"), ReferenceCount("id", "tags", "person", ">", 0)],
            )
        )
        assert explanation.full_scans == ["people"]
        assert "%x%" in explanation.parameters
        assert explanation.plan
        assert explainer.explain(Query("people", ["id"], [Condition("id", "=", 1)])).full_scans == []

    # Writing -----------------------------------------------------------------------------------------------------

    def test_reader_has_no_write_methods(self, reader):
        write_methods = {
            "transaction",
            "insert",
            "insert_many",
            "update",
            "delete",
            "lock",
            "execute",
            "run_statement",
            "schema_transaction",
            "step_by_step",
        }
        assert not [name for name in write_methods if hasattr(reader, name)]
        assert reader.scripts is None

    def test_insert_returns_generated_value(self, writer):
        with writer.transaction():
            key = writer.insert("empty_", {"needed": "a"}, returning="id")
            assert writer.insert("empty_", {"needed": "b"}) is None
            assert writer.insert("empty_", {"needed": "c", "id": 77}, returning="spare") == "x"
        assert writer.select("empty_", ["needed"], [Condition("id", "=", key)]) == [("a",)]

    def test_insert_with_returning_checks_foreign_keys(self, writer):
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert("tags", {"person": 999, "tag": "t"}, returning="tag")
        assert writer.count("tags") == 4

    def test_insert_many_accepts_iterator(self, filled):
        writer = filled.writer()
        with writer.transaction():
            count = writer.insert_many(
                "empty_", ["id", "needed"], ((number, f"n{number}") for number in range(5000))
            )
        assert count == 5000
        assert filled.reader().count("empty_") == 5000

    def test_failing_iterator_raises_its_error_and_rolls_back(self, writer):
        def rows() -> Iterator[tuple[int, str]]:
            yield 1, "a"
            raise LookupError("from the iterator")

        with pytest.raises(LookupError, match="from the iterator"), writer.transaction():
            writer.insert_many("empty_", ["id", "needed"], rows())
        assert writer.count("empty_") == 0

    def test_update_counts_matched_rows(self, writer):
        with writer.transaction():
            assert writer.update("people", {"size": 20}, [Condition("size", ">=", 20)]) == 3
            assert writer.update("people", {"size": None}, [Condition("id", "=", 99)]) == 0
            link = InSubquery(["id"], "tags", ["person"], [Condition("tag", "=", "red")])
            assert writer.update("people", {"note": None, "size": 1}, [link]) == 2
        assert writer.count("people", [Condition("note", "=", None), Condition("size", "=", 1)]) == 2

    def test_delete_excludes_cascaded_rows_from_count(self, writer):
        with writer.transaction():
            assert writer.delete("people", [Condition("id", "=", 1)]) == 1
        assert writer.count("tags") == 2
        assert writer.select("people", ["id"], [Condition("boss", "=", None)]) == [(2,), (3,)]

    def test_rejected_row_rolls_back(self, writer):
        for values in (
            {"id": 1, "name": "twice"},
            {"id": 9, "name": None},
            {"id": 9, "name": "x", "boss": 99},
        ):
            with pytest.raises(ConstraintError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                writer.insert("people", values)
            assert writer.count("people", [Condition("size", "=", 0)]) == 0

    @pytest.mark.parametrize("failure", [RuntimeError("failed"), Interrupted(15), KeyboardInterrupt()])
    def test_exception_in_transaction_rolls_back(self, filled, failure):
        writer = filled.writer()
        with pytest.raises(type(failure)), writer.transaction():
            writer.delete("people", [])
            with writer.transaction():
                writer.delete("tags", [])
                raise failure
        assert (writer.count("people"), writer.count("tags")) == (5, 4)
        with writer.transaction():
            writer.delete("tags", [])
        assert filled.reader().count("tags") == 0

    def test_nested_transaction_rolls_back_alone(self, writer):
        with writer.transaction():
            writer.delete("tags", [Condition("tag", "=", "red")])
            for _ in range(2):
                with pytest.raises(LookupError), writer.transaction():
                    writer.delete("tags", [])
                    raise LookupError
            assert writer.count("tags") == 2
            with writer.transaction():
                writer.delete("tags", [Condition("tag", "=", "blue")])
        assert writer.select("tags", ["tag"]) == [("green",)]

    def test_changes_are_visible_inside_and_after_transaction(self, filled):
        writer, reader = filled.writer(), filled.reader()
        with writer.transaction():
            writer.update("people", {"name": "new"}, [Condition("id", "=", 1)])
            assert writer.select("people", ["name"], [Condition("id", "=", 1)]) == [("new",)]
        assert reader.select("people", ["name"], [Condition("id", "=", 1)]) == [("new",)]

    def test_write_outside_transaction_is_refused(self, writer):
        for write in (
            lambda: writer.insert("empty_", {"needed": "x"}),
            lambda: writer.insert_many("empty_", ["needed"], [("x",)]),
            lambda: writer.update("people", {"size": 1}, []),
            lambda: writer.delete("people", []),
        ):
            with pytest.raises(RuntimeError, match="outside a transaction"):
                write()
        assert writer.count("empty_") == 0

    def test_closed_database_refuses_queries(self, writer):
        writer.close()
        writer.close()
        with pytest.raises(RuntimeError, match="closed"):
            writer.count("people")

    def test_select_for_update_blocks_other_writers(self, filled):
        first, second = filled.writer(), filled.writer()
        red = InSubquery(["id"], "tags", ["person"], [Condition("tag", "=", "red")])
        change = {"size": 0}, [Condition("id", "=", 1)]
        assert first_values(filled.reader().select("people", ["id"], [red], for_update=True)) == [1, 2]
        with first.transaction():
            assert first_values(
                first.select("people", ["id"], [red], order_by=[Order(["name"])], for_update=True)
            ) == [1, 2]
            with pytest.raises(BusyError), second.transaction():
                second.update("people", *change)
        with second.transaction():
            assert second.update("people", *change) == 1

    # Hostile names and values ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_hostile_name_works_as_table_and_column(self, fresh, name):
        fresh.execute(f"create table {ident(name)} (id {fresh.key}, {ident(name)} text)")
        fresh.execute(
            f"create table {ident(name + '2')} ({ident(name)} integer,"
            f" foreign key ({ident(name)}) references {ident(name)} (id) on delete cascade)"
        )
        writer = fresh.writer()
        with writer.transaction():
            assert writer.insert(name, {name: "v"}, returning=name) == "v"
            writer.insert_many(name, ["id", name], [(5, "w")])
            writer.insert(name + "2", {name: 5})
            assert writer.update(name, {name: "u"}, [Condition(name, "=", "v")]) == 1
        assert writer.select(name, [name], order_by=[Order([name], nocase=True, descending=True)]) == [
            ("w",),
            ("u",),
        ]
        assert writer.count_by(name, name) == {"u": 1, "w": 1}
        assert (
            writer.count(
                name, [InSubquery(["id"], name + "2", [name]), ReferenceCount("id", name + "2", name, "=", 1)]
            )
            == 1
        )
        assert [(key.table, *key.columns, *key.to) for key in writer.references(name)] == [
            (name + "2", name, "id")
        ]
        with writer.transaction():
            assert writer.delete(name, [Condition(name, "contains", "W")]) == 1
        assert writer.count(name + "2") == 0

    @given(st.text(max_size=20))
    @settings(suppress_health_check=INHERITED)
    def test_text_is_stored_unchanged_or_refused(self, writer, text):
        try:
            with writer.transaction():
                writer.delete("empty_", [])
                writer.insert("empty_", {"id": 1, "needed": text})
        except ValueInvalidError:
            assert any("\ud800" <= letter <= "\udfff" for letter in text) or "\0" in text
            return
        assert writer.select("empty_", ["needed"]) == [(text,)]
        assert writer.select("empty_", ["id"], [Condition("needed", "=", text)]) == [(1,)]
        assert writer.select("empty_", ["id"], [Condition("needed", "in", [text])]) == [(1,)]

    @pytest.mark.parametrize("value", ["a\ud800b", 1 << 63, -(1 << 63) - 1, float("nan"), object(), {"a": 1}])
    def test_unstorable_value_is_refused_without_changes(self, writer, value):
        for write in (
            lambda: writer.insert("empty_", {"id": 1, "needed": value}),
            lambda: writer.update("people", {"note": value}, []),
        ):
            with pytest.raises(DbctlError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                write()
        assert writer.count("empty_") == 0
        assert writer.count("people", [Condition("size", "=", 0)]) == 0

    def test_64_bit_limits_are_stored(self, writer):
        for number in (2**63 - 1, -(2**63)):
            with writer.transaction():
                writer.update("people", {"size": number}, [])
            assert writer.count("people", [Condition("size", "in", [number])]) == 5

    # Checks, sizes, schema and explanations ------------------------------------------------------------------------------------------------------

    def test_checks_of_valid_database_report_nothing(self, filled):
        for opened in (filled.reader(), filled.writer()):
            checks = opened.checks
            if checks is None:
                continue
            for quick in (False, True):
                assert list(checks.find_damage(quick=quick)) == []
                assert list(checks.find_damage(quick=quick, table="people")) == []
            assert list(checks.find_orphaned_rows()) == list(checks.find_orphaned_rows("tags")) == []

    def test_check_of_unknown_table_is_refused(self, reader):
        checks = reader.checks
        if checks is None:
            return
        for check in (checks.find_damage, checks.find_orphaned_rows):
            with pytest.raises(SchemaMismatchError):
                check(table='people") ; drop table people --')
        assert reader.count("people") == 5

    def test_database_and_table_sizes_are_reported(self, filled):
        for opened in (filled.reader(), filled.writer()):
            monitor = opened.storage
            if monitor is None:
                continue
            storage = monitor.measure_storage()
            assert storage.tables == len(SCHEMA)
            assert storage.page_count is None or storage.bytes == storage.page_count * storage.page_size
            sizes = {size.table: size for size in monitor.measure_tables()}
            assert {name: size.rows for name, size in sizes.items()} == {
                **{name: len(rows) for name, (_, rows) in ROWS.items()},
                "empty_": 0,
            }
            byte_counts = [size.bytes for size in sizes.values()]
            assert None in byte_counts or 0 < sum(byte_counts) <= storage.bytes

    def test_schema_is_complete_and_fingerprint_ignores_rows(self, filled):
        opened = filled.reader()
        schema_reader = opened.schema_reader
        if schema_reader is None:
            return
        tables = {item.name: item for item in schema_reader.schema().tables}
        assert set(tables) == set(opened.tables())
        assert [item.name for item in tables["people"].columns] == list(opened.tables()["people"].columns)
        assert list(tables["groups_"].key) == ["a", "b"]
        keys = {(*key.columns, key.table, key.on_delete) for key in tables["people"].references}
        assert keys == {("group_a", "group_b", "groups_", "CASCADE"), ("boss", "people", "SET NULL")}
        before = schema_reader.fingerprint()
        writer = filled.writer()
        with writer.transaction():
            writer.delete("tags", [])
        assert read_fingerprint(writer) == read_fingerprint(filled.reader()) == before
        filled.execute("alter table tags add column spare text")
        assert read_fingerprint(filled.reader()) != before

    def test_explain_query_reports_full_scans(self, reader):
        explainer = reader.explainer
        if explainer is None:
            return
        explanation = explainer.explain_query("select count(*) from people where note > :text", {"text": "a"})
        assert (explanation.full_scans, list(explanation.parameters)) == (["people"], ["a"])
        assert explainer.explain_query("select * from people where id = :id", {"id": 1}).full_scans == []
        assert not explainer.explain_query(
            "select name from people where id in :some", {"some": [1, 2]}
        ).full_scans

    @pytest.mark.parametrize(
        "sql",
        [
            'select "nosuch" from people',
            "select nosuch from people",
            'select name from people order by "nosuch"',
            "select name from people where id = :nosuch",
            "select name from",
        ],
    )
    def test_invalid_query_is_not_explained(self, reader, sql):
        if explainer := reader.explainer:
            with pytest.raises(QueryFailedError):
                explainer.explain_query(sql)

    @pytest.mark.parametrize(
        "sql",
        [
            'select "name" from "people" where "note" > \'x\' order by "name"',
            'select p."name" as "one", count(*) "two" from people "p" group by p."name" order by "one", "two"',
            'with "some" as (select id from people) select "some".id from "some"',
        ],
    )
    def test_quoted_alias_is_resolved_as_name(self, reader, sql):
        if explainer := reader.explainer:
            explainer.explain_query(sql)

    # Shifted times and merged rows ------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("iso-ms", ["2024-01-01T04:00:00.001Z", "2024-01-01T04:00:00.001Z", "2024-06-01T04:00:00.001Z", None, "2023-01-01T04:00:00.001Z"]),
            ("sqlite-time", ["2024-01-01 04:00:00", "2024-01-01 04:00:00", "2024-06-01 04:00:00", None, "2023-01-01 04:00:00"]),
        ],
    )  # fmt: skip
    def test_time_of_any_form_is_shifted(self, writer, form, expected):
        offset = timedelta(hours=4, milliseconds=1)
        with writer.transaction():
            assert writer.update("people", {"born": ShiftedTime("born", offset, form)}, []) == 5
        assert first_values(writer.select("people", ["born"])) == expected

    @given(st.integers(10**11, 7 * 10**12), st.integers(0, 10**9))
    @settings(suppress_health_check=INHERITED)
    def test_shifted_time_retains_milliseconds(self, writer, start, offset):
        def format_time(milliseconds: int) -> str:
            timestamp = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
            return timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")

        with writer.transaction():
            writer.update("people", {"born": format_time(start)}, [])
            writer.update(
                "people", {"born": ShiftedTime("born", timedelta(milliseconds=offset), "iso-ms")}, []
            )
        assert first_values(writer.select("people", ["born"], limit=1)) == [format_time(start + offset)]

    def test_merge_applies_rules_and_inserts(self, writer):
        columns = {"needed": "keep", "spare": "replace"}
        with writer.transaction():
            writer.insert("empty_", {"id": 1, "needed": "old", "spare": "old"})
            parameters = {"some": [1, 3, 99], "word": "new"}
            sql = "select id, name, :word from people where id in :some"
            assert (
                writer.merge(
                    Merge(table="empty_", select=sql, parameters=parameters, key=["id"], columns=columns)
                )
                == 2
            )
        assert writer.select("empty_", ["id", "needed", "spare"]) == [(1, "old", "new"), (3, "BOB", "new")]
        with writer.transaction():
            writer.update("people", {"size": None}, [Condition("id", "=", 2)])
            sql = "select id, name, 5 from people where id in :some group by id, name"
            writer.merge(
                Merge(
                    table="people",
                    select=sql,
                    parameters={"some": [1, 2]},
                    key=["id"],
                    columns={"name": "keep", "size": "add"},
                )
            )
        assert first_values(writer.select("people", ["size"])) == [15, 5, 30, None, 20]

    def test_merge_refuses_unknown_columns_and_requires_transaction(self, writer):
        with pytest.raises(SchemaMismatchError), writer.transaction():
            writer.merge(
                Merge(
                    table="empty_", select="select 1, 2", parameters={}, key=["id"], columns={"nosuch": "add"}
                )
            )
        with pytest.raises(RuntimeError):
            writer.merge(
                Merge(
                    table="empty_", select="select 1, 2", parameters={}, key=["id"], columns={"needed": "add"}
                )
            )

    def test_keyset_cursor_selects_rows_after_key(self, filled):
        writer = filled.writer()
        with writer.transaction():  # in byte order, which differs from alphabetical order
            tags = [(3, tag) for tag in ("", "B", "a", "b c", "Ü", "é", "🙂")]
            writer.insert_many("tags", ["person", "tag"], tags)
        reader = filled.reader()
        for table, key in {"people": ["id"], "groups_": ["a", "b"], "tags": ["person", "tag"]}.items():
            rows = reader.select(table, key)
            for position, row in enumerate(rows, 1):
                assert reader.select(table, key, [after_key(key, row)]) == rows[position:], row
                assert reader.count(table, [after_key(key, row)]) == len(rows) - position
        assert [
            tag
            for _, tag in reader.select("tags", ["person", "tag"], [after_key(["person", "tag"], [3, "aa"])])
        ] == ["b c", "Ü", "é", "🙂", "green"]
        assert first_values(reader.select("groups_", ["b"], [after_key(["a", "b"], [0, "z"])])) == [
            "x",
            "y",
            "x",
        ]
        page = reader.select("tags", ["tag"], [after_key(["person", "tag"], [3, "B"])], limit=2)
        assert first_values(page) == ["a", "b c"]

    # Scripts that change the schema -------------------------------------------------------------------------------

    def test_failed_schema_transaction_matches_transactional_ddl(self, filled):
        writer = filled.writer()
        scripts = writer.scripts
        if scripts is None:
            return
        script = "create table made (id integer primary key); insert into made values (1);"
        with pytest.raises(LookupError), scripts.schema_transaction():
            for _, sql in scripts.script_dialect.split(script):
                scripts.run_statement(sql)
            writer.insert("made", {"id": 2})
            writer.delete("tags", [])
            raise LookupError
        assert ("made" not in writer.tables()) == scripts.transactional_ddl
        assert scripts.transactional_ddl or first_values(writer.select("made", ["id"])) == [1]
        assert writer.count("tags") == 4

    def test_schema_transaction_commits_schema_and_rows(self, filled):
        writer = filled.writer()
        scripts = writer.scripts
        if scripts is None:
            return
        with scripts.schema_transaction():
            scripts.run_statement("create table made (id integer primary key)")
            writer.insert("made", {"id": 2})
        assert first_values(filled.reader().select("made", ["id"])) == [2]

    def test_statements_outside_transaction_are_committed_separately(self, filled):
        writer = filled.writer()
        scripts = writer.scripts
        if scripts is None:
            return
        with pytest.raises(LookupError), scripts.outside_transaction():
            scripts.run_statement("create table made (id integer primary key)")
            with writer.transaction():
                writer.insert("made", {"id": 2})
            scripts.run_statement("insert into made values (3)")
            assert scripts.cleanup_statements("insert into made values (4)") == ()
            raise LookupError
        assert first_values(filled.reader().select("made", ["id"])) == [2, 3]
        with pytest.raises(RuntimeError):
            writer.insert("made", {"id": 4})
        with writer.transaction(), pytest.raises(RuntimeError), scripts.outside_transaction():
            pass

    @pytest.mark.parametrize("sql", ["begin", "commit", "rollback"])
    def test_transaction_control_is_refused_outside_transaction(self, writer, sql):
        if scripts := writer.scripts:
            with pytest.raises(QueryFailedError), scripts.outside_transaction():
                scripts.run_statement(sql)
            with pytest.raises(ValueError, match="line 1"):
                scripts.script_dialect.split(sql, outside_transaction=True)

    def test_statement_effect_is_detected_from_text(self, writer):
        if scripts := writer.scripts:
            effect = scripts.script_dialect.effect
            assert not effect("create table made (id integer)").may_delete_rows
            assert effect("drop table people, tags").dropped_tables == ["people", "tags"]
            assert effect("delete from people where name = 'drop table tags'").emptied_tables == ["people"]

    @pytest.mark.parametrize(
        "text", ["select 'a", "select 1; /* ", 'create table "a', "commit;", "select 1; rollback;"]
    )
    def test_truncated_script_or_transaction_end_is_refused(self, writer, text):
        if scripts := writer.scripts:
            with pytest.raises(ValueError, match=r"ends inside|line 1"):
                scripts.script_dialect.split(text)

    # Locks between writers ------------------------------------------------------------------------------------------

    def test_blocked_writer_reports_lock_holder(self, filled):
        first, second = filled.writer(), filled.writer()
        with first.lock("users delete"), pytest.raises(DbctlError) as caught, second.lock("roles create"):
            pass
        assert caught.value.code == "busy"
        assert "users delete" in str(caught.value)
        with second.lock("roles create"):
            pass

    def test_lock_does_not_block_readers(self, filled):
        with filled.writer().lock("users delete"):
            assert filled.reader().count("people") == 5
