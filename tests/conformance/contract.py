"""Facts that hold for every engine. A new engine is one module and one test class that inherits these.

```python
class TestMine(EngineContract):
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

from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Behind,
    Capability,
    Checks,
    Condition,
    Describes,
    Explains,
    Later,
    Linked,
    Measures,
    Migrates,
    Not,
    Order,
    Readable,
    Where,
    Within,
    Writable,
)
from dbctl.engines.sql.query_builder import ident
from dbctl.errors import (
    BusyError,
    ConstraintError,
    DbctlError,
    QueryFailedError,
    SchemaLacksError,
    ValueInvalidError,
)
from dbctl.signals import Interrupted
from tests.conformance.abilities import broken_promises
from tests.conformance.fulltext import FullTextContract
from tests.conformance.streaming import TransferContract
from tests.conformance.text_scan import LookingContract

#: Names that quoting in any other way than doubling ``"`` breaks, or that end up raw on a terminal.
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

#: ``{key}`` is how an engine declares a key column that numbers itself.
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

#: A fact is run by the class of every engine, each with its own database.
INHERITED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


class Fresh(Protocol):
    """How a test class makes databases: there is one, and any number of connections to it."""

    key: str  #: what declares a key column of numbers that the database makes: ``integer primary key`` on SQLite

    def execute(self, sql: str) -> None: ...
    def writer(self) -> Writable: ...
    def reader(self) -> Readable: ...


def ids(rows: Sequence[Sequence[object]]) -> list[object]:
    return [row[0] for row in rows]


def offers(opened: Readable, capability: Capability, protocol: type) -> bool:
    """Whether an engine has a capability; what it says it can, and only that, it is."""
    told = capability in opened.capabilities
    assert told == isinstance(opened, protocol)
    return told


class EngineContract(TransferContract, FullTextContract, LookingContract):
    @pytest.fixture
    @abstractmethod
    def fresh(self) -> Iterator[Fresh]: ...

    @pytest.fixture
    def filled(self, fresh: Fresh) -> Fresh:
        for sql in SCHEMA:
            fresh.execute(sql.format(key=fresh.key))
        writer = fresh.writer()
        with writer.transaction():
            for table, (columns, rows) in ROWS.items():
                writer.insert_many(table, columns, rows)
        writer.close()
        return fresh

    @pytest.fixture
    def reader(self, filled: Fresh) -> Readable:
        return filled.reader()

    @pytest.fixture
    def writer(self, filled: Fresh) -> Writable:
        return filled.writer()

    # The schema ----------------------------------------------------------------------------------------------

    def test_tables_tell_columns_in_their_order(self, reader):
        assert set(reader.tables()) == {"groups_", "people", "tags", "empty_"}
        told = reader.tables()["people"].columns
        assert list(told) == ["id", "name", "note", "size", "born", "group_a", "group_b", "boss"]
        assert [name for name, column in told.items() if column.key] == ["id"]
        assert (told["id"].required, told["name"].required, told["note"].required) == (False, True, False)
        assert (told["name"].nullable, told["note"].nullable) == (False, True)
        assert [name for name, column in reader.tables()["empty_"].columns.items() if column.required] == [
            "needed"
        ]

    def test_references_tell_composite_keys_and_what_a_deletion_takes_along(self, reader):
        (one,) = reader.references("groups_")
        assert (one.table, list(one.columns), list(one.to)) == ("people", ["group_a", "group_b"], ["a", "b"])
        assert one.on_delete == "CASCADE"
        told = {(key.table, *key.columns): key.on_delete for key in reader.references("people")}
        assert told == {("people", "boss"): "SET NULL", ("tags", "person"): "CASCADE"}
        assert reader.references("empty_") == []

    def test_what_is_not_there_is_refused_before_it_gets_near_sql(self, writer):
        with pytest.raises(SchemaLacksError, match="table nosuch"):
            writer.select("nosuch", ["id"])
        with pytest.raises(SchemaLacksError, match=r"column people\.nosuch"):
            writer.select("people", ["nosuch"])
        with pytest.raises(SchemaLacksError):
            writer.select("people", ["id"], [Condition('id" or 1 = 1 --', "=", 1)])
        with pytest.raises(SchemaLacksError), writer.transaction():
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
            (Condition("id", "in", [1, 3, 99]), [1, 3]),
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
            (Within(["id"], "tags", ["person"], [Condition("tag", "=", "red")]), [1, 2]),
            (Within(["id"], "tags", ["person"]), [1, 2, 5]),
            (Not(Within(["id"], "tags", ["person"])), [3, 4]),
            (
                Within(["group_a", "group_b"], "groups_", ["a", "b"], [Condition("title", "=", "first")]),
                [1, 5],
            ),
            (
                Within(
                    ["boss"],
                    "people",
                    ["id"],
                    [Within(["id"], "tags", ["person"], [Condition("tag", "=", "blue")])],
                ),
                [2, 3],
            ),
            (Within(["boss"], "people", ["id"], [Condition("id", "=", 2)]), [4, 5]),
            (Linked("id", "tags", "person", "=", 0), [3, 4]),
            (Linked("id", "tags", "person", ">=", 2), [1]),
            (Linked("id", "tags", "person", "<", 2), [2, 3, 4, 5]),
            (Linked("id", "people", "boss", "=", 2), [1, 2]),
            (Not(Linked("id", "tags", "person", "=", 0)), [1, 2, 5]),
        ],
    )
    def test_a_condition_finds_exactly_its_rows(self, reader, where: Where, expected):
        assert ids(reader.select("people", ["id"], [where])) == expected
        assert reader.count("people", [where]) == len(expected)

    def test_several_conditions_must_all_hold(self, reader):
        where = [Condition("size", "=", 20), Condition("name", "starts", "z")]
        assert ids(reader.select("people", ["id"], where)) == [5]

    @pytest.mark.parametrize(
        ("op", "expected"),
        [("=", [1, 2]), ("!=", [3, 5]), ("<", [5]), ("<=", [1, 2, 5]), (">", [3]), (">=", [1, 2, 3])],
    )
    def test_times_compare_as_moments_whatever_form_a_row_stores(self, reader, op, expected):
        moment = datetime(2024, 1, 1, tzinfo=UTC)
        assert ids(reader.select("people", ["id"], [Condition("born", op, moment)])) == expected

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
    def test_whether_any_row_meets_the_conditions_is_told(self, reader, where, expected):
        assert reader.has("people", where, within=timedelta(minutes=1)) is expected

    def test_what_is_not_clear_in_time_is_not_told(self, filled):
        writer = filled.writer()
        with writer.transaction():
            writer.insert_many("empty_", ["needed"], ((f"row {n}",) for n in range(50_000)))
        nothing = [Condition("needed", "=", "nothing")]
        assert writer.has("empty_", nothing, within=timedelta(0)) is None
        assert writer.has("empty_", nothing, within=timedelta(minutes=1)) is False
        assert writer.count("empty_", nothing) == 0, "and what comes after it has all the time again"

    @given(
        st.lists(TEXTS, max_size=6), st.one_of(st.sampled_from(["%", "_", "!", "a_b", "'", '"', "\\"]), TEXTS)
    )
    @settings(max_examples=60, suppress_health_check=INHERITED)
    def test_text_tests_find_what_python_finds_without_regard_to_ascii_case(self, writer, texts, sought):
        def low(text: str) -> str:
            return "".join(letter.lower() if letter.isascii() else letter for letter in text)

        rows = [*texts, sought, f"x{sought.upper() if sought.isascii() else sought}y"]
        with writer.transaction():
            writer.delete("empty_", [])
            writer.insert_many("empty_", ["id", "needed"], list(enumerate(rows)))
        for op, holds in (
            ("contains", lambda text: low(sought) in low(text)),
            ("starts", lambda text: low(text).startswith(low(sought))),
            ("same", lambda text: low(text) == low(sought)),
            ("in", lambda text: text == sought),
        ):
            condition = Condition("needed", op, [sought] if op == "in" else sought)
            found = ids(writer.select("empty_", ["id"], [condition]))
            assert found == [number for number, text in enumerate(rows) if holds(text)], op

    @pytest.mark.parametrize("value", ["a\ud800", 1 << 63, float("nan")])
    @pytest.mark.parametrize("op", ["=", "in"])
    def test_a_value_that_no_database_keeps_is_refused_and_never_a_fault(self, reader, value, op):
        with pytest.raises(ValueInvalidError):
            reader.select("people", ["id"], [Condition("name", op, [value] if op == "in" else value)])

    # Orders and pages --------------------------------------------------------------------------------------------

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
            ([Order(["tag"], through=Within(["id"], "tags", ["person"]))], [1, 5, 2, 3, 4]),
            ([Order(["tag"], through=Within(["id"], "tags", ["person"]), descending=True)], [2, 5, 1, 3, 4]),
            (
                [Order(["tag"], through=Within(["id"], "tags", ["person"], [Condition("tag", "=", "red")]))],
                [1, 2, 3, 4, 5],
            ),
        ],
    )
    def test_an_order_puts_null_last_in_both_directions_and_equal_rows_by_key(self, reader, order, expected):
        assert ids(reader.select("people", ["id"], order_by=order)) == expected

    def test_where_the_first_of_several_columns_is_empty_the_next_counts(self, writer):
        with writer.transaction():
            writer.insert_many(
                "empty_", ["id", "needed", "spare"], [(1, "", None), (2, "b", "z"), (3, "", "a")]
            )
        for descending, expected in ((False, [3, 2, 1]), (True, [2, 3, 1])):
            order = [Order(["needed", "spare"], descending=descending)]
            assert ids(writer.select("empty_", ["id"], order_by=order)) == expected

    def test_a_random_order_has_every_row_once_and_differs(self, reader):
        drawn = [
            tuple(ids(reader.select("people", ["id"], order_by=[Order([], random=True)]))) for _ in range(30)
        ]
        assert {tuple(sorted(one)) for one in drawn} == {(1, 2, 3, 4, 5)}
        assert len(set(drawn)) > 1

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
    def test_limit_and_offset_cut_a_page(self, reader, limit, offset, expected):
        assert ids(reader.select("people", ["id"], limit=limit, offset=offset)) == expected

    def test_tally_counts_each_value_and_null(self, reader):
        assert reader.tally("people", "size") == {10: 1, 20: 2, 30: 1, None: 1}
        assert reader.tally("people", "size", [Condition("name", "starts", "b")]) == {20: 1, 30: 1}

    def test_query_gives_rows_of_portable_sql_with_named_parameters(self, reader):
        assert reader.query('select "name" from people where "id" = :id', {"id": 4}) == [("O'Hara",)]

    def test_a_list_is_one_parameter_of_a_query_that_holds_a_set(self, reader):
        sql = 'select "id" from people where "id" in :wanted order by "id"'
        assert reader.query(sql, {"wanted": [4, 1, 99, None]}) == [(1,), (4,)]
        assert reader.query(sql, {"wanted": []}) == []

    @pytest.mark.parametrize("sql", ["delete from people", "update people set size = 1", "drop table tags"])
    def test_nothing_is_written_by_query(self, filled, sql):
        for opened in (filled.reader(), filled.writer()):
            with pytest.raises(DbctlError):
                opened.query(sql)
            assert opened.count("people", [Condition("size", "=", 20)]) == 2
            assert opened.count("tags") == 4

    def test_what_it_says_it_can_it_is(self, reader):
        assert broken_promises(reader) == []

    def test_explain_names_the_tables_that_are_read_whole(self, reader):
        if Capability.EXPLAIN not in reader.capabilities:
            assert not isinstance(reader, Explains)
            return
        told = reader.explain(
            "people", ["id"], [Condition("note", "contains", "x"), Linked("id", "tags", "person", ">", 0)]
        )
        assert told.full_scans == ["people"]
        assert "%x%" in told.parameters
        assert told.plan
        assert reader.explain("people", ["id"], [Condition("id", "=", 1)]).full_scans == []

    # Writing -----------------------------------------------------------------------------------------------------

    def test_a_reader_has_nothing_that_writes(self, reader):
        writing = {
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
        assert not [name for name in writing if hasattr(reader, name)]
        assert not isinstance(reader, Migrates)

    def test_insert_returns_what_the_database_made(self, writer):
        with writer.transaction():
            made = writer.insert("empty_", {"needed": "a"}, returning="id")
            assert writer.insert("empty_", {"needed": "b"}) is None
            assert writer.insert("empty_", {"needed": "c", "id": 77}, returning="spare") == "x"
        assert writer.select("empty_", ["needed"], [Condition("id", "=", made)]) == [("a",)]

    def test_a_foreign_key_is_refused_also_where_something_is_returned(self, writer):
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert("tags", {"person": 999, "tag": "t"}, returning="tag")
        assert writer.count("tags") == 4

    def test_insert_many_takes_rows_as_they_come(self, filled):
        writer = filled.writer()
        with writer.transaction():
            made = writer.insert_many(
                "empty_", ["id", "needed"], ((number, f"n{number}") for number in range(5000))
            )
        assert made == 5000
        assert filled.reader().count("empty_") == 5000

    def test_an_iterator_that_fails_fails_as_itself_and_leaves_nothing(self, writer):
        def rows() -> Iterator[tuple[int, str]]:
            yield 1, "a"
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"), writer.transaction():
            writer.insert_many("empty_", ["id", "needed"], rows())
        assert writer.count("empty_") == 0

    def test_update_counts_rows_matched_changed_or_not(self, writer):
        with writer.transaction():
            assert writer.update("people", {"size": 20}, [Condition("size", ">=", 20)]) == 3
            assert writer.update("people", {"size": None}, [Condition("id", "=", 99)]) == 0
            link = Within(["id"], "tags", ["person"], [Condition("tag", "=", "red")])
            assert writer.update("people", {"note": None, "size": 1}, [link]) == 2
        assert writer.count("people", [Condition("note", "=", None), Condition("size", "=", 1)]) == 2

    def test_delete_counts_its_own_rows_and_follows_foreign_keys(self, writer):
        with writer.transaction():
            assert writer.delete("people", [Condition("id", "=", 1)]) == 1
        assert writer.count("tags") == 2
        assert writer.select("people", ["id"], [Condition("boss", "=", None)]) == [(2,), (3,)]

    def test_a_row_that_the_database_refuses_changes_nothing(self, writer):
        for values in (
            {"id": 1, "name": "twice"},
            {"id": 9, "name": None},
            {"id": 9, "name": "x", "boss": 99},
        ):
            with pytest.raises(ConstraintError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                writer.insert("people", values)
            assert writer.count("people", [Condition("size", "=", 0)]) == 0

    @pytest.mark.parametrize("failure", [RuntimeError("mine"), Interrupted(15), KeyboardInterrupt()])
    def test_whatever_ends_a_transaction_early_rolls_it_back(self, filled, failure):
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

    def test_a_nested_transaction_rolls_back_alone(self, writer):
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

    def test_what_a_transaction_did_is_seen_inside_it_and_by_others_after_it(self, filled):
        writer, reader = filled.writer(), filled.reader()
        with writer.transaction():
            writer.update("people", {"name": "new"}, [Condition("id", "=", 1)])
            assert writer.select("people", ["name"], [Condition("id", "=", 1)]) == [("new",)]
        assert reader.select("people", ["name"], [Condition("id", "=", 1)]) == [("new",)]

    def test_a_write_outside_a_transaction_is_refused(self, writer):
        for write in (
            lambda: writer.insert("empty_", {"needed": "x"}),
            lambda: writer.insert_many("empty_", ["needed"], [("x",)]),
            lambda: writer.update("people", {"size": 1}, []),
            lambda: writer.delete("people", []),
        ):
            with pytest.raises(RuntimeError, match="outside a transaction"):
                write()
        assert writer.count("empty_") == 0

    def test_closing_twice_does_nothing_and_a_closed_one_refuses(self, writer):
        writer.close()
        writer.close()
        with pytest.raises(RuntimeError, match="closed"):
            writer.count("people")

    def test_rows_that_are_held_are_changed_by_nobody_else_until_the_transaction_ends(self, filled):
        first, second = filled.writer(), filled.writer()
        red = Within(["id"], "tags", ["person"], [Condition("tag", "=", "red")])
        change = {"size": 0}, [Condition("id", "=", 1)]
        assert ids(filled.reader().select("people", ["id"], [red], hold=True)) == [1, 2]
        with first.transaction():
            assert ids(first.select("people", ["id"], [red], order_by=[Order(["name"])], hold=True)) == [1, 2]
            with pytest.raises(BusyError), second.transaction():
                second.update("people", *change)
        with second.transaction():
            assert second.update("people", *change) == 1

    # Hostile names and values ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_any_name_works_as_table_and_as_column(self, fresh, name):
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
        assert writer.tally(name, name) == {"u": 1, "w": 1}
        assert (
            writer.count(name, [Within(["id"], name + "2", [name]), Linked("id", name + "2", name, "=", 1)])
            == 1
        )
        assert [(key.table, *key.columns, *key.to) for key in writer.references(name)] == [
            (name + "2", name, "id")
        ]
        with writer.transaction():
            assert writer.delete(name, [Condition(name, "contains", "W")]) == 1
        assert writer.count(name + "2") == 0

    @given(st.text(max_size=20))
    @settings(max_examples=100, suppress_health_check=INHERITED)
    def test_any_text_comes_back_as_it_went_or_is_refused(self, writer, text):
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
    def test_a_value_that_cannot_be_stored_is_refused_and_changes_nothing(self, writer, value):
        for write in (
            lambda: writer.insert("empty_", {"id": 1, "needed": value}),
            lambda: writer.update("people", {"note": value}, []),
        ):
            with pytest.raises(DbctlError), writer.transaction():
                writer.update("people", {"size": 0}, [])
                write()
        assert writer.count("empty_") == 0
        assert writer.count("people", [Condition("size", "=", 0)]) == 0

    def test_the_largest_numbers_come_back(self, writer):
        for number in (2**63 - 1, -(2**63)):
            with writer.transaction():
                writer.update("people", {"size": number}, [])
            assert writer.count("people", [Condition("size", "in", [number])]) == 5

    # Soundness ------------------------------------------------------------------------------------------------------

    def test_what_is_sound_is_found_so_by_reader_and_writer(self, filled):
        for opened in (filled.reader(), filled.writer()):
            if not offers(opened, Capability.CHECK, Checks):
                continue
            for quick in (False, True):
                assert list(opened.damage(quick=quick)) == []
                assert list(opened.damage(quick=quick, table="people")) == []
            assert list(opened.orphans()) == list(opened.orphans("tags")) == []

    def test_a_check_of_a_table_that_is_not_there_is_refused(self, reader):
        if not offers(reader, Capability.CHECK, Checks):
            return
        for check in (reader.damage, reader.orphans):
            with pytest.raises(SchemaLacksError):
                check(table='people") ; drop table people --')
        assert reader.count("people") == 5

    def test_the_room_that_everything_takes_and_each_table_holds_is_told(self, filled):
        for opened in (filled.reader(), filled.writer()):
            if not offers(opened, Capability.MEASURE, Measures):
                continue
            whole = opened.storage()
            assert whole.tables == len(SCHEMA)
            assert whole.page_count is None or whole.bytes == whole.page_count * whole.page_size
            told = {one.table: one for one in opened.measured()}
            assert {name: one.rows for name, one in told.items()} == {
                **{name: len(rows) for name, (_, rows) in ROWS.items()},
                "empty_": 0,
            }
            room = [one.bytes for one in told.values()]
            assert None in room or 0 < sum(room) <= whole.bytes

    def test_a_schema_is_told_whole_and_its_fingerprint_follows_it_and_not_the_rows(self, filled):
        opened = filled.reader()
        if not offers(opened, Capability.SCHEMA, Describes):
            return
        told = {one.name: one for one in opened.schema().tables}
        assert set(told) == set(opened.tables())
        assert [one.name for one in told["people"].columns] == list(opened.tables()["people"].columns)
        assert list(told["groups_"].key) == ["a", "b"]
        keys = {(*key.columns, key.table, key.on_delete) for key in told["people"].references}
        assert keys == {("group_a", "group_b", "groups_", "CASCADE"), ("boss", "people", "SET NULL")}
        before = opened.fingerprint()
        writer = filled.writer()
        with writer.transaction():
            writer.delete("tags", [])
        assert writer.fingerprint() == filled.reader().fingerprint() == before
        filled.execute("alter table tags add column spare text")
        assert filled.reader().fingerprint() != before

    def test_a_query_is_explained_without_being_run(self, reader):
        if not offers(reader, Capability.EXPLAIN, Explains):
            return
        told = reader.explain_query("select count(*) from people where note > :text", {"text": "a"})
        assert (told.full_scans, list(told.parameters)) == (["people"], ["a"])
        assert reader.explain_query("select * from people where id = :id", {"id": 1}).full_scans == []
        assert not reader.explain_query(
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
    def test_a_query_that_would_fail_or_mean_something_else_is_not_explained(self, reader, sql):
        if offers(reader, Capability.EXPLAIN, Explains):
            with pytest.raises(QueryFailedError):
                reader.explain_query(sql)

    @pytest.mark.parametrize(
        "sql",
        [
            'select "name" from "people" where "note" > \'x\' order by "name"',
            'select p."name" as "one", count(*) "two" from people "p" group by p."name" order by "one", "two"',
            'with "some" as (select id from people) select "some".id from "some"',
        ],
    )
    def test_a_name_in_quotes_that_a_query_gives_itself_is_a_name(self, reader, sql):
        if offers(reader, Capability.EXPLAIN, Explains):
            reader.explain_query(sql)

    # Times moved on, and rows brought together ------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("iso-ms", ["2024-01-01T04:00:00.001Z", "2024-01-01T04:00:00.001Z", "2024-06-01T04:00:00.001Z", None, "2023-01-01T04:00:00.001Z"]),
            ("sqlite-time", ["2024-01-01 04:00:00", "2024-01-01 04:00:00", "2024-06-01 04:00:00", None, "2023-01-01 04:00:00"]),
        ],
    )  # fmt: skip
    def test_a_time_is_moved_on_from_whatever_form_a_row_stores(self, writer, form, expected):
        by = timedelta(hours=4, milliseconds=1)
        with writer.transaction():
            assert writer.update("people", {"born": Later("born", by, form)}, []) == 5
        assert ids(writer.select("people", ["born"])) == expected

    @given(st.integers(10**11, 7 * 10**12), st.integers(0, 10**9))
    @settings(max_examples=60, suppress_health_check=INHERITED)
    def test_a_time_that_is_moved_on_keeps_its_milliseconds(self, writer, began, by):
        def iso(milliseconds: int) -> str:
            moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

        with writer.transaction():
            writer.update("people", {"born": iso(began)}, [])
            writer.update("people", {"born": Later("born", timedelta(milliseconds=by), "iso-ms")}, [])
        assert ids(writer.select("people", ["born"], limit=1)) == [iso(began + by)]

    def test_a_merge_adds_replaces_keeps_and_inserts(self, writer):
        columns = {"needed": "keep", "spare": "replace"}
        with writer.transaction():
            writer.insert("empty_", {"id": 1, "needed": "old", "spare": "old"})
            given_values = {"some": [1, 3, 99], "word": "new"}
            plain = "select id, name, :word from people where id in :some"
            assert writer.merge("empty_", plain, given_values, key=["id"], columns=columns) == 2
        assert writer.select("empty_", ["id", "needed", "spare"]) == [(1, "old", "new"), (3, "BOB", "new")]
        with writer.transaction():
            writer.update("people", {"size": None}, [Condition("id", "=", 2)])
            plain = "select id, name, 5 from people where id in :some group by id, name"
            writer.merge(
                "people", plain, {"some": [1, 2]}, key=["id"], columns={"name": "keep", "size": "add"}
            )
        assert ids(writer.select("people", ["size"])) == [15, 5, 30, None, 20]

    def test_a_merge_names_only_what_is_there_and_nothing_outside_a_transaction(self, writer):
        with pytest.raises(SchemaLacksError), writer.transaction():
            writer.merge("empty_", "select 1, 2", {}, key=["id"], columns={"nosuch": "add"})
        with pytest.raises(RuntimeError):
            writer.merge("empty_", "select 1, 2", {}, key=["id"], columns={"needed": "add"})

    def test_behind_a_key_are_the_rows_that_come_after_it_and_it_need_not_be_there(self, filled):
        writer = filled.writer()
        with writer.transaction():  # in the order of their bytes, which is not that of their letters
            tags = [(3, tag) for tag in ("", "B", "a", "b c", "Ü", "é", "🙂")]
            writer.insert_many("tags", ["person", "tag"], tags)
        reader = filled.reader()
        for table, key in {"people": ["id"], "groups_": ["a", "b"], "tags": ["person", "tag"]}.items():
            rows = reader.select(table, key)
            for at, row in enumerate(rows, 1):
                assert reader.select(table, key, [Behind(key, row)]) == rows[at:], row
                assert reader.count(table, [Behind(key, row)]) == len(rows) - at
        assert [
            tag for _, tag in reader.select("tags", ["person", "tag"], [Behind(["person", "tag"], [3, "aa"])])
        ] == ["b c", "Ü", "é", "🙂", "green"]
        assert ids(reader.select("groups_", ["b"], [Behind(["a", "b"], [0, "z"])])) == ["x", "y", "x"]
        page = reader.select("tags", ["tag"], [Behind(["person", "tag"], [3, "B"])], limit=2)
        assert ids(page) == ["a", "b c"]

    # Scripts that change the schema -------------------------------------------------------------------------------

    def test_what_a_failed_change_of_the_schema_leaves_behind_is_what_the_engine_says(self, filled):
        writer = filled.writer()
        if not offers(writer, Capability.MIGRATE, Migrates):
            return
        script = "create table made (id integer primary key); insert into made values (1);"
        with pytest.raises(LookupError), writer.schema_transaction():
            for _, sql in writer.language.split(script):
                writer.run_statement(sql)
            writer.insert("made", {"id": 2})
            writer.delete("tags", [])
            raise LookupError
        assert ("made" not in writer.tables()) == writer.takes_schema_back
        assert writer.takes_schema_back or ids(writer.select("made", ["id"])) == [1]
        assert writer.count("tags") == 4

    def test_a_change_of_the_schema_is_there_with_what_was_written_beside_it(self, filled):
        writer = filled.writer()
        if not offers(writer, Capability.MIGRATE, Migrates):
            return
        with writer.schema_transaction():
            writer.run_statement("create table made (id integer primary key)")
            writer.insert("made", {"id": 2})
        assert ids(filled.reader().select("made", ["id"])) == [2]

    def test_outside_a_transaction_each_statement_stays_and_a_transaction_finds_room_between(self, filled):
        writer = filled.writer()
        if not offers(writer, Capability.MIGRATE, Migrates):
            return
        with pytest.raises(LookupError), writer.step_by_step():
            writer.run_statement("create table made (id integer primary key)")
            with writer.transaction():
                writer.insert("made", {"id": 2})
            writer.run_statement("insert into made values (3)")
            assert writer.left_by("insert into made values (4)") == ()
            raise LookupError
        assert ids(filled.reader().select("made", ["id"])) == [2, 3]
        with pytest.raises(RuntimeError):
            writer.insert("made", {"id": 4})
        with writer.transaction(), pytest.raises(RuntimeError), writer.step_by_step():
            pass

    @pytest.mark.parametrize("sql", ["begin", "commit", "rollback"])
    def test_outside_a_transaction_none_is_begun_or_ended_by_a_script(self, writer, sql):
        if offers(writer, Capability.MIGRATE, Migrates):
            with pytest.raises(QueryFailedError), writer.step_by_step():
                writer.run_statement(sql)
            with pytest.raises(ValueError, match="line 1"):
                writer.language.split(sql, outside=True)

    def test_what_a_statement_takes_away_is_judged_by_its_words(self, writer):
        if offers(writer, Capability.MIGRATE, Migrates):
            judged = writer.language.effect
            assert not judged("create table made (id integer)").may_take_rows
            assert judged("drop table people, tags").drops == ["people", "tags"]
            assert judged("delete from people where name = 'drop table tags'").empties == ["people"]

    @pytest.mark.parametrize(
        "text", ["select 'a", "select 1; /* ", 'create table "a', "commit;", "select 1; rollback;"]
    )
    def test_a_script_that_is_cut_off_or_ends_its_transaction_is_refused(self, writer, text):
        if offers(writer, Capability.MIGRATE, Migrates):
            with pytest.raises(ValueError, match=r"ends inside|line 1"):
                writer.language.split(text)

    # Locks between writers ------------------------------------------------------------------------------------------

    def test_the_lock_of_one_writer_is_waited_for_and_named_by_another(self, filled):
        first, second = filled.writer(), filled.writer()
        with first.lock("users delete"), pytest.raises(DbctlError) as caught, second.lock("roles create"):
            pass
        assert caught.value.code == "busy"
        assert "users delete" in str(caught.value)
        with second.lock("roles create"):
            pass

    def test_a_lock_does_not_keep_readers_out(self, filled):
        with filled.writer().lock("users delete"):
            assert filled.reader().count("people") == 5
