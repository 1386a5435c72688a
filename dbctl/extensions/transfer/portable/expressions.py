"""Defaults, expressions and views that each engine can store."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Literal, TypeAlias

from dbctl.extensions.transfer.portable.contract import LogicalKind, LogicalType, PortableView
from dbctl.extensions.transfer.portable.read import strip_parentheses
from dbctl.model import Struct

if TYPE_CHECKING:
    from sqlglot import exp


#: Node classes of sqlglot that mean the same on every engine. Comparisons of patterns, divisions and functions of time
#: and JSON are not among them, because their results differ.
PORTABLE_NODES = frozenset(
    """Add Alias And Between Boolean Case Cast Coalesce Column Count DPipe DataType DataTypeParam Distinct EQ Exists From GT
    GTE Group Having Identifier If In Is Join LT LTE Length Literal Lower Max Min Mul NEQ Neg Not Null Nullif Or Order Ordered
    Paren Select Star Sub Subquery Sum Table TableAlias Trim Tuple Union Upper Where""".split()
)
#: Columns whose values have the same text on every engine.
_SAME_TEXTS = frozenset[LogicalKind]({"text", "enum", "integer", "uuid"})
#: Types to which a cast of a portable expression converts; their names have the same meaning everywhere.
_TEXT_CASTS = frozenset({"TEXT", "VARCHAR", "CHAR", "NVARCHAR", "NCHAR", "BPCHAR"})


class UntranslatableError(Exception):
    """An expression has no equivalent on the other engine; the text is the reason."""


def _parse_sql(sql: str, dialect: str) -> exp.Expr:
    import sqlglot

    try:
        return sqlglot.parse_one(sql, dialect=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        raise UntranslatableError("it cannot be parsed") from None


class Expressions:
    """Translates expressions over the columns of a table."""

    def __init__(
        self, source: str, destination: str, types: Mapping[str, LogicalType], *, allows_backslashes: bool
    ) -> None:
        """Set the dialects, by their names in sqlglot, and the types of the columns in the destination."""
        self._source, self._destination, self._types = source, destination, types
        self._allows_backslashes = allows_backslashes
        self._names = {name.lower(): name for name in types}

    def translate(self, sql: str, *, is_stored: bool = False) -> str:
        """Return an expression in the destination's SQL; ``is_stored``: its results are values of a column.

        Raises:
            UntranslatableError: it has no equivalent.
        """
        tree = self._parse(f"select {sql}").selects[0]
        if is_stored:
            self._refuse_conversions(tree)
        return self._write(self._translate_nodes(tree))

    def _refuse_conversions(self, tree: exp.Expr) -> None:
        """Refuse conversions whose results differ: fractions are cut or rounded, and each engine has its own texts of other types."""
        from sqlglot import exp

        for node in tree.find_all(exp.Cast, exp.DPipe, exp.Concat, exp.Length):
            if isinstance(node, exp.Cast) and not node.is_type(*_TEXT_CASTS):
                number = node.this.unnest()
                is_whole = isinstance(number, exp.Literal) and number.name.removeprefix("-").isdecimal()
                is_same = is_whole or isinstance(number, exp.Array)
            else:
                is_same = self._list_kinds(node) <= _SAME_TEXTS
            if not is_same:
                raise UntranslatableError(f"{node.sql(dialect=self._source)[:60]} has another result")

    def _list_kinds(self, node: exp.Expr) -> set[LogicalKind]:
        """Return the kinds of the columns whose text is part of an expression."""
        from sqlglot import exp

        name = self._names.get(node.name.lower()) if isinstance(node, exp.Column) else None
        if isinstance(node, exp.Case | exp.If):
            parts = [*map(node.args.get, ("true", "false", "default")), *node.args.get("ifs", ())]
        else:
            parts = list(node.iter_expressions())
        kinds = set[LogicalKind]().union(*(self._list_kinds(part) for part in parts if part))
        return {self._types[name].kind} if name else kinds

    def translate_condition(self, sql: str) -> str:
        """Return a condition as ``translate`` does; a number as a condition becomes a comparison with 0."""
        tree = self._translate_nodes(self._parse(f"select 1 where {sql}").args["where"].this)
        return self._write(_compare_numbers(tree, self._is_boolean))

    def _parse(self, sql: str) -> exp.Select:
        from sqlglot import exp

        tree = _parse_sql(sql, self._source)
        if not isinstance(tree, exp.Select):
            raise UntranslatableError("it cannot be parsed")
        return tree

    def _write(self, tree: exp.Expr) -> str:
        from sqlglot import exp

        if unknown := next((node for node in tree.walk() if type(node).__name__ not in PORTABLE_NODES), None):
            raise UntranslatableError(f"{unknown.sql(dialect=self._source)[:60]} has no equivalent")
        if not self._allows_backslashes and any("\\" in each.name for each in tree.find_all(exp.Literal)):
            raise UntranslatableError("the meaning of a backslash depends on the session")
        return tree.sql(dialect=self._destination)

    def _translate_nodes(self, tree: exp.Expr) -> exp.Expr:
        from sqlglot import exp

        if tree.find(exp.Query):
            raise UntranslatableError("it reads other rows")
        if any(length.args.get("binary") for length in tree.find_all(exp.Length)):
            raise UntranslatableError("it counts bytes")
        wrapper = exp.Paren(this=tree.copy())
        for node in list(wrapper.find_all(exp.EQ)):
            _replace_any(node)
        _replace_casts(wrapper)
        for column in wrapper.find_all(exp.Column):
            self._resolve(column)
        for literal in list(wrapper.find_all(exp.Literal)):
            if self._is_truth(literal):
                literal.replace(exp.Boolean(this=literal.name == "1"))
        for introducer in list(wrapper.find_all(exp.Introducer)):
            introducer.replace(introducer.expression)
        return wrapper.this  # type: ignore[no-any-return]

    def _resolve(self, column: exp.Column) -> None:
        from sqlglot import exp

        name = self._names.get(column.name.lower())
        if name is None:
            raise UntranslatableError(f"{column.name} is not a column")
        column.set("this", exp.Identifier(this=name, quoted=True))
        for part in ("table", "db", "catalog"):
            column.set(part, None)

    def _is_truth(self, literal: exp.Literal) -> bool:
        """Whether a literal is 0 or 1 that is compared with a boolean column."""
        parent = literal.parent
        return (
            not literal.is_string
            and literal.name in ("0", "1")
            and parent is not None
            and any(self._is_boolean(node) for node in parent.iter_expressions())
        )

    def _is_boolean(self, node: exp.Expr) -> bool:
        from sqlglot import exp

        node = node.unnest()
        return isinstance(node, exp.Column) and self._types[self._names[node.name.lower()]].kind == "boolean"


def _replace_casts(wrapper: exp.Expr) -> None:
    """Remove casts to text, and those of numbers."""
    from sqlglot import exp

    for cast in reversed(list(wrapper.find_all(exp.Cast))):  # inner casts first
        if cast.is_type(*_TEXT_CASTS):
            cast.replace(cast.this)
        elif number := _read_constant(cast):
            cast.replace(number)


def _read_constant(cast: exp.Cast) -> exp.Expr | None:
    """Return a number that a cast does not change, and that the same cast of another engine may: DECIMAL of MySQL has ten digits."""
    from sqlglot import exp

    value = cast.this.unnest()
    is_negative = isinstance(value, exp.Neg)
    value = value.this.unnest() if is_negative else value
    types = exp.DataType.NUMERIC_TYPES if value.name.lstrip("-").isdecimal() else exp.DataType.REAL_TYPES
    if not isinstance(value, exp.Literal) or cast.to.expressions or cast.to.this not in types:
        return None
    digits = value.name.removeprefix("-")
    if not _NUMBER.fullmatch(digits):
        return None
    number = exp.Literal.number(digits)
    return exp.Neg(this=number) if is_negative != value.name.startswith("-") else number


def _replace_any(node: exp.EQ) -> None:
    """Replace ``column = any(array[…])`` by ``column in (…)``."""
    from sqlglot import exp

    values = node.expression
    if not isinstance(values, exp.Any):
        return
    values = values.this
    while isinstance(values, exp.Paren | exp.Cast):
        values = values.this
    if isinstance(values, exp.Array):
        node.replace(exp.In(this=node.this.copy(), expressions=[each.copy() for each in values.expressions]))


def _compare_numbers(tree: exp.Expr, is_boolean: Callable[[exp.Expr], bool]) -> exp.Expr:
    """Replace columns with numbers that are used as a condition by comparisons with 0."""
    from sqlglot import exp

    wrapper = exp.Paren(this=tree)
    for node in list(_find_conditions(wrapper)):
        if isinstance(node, exp.Column) and not is_boolean(node):
            node.replace(exp.NEQ(this=node.copy(), expression=exp.Literal.number(0)))
    return wrapper.this  # type: ignore[no-any-return]


def _find_conditions(tree: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    for child in tree.iter_expressions():
        if isinstance(child, exp.And | exp.Or | exp.Not | exp.Paren):
            yield from _find_conditions(child)
        else:
            yield child


_NOW = re.compile(
    r"current_timestamp(\(\d*\))?|localtimestamp(\(\d*\))?|utc_timestamp(\(\d*\))?|sysdate(\(\d*\))?"
    r"|(now|clock_timestamp|statement_timestamp|transaction_timestamp)\(\d*\)"
    r"|datetime\('now'(,'subsec(ond)?')?\)|strftime\('[^']*','now'\)|unixepoch\(('now'(,'subsec(ond)?')?)?\)"
    r"|timezone\('utc'(::text)?,now\(\)\)|\(?(now\(\)|current_timestamp)\)?attimezone'utc'(::text)?"
)
_TODAY = re.compile(r"current_date(\(\))?|curdate\(\)|date\('now'\)|(now\(\)|'now'(::text)?)::date")
_UUID = re.compile(r"(gen_random_uuid|uuid_generate_v[14]|uuid)\(\)")
_CAST = re.compile(r"cast\((.*)as\w+(\(\d+(,\d+)?\))?\)")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


DefaultKind: TypeAlias = Literal["text", "number", "bytes", "now", "today", "uuid", "expression"]
_FUNCTIONS: Mapping[DefaultKind, re.Pattern[str]] = {"now": _NOW, "today": _TODAY, "uuid": _UUID}


class PortableDefault(Struct, frozen=True, kw_only=True):
    kind: DefaultKind
    value: str = ""  #: bytes: hexadecimal digits


def read_default(sql: str, dialect: str, kind: LogicalKind) -> PortableDefault | None:
    """Return the default of a column of a kind; None if it is NULL."""
    plain = _normalize(sql)
    for function, pattern in _FUNCTIONS.items():
        if pattern.fullmatch(plain):
            return PortableDefault(kind=function)
    default = _read_literal(sql, dialect)
    if default is None or default.kind != "text" or kind != "bytes":
        return default
    is_escaped = dialect == "postgres" and default.value.startswith("\\x")
    digits = default.value[2:] if is_escaped else default.value.encode().hex()
    return PortableDefault(kind="bytes", value=digits)


def _normalize(sql: str) -> str:
    """Return SQL in lower case without spaces, outer parentheses, and casts."""
    plain, previous = "".join(sql.lower().split()), ""
    while plain != previous:
        previous = plain
        plain = strip_parentheses(plain)
        if match := _CAST.fullmatch(plain):
            plain = match[1]
    return plain


def _read_literal(sql: str, dialect: str) -> PortableDefault | None:
    import sqlglot
    from sqlglot import exp

    expression = PortableDefault(kind="expression", value=sql)
    try:
        query = sqlglot.parse_one(f"select {sql}", dialect=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return expression
    tree = query.selects[0] if isinstance(query, exp.Query) and query.selects else query
    while isinstance(tree, exp.Paren | exp.Cast | exp.Introducer | exp.Alias):
        tree = tree.expression if isinstance(tree, exp.Introducer) else tree.this
    sign = "-" if isinstance(tree, exp.Neg) else ""
    if sign:
        tree = tree.this.unnest()
    if isinstance(tree, exp.Null):
        return None
    if isinstance(tree, exp.Literal):
        return PortableDefault(kind="text" if tree.is_string else "number", value=sign + tree.name)
    read = _LITERALS.get(type(tree).__name__)
    return read(tree) if read else expression


_LITERALS: Mapping[str, Callable[[exp.Expr], PortableDefault]] = {
    "Boolean": lambda tree: PortableDefault(kind="number", value="1" if tree.this else "0"),
    "HexString": lambda tree: PortableDefault(kind="bytes", value=tree.name.removeprefix("0x").lower()),
    "BitString": lambda tree: PortableDefault(kind="number", value=str(int(tree.name, 2))),
}


def fits_kind(default: PortableDefault, kind: LogicalKind) -> bool:
    """Whether a literal is a value of a kind."""
    if kind == "bytes" or default.kind == "bytes":
        return kind == default.kind
    if "\0" in default.value:  # no statement can contain it
        return False
    try:
        return bool(_PARSERS[kind](default.value)) if kind in _PARSERS else True
    except ValueError:
        return False


_PARSERS: Mapping[LogicalKind, Callable[[str], object]] = {
    "boolean": re.compile(r"[01]|true|false|t|f", re.IGNORECASE).fullmatch,
    "integer": re.compile(r"[-+]?\d+").fullmatch,
    "decimal": _NUMBER.fullmatch,
    "real": _NUMBER.fullmatch,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": lambda value: [time.fromisoformat(value)],
}


class ViewQueries:
    """Translates the queries of views over tables with known columns."""

    def __init__(self, source: str, destination: str, types: Mapping[str, Mapping[str, LogicalType]]) -> None:
        """Set the dialects, by their names in sqlglot, and the types of columns by table."""
        self._source, self._destination = source, destination
        self._tables = {name.lower(): name for name in types}
        self._columns = {name.lower(): name for columns in types.values() for name in columns}
        self._booleans = {
            name.lower()
            for columns in types.values()
            for name, logical in columns.items()
            if logical.kind == "boolean"
        }

    def create(
        self,
        views: Iterable[PortableView],
        quote: Callable[[str], str],
        omit: Callable[[str, str, str], object],
    ) -> Iterator[str]:
        """Yield the statements that create views; ``omit`` receives kind, name and reason of one that cannot be created."""
        omitted = set[str]()
        for view in views:
            try:
                query = self.translate(view.query)
            except UntranslatableError as error:
                omit("view", view.name, str(error))
                omitted.add(view.name.lower())
                continue
            if other := next((name for name in omitted if quote(name).lower() in query.lower()), ""):
                omit("view", view.name, f"it reads view {other}")
                omitted.add(view.name.lower())
            else:
                yield f"create view {quote(view.name)} as {query}"

    def translate(self, sql: str) -> str:
        """Return a query in the destination's SQL, with every name in quotes.

        Raises:
            UntranslatableError: it has no equivalent.
        """
        from sqlglot import exp

        tree = _parse_sql(sql, self._source)
        query = tree.expression if isinstance(tree, exp.Create) else tree
        if not isinstance(query, exp.Query) or (
            isinstance(tree, exp.Create) and isinstance(tree.this, exp.Schema)
        ):
            raise UntranslatableError("it cannot be parsed")
        self._require_portable(query.walk())
        aliases = {alias.name.lower() for alias in query.find_all(exp.TableAlias)}
        for identifier in query.find_all(exp.Identifier):
            identifier.replace(exp.Identifier(this=self._find_spelling(identifier, aliases), quoted=True))
        for node in query.find_all(exp.Table, exp.Column):
            node.set("db", None)
        return query.sql(dialect=self._destination)

    def _find_spelling(self, identifier: exp.Identifier, aliases: Collection[str]) -> str:
        """Return a name as it was created; the case of aliases of tables does not matter before, but matters in quotes."""
        place, name = (type(identifier.parent).__name__, identifier.arg_key), identifier.name
        if place == ("TableAlias", "this") or (place == ("Column", "table") and name.lower() in aliases):
            return name.lower()
        if place in (("Table", "this"), ("Column", "table")):
            return self._tables.get(name.lower(), name)
        return self._columns.get(name.lower(), name) if place == ("Column", "this") else name

    def _require_portable(self, nodes: Iterable[exp.Expr]) -> None:
        from sqlglot import exp

        for node in nodes:
            if type(node).__name__ not in PORTABLE_NODES or node.args.get("binary"):
                raise UntranslatableError(f"{node.sql(dialect=self._source)[:60]} has no equivalent")
            if (
                isinstance(node, exp.Column)
                and node.name.lower() in self._booleans
                and _has_number(node.parent)
            ):
                raise UntranslatableError(f"{node.name} is compared with a number")


def _has_number(node: exp.Expr | None) -> bool:
    from sqlglot import exp

    return node is not None and any(
        isinstance(child, exp.Literal) and child.is_number for child in node.iter_expressions()
    )
