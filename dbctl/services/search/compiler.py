"""Compile the terms of a search into conditions on the live schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Op,
    Order,
    Readable,
    ReferenceCount,
    Table,
    Where,
)
from dbctl.engines.contract.fulltext import Link
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError, ValueInvalidError
from dbctl.model import now
from dbctl.profiles.codecs import BOOLEANS
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.model.search import KeySource, Search, SearchKey, SearchPath, Sort
from dbctl.services.search.query_parser import (
    Key,
    Term,
    TimeRange,
    parse_query,
    parse_time_range,
    require_whole_date,
)

_CountOperator: TypeAlias = Literal["=", "<", ">"]
_COUNT_OPERATORS: dict[str, _CountOperator] = {"contains": "=", "exact": "=", "<": "<", ">": ">"}


def parse_path(steps: Sequence[str]) -> list[Link]:
    """Parse steps of the form ``column -> table.column``."""
    path = []
    for step in steps:
        column, _, target = step.partition(" -> ")
        table, _, target_column = target.partition(".")
        path.append(Link(column, table, target_column))
    return path


def list_missing(
    tables: Mapping[str, Table],
    table: str,
    columns: Sequence[str],
    path: Sequence[Link],
    path_columns: Sequence[str] = (),
) -> Iterator[str]:
    """Yield what the live schema lacks: required columns of ``table``, then tables, columns of the path, and at its end."""
    for name in columns:
        if not name.endswith("?") and not _has(tables, table, name):
            yield f"column {table}.{name}"
    current = table
    for step in path:
        if not _has(tables, current, step.column):
            yield f"column {current}.{step.column}"
        if step.table not in tables:
            yield f"table {step.table}"
        elif not _has(tables, step.table, step.to):
            yield f"column {step.table}.{step.to}"
        current = step.table
    if path_columns:
        yield from list_missing(tables, current, path_columns, [])


def select_existing(tables: Mapping[str, Table], table: str, names: Sequence[str]) -> list[str]:
    """Return the columns that exist, without the ``?`` of optional columns."""
    return [column for name in names if _has(tables, table, column := name.removesuffix("?"))]


def _has(tables: Mapping[str, Table], table: str, column: str) -> bool:
    return table in tables and column in tables[table].columns


class QueryCompiler:
    """Compiler of the terms of one search for one open database."""

    def __init__(self, profile: Profile, search: Search, db: Readable) -> None:
        """Read the live schema.

        Raises:
            SchemaMismatchError: the table of the search, or a column of its words, does not exist.
        """
        self.search, self.db, self.tables = search, db, db.tables()
        self._true = {native: True if native else BOOLEANS[profile.boolean][True] for native in (False, True)}
        self._now = now()
        if search.table not in self.tables:
            raise SchemaMismatchError(
                target=db.target, missing=f"table {search.table}", purpose=f"the search {search.name}"
            )
        for name in search.words:
            if not (name.endswith("?") or _has(self.tables, search.table, name)):
                missing = f"column {search.table}.{name}"
                raise SchemaMismatchError(
                    target=db.target, missing=missing, purpose=f"the search {search.name}"
                )
        self.keys_by_name = {key.names[0]: key for key in search.key}
        self.keys = {
            spelling.lower(): Key(key.names[0], key.kind) for key in search.key for spelling in key.names
        }
        self.prefixes = {key.prefix: key.names[0] for key in search.key if key.prefix}
        self._blocks = frozenset(search.text.blocks if search.text else ())

    def parse(self, query: str) -> tuple[Term, ...]:
        """Parse a query in the language of the search."""
        fpa = self.search.language == "fpa"
        return parse_query(query, self.keys if fpa else {}, self.prefixes if fpa else {})

    def compile_terms(self, terms: Sequence[Term]) -> list[Where]:
        """Return one condition per term."""
        return [self._compile_term(term) for term in terms]

    def compile_filters(self, terms: Sequence[Term]) -> list[Where]:
        """Return the conditions of filters. Filters with the same key are alternatives, unless the key requires all."""
        grouped: dict[str, list[Where]] = {}
        for index, term in enumerate(terms):
            key = self.keys_by_name[term.key or ""]
            is_alternative = term.op in {"contains", "exact"} and not (term.negated or key.every or key.bound)
            grouped.setdefault(key.names[0] if is_alternative else f"\0{index}", []).append(
                self._compile_term(term)
            )
        return [tests[0] if len(tests) == 1 else AnyOf(tests) for tests in grouped.values()]

    def exclude_hidden(self, shown_keys: frozenset[str]) -> list[Where]:
        """Return the conditions that exclude hidden rows, except those of ``shown_keys``."""
        return [
            Not(self._compile_condition(key, Term(key.names[0], "exact", value=True)))
            for key in self.search.key
            if key.hidden and key.names[0] not in shown_keys and self.find_location(key) is not None
        ]

    def find_term_order(self, term: Term) -> Order | None:
        """Return the order of rows within the list that a term selects, or None."""
        key = self.keys_by_name[term.key or ""]
        location = self.find_location(key)
        if location is None or not location.order or term.negated:
            return None
        condition = self._compile_path(key, location, term)
        return Order((location.order,), through=condition) if isinstance(condition, InSubquery) else None

    def compile_order(self, sort: Sort, *, descending: bool) -> Order:
        """Compile an order of the search.

        Raises:
            SchemaMismatchError: none of its columns exists.
        """
        if sort.kind == "random":
            return Order((), random=True)
        columns = select_existing(self.tables, self.search.table, sort.columns)
        if not columns:
            raise SchemaMismatchError(
                target=self.db.target,
                missing=f"column {' and '.join(sort.columns)}",
                purpose=f"the order {sort.name}",
            )
        return Order(
            tuple(columns), descending=descending, time=sort.kind == "time", nocase=sort.kind == "text"
        )

    def contains(self, text: str) -> Where:
        """Return the condition that any text column contains a text."""
        words = select_existing(self.tables, self.search.table, self.search.words)
        return AnyOf([self._column_contains(column, text) for column in words])

    def _compile_term(self, term: Term) -> Where:
        if term.key is None:
            test = self.contains(str(term.value))
        else:
            test = self._compile_condition(self.keys_by_name[term.key], term)
        return Not(test) if term.negated else test

    def _compile_condition(self, key: SearchKey, term: Term) -> Where:
        """Compile a term without its negation."""
        if key.kind == "boolean":
            test = self._compile_boolean(key, term)
            return test if term.value else Not(test)
        location = self._require_location(key)
        if key.kind == "count":
            (link,) = parse_path(location.path)
            return ReferenceCount(
                link.column, link.table, link.to, _COUNT_OPERATORS[term.op], int(term.value)
            )
        empty = term.op == "exact" and term.value == ""
        table = self.search.table
        contains_text = key.kind == "text" and term.op == "contains" and not key.values
        tests = [
            self._column_contains(column, str(term.value))
            if contains_text
            else self._compile_value(key, term, column)
            for column in select_existing(self.tables, table, location.columns)
        ]
        for column in select_existing(self.tables, table, location.lists):
            is_element = term.op == "exact" and not empty
            tests.append(
                Condition(column, "element", term.value)
                if is_element
                else self._compile_value(key, term, column)
            )
        if location.path:
            tests.append(self._compile_path(key, location, term))
        tests += [
            self._compile_path(key, alternative, term)
            for alternative in location.extra_paths
            if self._has_path(alternative)
        ]
        if empty:
            return AllOf(tests)
        return tests[0] if len(tests) == 1 else AnyOf(tests)

    def _compile_boolean(self, key: SearchKey, term: Term) -> Where:
        if key.excluded_by:
            return Not(AllOf(self.compile_terms(self.parse(key.excluded_by))))
        location = self._require_location(key)
        tests: list[Where] = [
            self._compile_true(self.search.table, column, location.contains)
            for column in select_existing(self.tables, self.search.table, location.columns)
        ]
        if location.path:
            tests.append(self._compile_path(key, location, term))
        return tests[0] if len(tests) == 1 else AnyOf(tests)

    def _compile_true(self, table: str, column: str, contains: str) -> Where:
        if contains:
            return Condition(column, "contains", contains)
        return Condition(column, "=", self._true[self.tables[table].columns[column].native == "boolean"])

    def _has_path(self, alternative: SearchPath) -> bool:
        path = parse_path(alternative.path)
        return not any(list_missing(self.tables, self.search.table, [], path, alternative.path_columns))

    def _compile_path(self, key: SearchKey, location: KeySource | SearchPath, term: Term) -> Where:
        """Return the condition that the path reaches a row that matches the term; for an empty value, that it reaches no row."""
        path = parse_path(location.path)
        end = path[-1].table
        if term.op == "exact" and term.value == "":
            where: list[Where] = []
        elif key.kind == "boolean":
            where = (
                [
                    AnyOf(
                        [
                            self._compile_true(
                                end, column, location.contains if isinstance(location, KeySource) else ""
                            )
                            for column in location.path_columns
                        ]
                    )
                ]
                if location.path_columns
                else []
            )
        else:
            where = [AnyOf([self._compile_value(key, term, column) for column in location.path_columns])]
        for link in reversed(path):
            where = [InSubquery((link.column,), link.table, (link.to,), where)]
        return Not(where[0]) if term.op == "exact" and term.value == "" else where[0]

    def _compile_value(self, key: SearchKey, term: Term, column: str) -> Where:
        if term.op == "exact" and term.value == "":
            return AnyOf([Condition(column, "=", None), Condition(column, "=", "")])
        if key.values:
            return Condition(column, "=", _find_named_value(key, str(term.value)))
        if key.kind == "date":
            return _compile_date(column, str(term.value), key.bound or term.op, key.names[0])
        if key.kind == "time":
            return _compile_time(
                column,
                parse_time_range(key.names[0], str(term.value), self._now),
                key.bound or term.op,
                key.names[0],
            )
        if key.kind == "text" and term.op == "contains":
            return Condition(column, "contains", term.value)
        equal: Op = "=" if key.case or key.kind != "text" else "same"
        return Condition(column, equal if term.op == "exact" else "<" if term.op == "<" else ">", term.value)

    def _column_contains(self, column: str, text: str) -> Where:
        """Return the condition that a column contains a text, also in its JSON spellings."""
        spellings = [text]
        if column in self._blocks:
            import json

            spellings += [json.dumps(text, ensure_ascii=escaped)[1:-1] for escaped in (False, True)]
        tests = [Condition(column, "contains", spelling) for spelling in dict.fromkeys(spellings)]
        return tests[0] if len(tests) == 1 else AnyOf(tests)

    def _require_location(self, key: SearchKey) -> KeySource:
        """Return the first location of a key that the live schema has.

        Raises:
            NotSupportedError: the schema has none, and the profile has a hint for this case.
            SchemaMismatchError: the schema has none.
        """
        location = self.find_location(key)
        if location is not None:
            return location
        name = key.names[0]
        if key.missing:
            raise NotSupportedError(feature=f"searching by {name}", subject=self.db.target, hint=key.missing)
        raise SchemaMismatchError(
            target=self.db.target,
            missing=next(self._list_missing((key.variant or [key])[0]), f"the columns of {name}"),
            purpose=f"the key {name}",
        )

    def find_location(self, key: SearchKey) -> KeySource | None:
        """Return the first location of a key that the live schema has, or None."""
        for location in key.variant or [key]:
            parts = [
                *select_existing(self.tables, self.search.table, [*location.columns, *location.lists]),
                *location.path,
            ]
            if parts and next(self._list_missing(location), None) is None:
                return location
        return None

    def _list_missing(self, location: KeySource) -> Iterator[str]:
        path, columns = parse_path(location.path), [*location.columns, *location.lists]
        at_end = location.path_columns if path else ()
        yield from list_missing(self.tables, self.search.table, columns, path, at_end)
        if path and location.order:
            yield from list_missing(self.tables, path[0].table, [location.order], [])


def _find_named_value(key: SearchKey, name: str) -> object:
    """Return the stored value that a name of the profile stands for; None is NULL.

    Raises:
        ValueInvalidError: the key has no such name.
    """
    if name not in key.values:
        reason = f"the key has {', '.join(key.values)}"
        raise ValueInvalidError(name=key.names[0], value=repr(name), reason=reason)
    value = key.values[name]
    return None if value == ":null" else value


def _compile_date(column: str, text: str, op: str, name: str) -> Where:
    """Compare text that starts with an ISO date, up to the precision of the value: every day of 2005 equals 2005."""
    if op not in {"contains", "exact"}:
        require_whole_date(name, text)
    if op in {"from", ">"}:
        return Condition(column, ">=", text)
    has_prefix = Condition(column, "starts", text)
    if op in {"contains", "exact"}:
        return has_prefix
    is_not_empty, before = Condition(column, ">", ""), Condition(column, "<", text)
    return AllOf([is_not_empty, before if op == "<" else AnyOf([before, has_prefix])])


def _compile_time(column: str, time_range: TimeRange, op: str, name: str) -> Where:
    if op in {"from", ">"}:
        return Condition(column, ">=", time_range.begin)
    if op == "<":
        return Condition(column, "<", time_range.begin)
    if op == "until":
        return Condition(column, "<=" if time_range.begin == time_range.end else "<", time_range.end)
    if time_range.begin == time_range.end:
        raise ValueInvalidError(
            name=name, value="a duration", reason="a point in time can only be compared with < or >"
        )
    return AllOf([Condition(column, ">=", time_range.begin), Condition(column, "<", time_range.end)])
