"""Terms of a search as conditions on the live schema: places found by name, values as the key's kind means them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Condition,
    Linked,
    Not,
    Op,
    Order,
    Readable,
    Table,
    Where,
    Within,
)
from dbctl.errors import NotSupportedError, SchemaLacksError, ValueInvalidError
from dbctl.model import Value, now
from dbctl.profiles import BOOLEANS
from dbctl.profiles.model import Along, Profile, Search, SearchKey, Shape, Sort
from dbctl.services.search.query_parser import Term, parse
from dbctl.services.search.query_values import Key, Span, span

_Counted: TypeAlias = Literal["=", "<", ">"]
_COUNTED: dict[str, _Counted] = {"contains": "=", "exact": "=", "<": "<", ">": ">"}


class Link(Value, frozen=True):
    """One step of a path: rows of ``table`` whose ``to`` is the ``column`` of the row before."""

    column: str
    table: str
    to: str


def links(steps: Sequence[str]) -> list[Link]:
    """Take the steps of a path apart."""
    made = []
    for step in steps:
        column, _, to = step.partition(" -> ")
        table, _, name = to.partition(".")
        made.append(Link(column, table, name))
    return made


def lacking(
    tables: Mapping[str, Table], table: str, needed: Sequence[str], path: Sequence[Link]
) -> Iterator[str]:
    """Return what the live schema lacks: columns of ``table`` (unless they may be missing), then tables and columns of the path."""
    for name in needed:
        if not name.endswith("?") and not _has(tables, table, name):
            yield f"column {table}.{name}"
    here = table
    for link in path:
        if not _has(tables, here, link.column):
            yield f"column {here}.{link.column}"
        if link.table not in tables:
            yield f"table {link.table}"
        elif not _has(tables, link.table, link.to):
            yield f"column {link.table}.{link.to}"
        here = link.table


def present(tables: Mapping[str, Table], table: str, names: Sequence[str]) -> list[str]:
    """Return the columns that are there, without the sign that they may be missing."""
    return [plain for name in names if _has(tables, table, plain := name.removesuffix("?"))]


def _has(tables: Mapping[str, Table], table: str, column: str) -> bool:
    return table in tables and column in tables[table].columns


class Compiler:
    """The keys of one search on one open database."""

    def __init__(self, profile: Profile, search: Search, db: Readable) -> None:
        """Look at the live schema.

        Raises:
            SchemaLacksError: the table of the search is not there.
        """
        self.search, self.db, self.tables = search, db, db.tables()
        self._true = {native: True if native else BOOLEANS[profile.boolean][True] for native in (False, True)}
        self._now = now()
        if search.table not in self.tables:
            raise SchemaLacksError(
                target=db.target, what=f"table {search.table}", purpose=f"the search {search.name}"
            )
        self.by_name = {key.names[0]: key for key in search.key}
        self.keys = {
            spelling.lower(): Key(key.names[0], key.kind) for key in search.key for spelling in key.names
        }
        self.prefixes = {key.prefix: key.names[0] for key in search.key if key.prefix}
        self._blocks = frozenset(search.text.blocks if search.text else ())

    def read(self, query: str) -> tuple[Term, ...]:
        """Take a query apart, in the language that the search speaks."""
        fpa = self.search.language == "fpa"
        return parse(query, self.keys if fpa else {}, self.prefixes if fpa else {})

    def all_of(self, terms: Sequence[Term]) -> list[Where]:
        """Return the conditions that every term is met."""
        return [self._test(term) for term in terms]

    def filters(self, terms: Sequence[Term]) -> list[Where]:
        """Return the conditions of filters: of those that say what one key is, one is enough unless the key says every."""
        grouped: dict[str, list[Where]] = {}
        for number, term in enumerate(terms):
            key = self.by_name[term.key or ""]
            alike = term.op in {"contains", "exact"} and not (term.negated or key.every or key.bound)
            grouped.setdefault(key.names[0] if alike else f"\0{number}", []).append(self._test(term))
        return [tests[0] if len(tests) == 1 else AnyOf(tests) for tests in grouped.values()]

    def hidden(self, asked: frozenset[str]) -> list[Where]:
        """Return the conditions that leave out what is hidden, but for the keys in ``asked``."""
        return [
            Not(self._meets(key, Term(key.names[0], "exact", value=True)))
            for key in self.search.key
            if key.hidden and key.names[0] not in asked and self.fitting(key) is not None
        ]

    def order_of(self, term: Term) -> Order | None:
        """Return the order that rows have in what ``term`` asks for, where its key has one."""
        key = self.by_name[term.key or ""]
        shape = self.fitting(key)
        if shape is None or not shape.order or term.negated:
            return None
        through = self._along(key, shape, term)
        return Order((shape.order,), through=through) if isinstance(through, Within) else None

    def order(self, sort: Sort, *, descending: bool) -> Order:
        """Return an order of the search as the live schema has it.

        Raises:
            SchemaLacksError: none of its columns is there.
        """
        if sort.kind == "random":
            return Order((), random=True)
        columns = present(self.tables, self.search.table, sort.columns)
        if not columns:
            raise SchemaLacksError(
                target=self.db.target,
                what=f"column {' and '.join(sort.columns)}",
                purpose=f"the order {sort.name}",
            )
        return Order(
            tuple(columns), descending=descending, time=sort.kind == "time", nocase=sort.kind == "text"
        )

    def contains(self, text: str) -> Where:
        """Return the condition that one of the columns for words has a text, wherever it stands."""
        words = present(self.tables, self.search.table, self.search.words)
        return AnyOf([self._holds(column, text) for column in words])

    def _test(self, term: Term) -> Where:
        if term.key is None:
            test = self.contains(str(term.value))
        else:
            test = self._meets(self.by_name[term.key], term)
        return Not(test) if term.negated else test

    def _meets(self, key: SearchKey, term: Term) -> Where:
        """Return the condition of a term without regard to its sign."""
        if key.kind == "boolean":
            test = self._true_for(key, term)
            return test if term.value else Not(test)
        shape = self._shape(key)
        if key.kind == "count":
            (link,) = links(shape.path)
            return Linked(link.column, link.table, link.to, _COUNTED[term.op], int(term.value))
        empty = term.op == "exact" and term.value == ""
        table = self.search.table
        has = key.kind == "text" and term.op == "contains"
        tests = [
            self._holds(column, str(term.value)) if has else self._value(key, term, column)
            for column in present(self.tables, table, shape.columns)
        ]
        for column in present(self.tables, table, shape.lists):
            element = term.op == "exact" and not empty
            tests.append(
                Condition(column, "element", term.value) if element else self._value(key, term, column)
            )
        if shape.path:
            tests.append(self._along(key, shape, term))
        tests += [self._along(key, one, term) for one in shape.also if self._leads(one)]
        if empty:
            return AllOf(tests)
        return tests[0] if len(tests) == 1 else AnyOf(tests)

    def _true_for(self, key: SearchKey, term: Term) -> Where:
        if key.unless:
            return Not(AllOf(self.all_of(self.read(key.unless))))
        shape = self._shape(key)
        tests: list[Where] = [
            self._true_in(self.search.table, column, shape.contains)
            for column in present(self.tables, self.search.table, shape.columns)
        ]
        if shape.path:
            tests.append(self._along(key, shape, term))
        return tests[0] if len(tests) == 1 else AnyOf(tests)

    def _true_in(self, table: str, column: str, contains: str) -> Where:
        if contains:
            return Condition(column, "contains", contains)
        return Condition(column, "=", self._true[self.tables[table].columns[column].native == "boolean"])

    def _leads(self, way: Along) -> bool:
        path = links(way.path)
        lack = [
            *lacking(self.tables, self.search.table, [], path),
            *lacking(self.tables, path[-1].table, way.at, []),
        ]
        return not lack

    def _along(self, key: SearchKey, shape: Shape | Along, term: Term) -> Where:
        """Return the condition that the path leads to a row that meets the term; or to none at all."""
        path = links(shape.path)
        end = path[-1].table
        if term.op == "exact" and term.value == "":
            where: list[Where] = []
        elif key.kind == "boolean":
            where = (
                [
                    AnyOf(
                        [
                            self._true_in(end, column, shape.contains if isinstance(shape, Shape) else "")
                            for column in shape.at
                        ]
                    )
                ]
                if shape.at
                else []
            )
        else:
            where = [AnyOf([self._value(key, term, column) for column in shape.at])]
        for link in reversed(path):
            where = [Within((link.column,), link.table, (link.to,), where)]
        return Not(where[0]) if term.op == "exact" and term.value == "" else where[0]

    def _value(self, key: SearchKey, term: Term, column: str) -> Where:
        """Return the condition of a term on one column."""
        if term.op == "exact" and term.value == "":
            return AnyOf([Condition(column, "=", None), Condition(column, "=", "")])
        if key.kind == "date":
            return _dated(column, str(term.value), key.bound or term.op)
        if key.kind == "time":
            return _timed(
                column, span(key.names[0], str(term.value), self._now), key.bound or term.op, key.names[0]
            )
        if key.kind == "text" and term.op == "contains":
            return Condition(column, "contains", term.value)
        equal: Op = "=" if key.case or key.kind != "text" else "same"
        return Condition(column, equal if term.op == "exact" else "<" if term.op == "<" else ">", term.value)

    def _holds(self, column: str, text: str) -> Where:
        """Return the condition that a column of the table has a text, also where it is JSON, which writes signs otherwise."""
        spellings = [text]
        if column in self._blocks:
            import json

            spellings += [json.dumps(text, ensure_ascii=escaped)[1:-1] for escaped in (False, True)]
        tests = [Condition(column, "contains", one) for one in dict.fromkeys(spellings)]
        return tests[0] if len(tests) == 1 else AnyOf(tests)

    def _shape(self, key: SearchKey) -> Shape:
        """Return the shape that the live schema has.

        Raises:
            NotSupportedError: it has none, and the profile says what to do instead.
            SchemaLacksError: it has none.
        """
        fitting = self.fitting(key)
        if fitting is not None:
            return fitting
        name = key.names[0]
        if key.missing:
            raise NotSupportedError(what=f"searching by {name}", by=self.db.target, instead=key.missing)
        raise SchemaLacksError(
            target=self.db.target,
            what=next(self._lacks((key.shape or [key])[0]), f"the columns of {name}"),
            purpose=f"the key {name}",
        )

    def fitting(self, key: SearchKey) -> Shape | None:
        """Return the first of the places of a key that the live schema has, or None."""
        for shape in key.shape or [key]:
            places = [*present(self.tables, self.search.table, [*shape.columns, *shape.lists]), *shape.path]
            if places and next(self._lacks(shape), None) is None:
                return shape
        return None

    def _lacks(self, shape: Shape) -> Iterator[str]:
        path = links(shape.path)
        yield from lacking(self.tables, self.search.table, [*shape.columns, *shape.lists], path)
        if path:
            yield from lacking(self.tables, path[-1].table, shape.at, [])
            yield from lacking(self.tables, path[0].table, [shape.order] if shape.order else [], [])


def _dated(column: str, text: str, op: str) -> Where:
    """Compare text that begins as an ISO date does, as far as it goes: a bare 2005 lies in 2005."""
    if op in {"from", ">"}:
        return Condition(column, ">=", text)
    begins = Condition(column, "starts", text)
    if op in {"contains", "exact"}:
        return begins
    some, before = Condition(column, ">", ""), Condition(column, "<", text)
    return AllOf([some, before if op == "<" else AnyOf([before, begins])])


def _timed(column: str, when: Span, op: str, name: str) -> Where:
    if op in {"from", ">"}:
        return Condition(column, ">=", when.begin)
    if op == "<":
        return Condition(column, "<", when.begin)
    if op == "until":
        return Condition(column, "<=" if when.begin == when.end else "<", when.end)
    if when.begin == when.end:
        raise ValueInvalidError(
            what=name, value="a moment ago", reason="compare it with < or >, nothing is exactly then"
        )
    return AllOf([Condition(column, ">=", when.begin), Condition(column, "<", when.end)])
