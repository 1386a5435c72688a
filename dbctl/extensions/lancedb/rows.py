"""Read rows: predicates, scans with conditions, rows by their ID, and the search of a word in all texts.

The library has no joins, subqueries, CASE or parameters.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from operator import eq, ge, gt, le, lt
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract.database import AllOf, AnyOf, Condition, InSubquery, Not, ReferenceCount, Where
from dbctl.engines.contract.fulltext import CHARACTERS_AFTER, CHARACTERS_BEFORE, TextMatch, TextScanner
from dbctl.engines.sql.catalog import lower_ascii
from dbctl.engines.sql.query_builder import match_rows
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb.catalog import Catalog
from dbctl.extensions.lancedb.scalars import EPOCH, UNIT_DIGITS, parse_number, parse_time
from dbctl.extensions.lancedb.values import (
    MATCH_ALL,
    MATCH_NONE,
    Row,
    has_literals,
    is_list,
    is_struct,
    quote_name,
    quote_text,
    refuse_unstorable,
    to_literal,
    to_rows,
    type_family,
)
from dbctl.model import split_batches
from dbctl.profiles.codecs import SMALLEST_MILLISECONDS

if TYPE_CHECKING:
    import pyarrow as pa

    from dbctl.extensions.lancedb.reader import LanceReader


OPERATORS = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
#: No column has larger numbers of its smallest unit.
MAX_NUMBER = Decimal(10) ** 80
#: Rounds no number of a column, as the default context does with more than 28 digits.
EXACT = Context(prec=200)


def _compare_value(name: str, column_type: pa.DataType, op: str, operand: object) -> str:
    if isinstance(operand, datetime) and type_family(column_type) != "time":
        return _compare_time(name, column_type, op, round(operand.timestamp() * 1000))
    operand_literal = _write_exact(operand, column_type)
    if operand_literal is not None:
        return f"{name} {op} {operand_literal}"
    if not has_literals(column_type):
        raise no_condition_error(name, column_type)
    if op[0] in "<>":
        return _compare_between(name, column_type, op, operand)
    return f"{name} is not null" if op == "!=" else MATCH_NONE


def _write_exact(operand: object, column_type: pa.DataType) -> str | None:
    """Return a value as a literal; None if the column cannot contain it, also because it is more precise."""
    number = _scale(operand, column_type)
    return to_literal(operand, column_type) if number is None or _is_stored(number, column_type) else None


def _compare_between(name: str, column_type: pa.DataType, op: str, operand: object) -> str:
    """Return a predicate that compares with a value between two that a column can store, or beyond them."""
    number = _scale(operand, column_type)
    if number is None:
        return MATCH_NONE
    if -MAX_NUMBER < number < MAX_NUMBER:
        bound = Decimal(math.floor(number) if op[0] == "<" else math.ceil(number))
        if _is_stored(bound, column_type) and (literal := _write_scaled(bound, column_type)) is not None:
            return f"{name} {op[0]}= {literal}"
    return f"{name} is not null" if (number > 0) == (op[0] == "<") else MATCH_NONE


def _scale(operand: object, column_type: pa.DataType) -> Decimal | None:
    """Return a number or a time in the smallest unit of the type of its column; None without one, or for another value."""
    family = type_family(column_type)
    if family == "time":
        parsed = parse_time(operand if isinstance(operand, date) else str(operand))
        if parsed is None:
            return None
        microseconds = (parsed[0] - EPOCH) // timedelta(microseconds=1)
        return (Decimal(microseconds) + Decimal(parsed[1]) / 1000) / _read_unit(column_type)
    number = parse_number(operand) if family in ("integer", "decimal", "duration") else None
    if number is None or math.isnan(number):
        return None
    bounded = max(-MAX_NUMBER, min(Decimal(str(number)), MAX_NUMBER))
    return EXACT.divide(bounded, _read_unit(column_type))


def _read_unit(column_type: pa.DataType) -> Decimal:
    """Return the smallest difference of two values: of times in microseconds, of durations in seconds."""
    match type_family(column_type):
        case "time":
            is_date = str(column_type).startswith("date")
            return (
                Decimal(86_400_000_000) if is_date else Decimal(1).scaleb(6 - UNIT_DIGITS[column_type.unit])
            )
        case "duration":
            return Decimal(1).scaleb(-UNIT_DIGITS[column_type.unit])
        case "decimal":
            return Decimal(1).scaleb(-column_type.scale)
        case _:
            return Decimal(1)


def _is_stored(number: Decimal, column_type: pa.DataType) -> bool:
    """Whether a column can contain a number of its smallest unit."""
    limit = min(MAX_NUMBER, Decimal(10) ** getattr(column_type, "precision", 80))
    return -limit < number < limit and number == int(number)


def _write_scaled(number: Decimal, column_type: pa.DataType) -> str | None:
    """Return a whole number of the smallest unit as a literal of the type."""
    value: object = EXACT.multiply(number, _read_unit(column_type))
    if type_family(column_type) == "time":
        try:
            value = EPOCH + timedelta(microseconds=int(EXACT.multiply(number, _read_unit(column_type))))
        except OverflowError:
            return None
    return to_literal(value, column_type)


def no_condition_error(name: str, column_type: pa.DataType) -> NotSupportedError:
    """Return the error for a comparison with a value for which the library has no literal; no row and every row would be wrong."""
    return NotSupportedError(
        feature=f"a condition on {name}, of type {column_type}",
        subject="LanceDB",
        hint="Select rows by another column.",
    )


def fold_case(value: str) -> str:
    """Return an expression with ASCII letters in lower case."""
    return f"translate({value}, '{ascii_uppercase}', '{ascii_lowercase}')"


def _text_test(value: str, op: str, operand: str) -> str:
    refuse_unstorable(operand)
    folded_operand = lower_ascii(operand)
    if op == "element":
        elements = f"concat(';', replace({fold_case(value)}, '; ', ';'), ';')"
        return f"strpos({elements}, {quote_text(f';{folded_operand.strip().replace(chr(59) + chr(32), chr(59))};')}) > 0"
    if op == "same":
        return f"{fold_case(value)} = {quote_text(folded_operand)}"
    if not folded_operand:
        return f"{value} is not null"
    if op == "starts":
        return f"starts_with({fold_case(value)}, {quote_text(folded_operand)})"
    return f"strpos({fold_case(value)}, {quote_text(folded_operand)}) > 0"


def _express_texts(name: str, column_type: pa.DataType) -> Iterator[str]:
    """Yield an expression for each text in a column, also in an object or a list; the library has none for objects in lists, and for maps."""
    if type_family(column_type) == "text":
        yield name
    elif is_struct(column_type):
        for field in column_type:
            if "`" not in field.name:  # the library cannot escape it
                yield from _express_texts(f"{name}.{quote_name(field.name)}", field.type)
    elif is_list(column_type) and type_family(column_type.value_type) == "text":
        yield f"cast({name} as string)"


def _compare_time(name: str, column_type: pa.DataType, op: str, milliseconds: int) -> str:
    """Return a predicate that compares a stored time of any form; rows without a valid time do not match."""
    if type_family(column_type) not in {"text", "integer", "float"}:
        return MATCH_NONE
    return f"{express_milliseconds(name, column_type)} {op} {milliseconds}.0"


def express_milliseconds(name: str, column_type: pa.DataType) -> str:
    """Return an expression with the milliseconds of a stored time, a number or a text; null for a text that is no time.

    Times as text are ISO dates, or 9 to 13 digits. Numbers below ``SMALLEST_MILLISECONDS`` are seconds.
    """
    if type_family(column_type) != "text":
        return scale_to_milliseconds(f"cast({name} as double)")
    microseconds = f"cast(try_cast({name} as timestamp(6)) as bigint)"
    number = f"cast(try_cast({name} as bigint) as double)"
    # without CASE, a number of another length becomes 0, and then null
    is_time = f"cast({number} >= 1e8 and {number} < 1e13 as double)"
    return f"coalesce({microseconds} / 1000.0, nullif({scale_to_milliseconds(number)} * {is_time}, 0.0))"


def scale_to_milliseconds(number: str) -> str:
    """Return an expression with the milliseconds of a time that is a double."""
    return f"{number} * (1.0 + 999.0 * cast(abs({number}) < {SMALLEST_MILLISECONDS}.0 as double))"


#: The library's name of the row ID.
ROW_ID = "_rowid"
#: Rows per batch, without vectors.
BATCH_ROWS = 8192
#: The start of the library's message after a timeout.
TIMEOUT_MESSAGE = "Query timeout"
#: Rows per query by row ID.
ROWS_PER_READ = 10_000


class RowReader:
    """Reads rows of the tables of a catalog, in stored order, and compiles conditions on them."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def scan(
        self,
        table: str,
        columns: Sequence[str] | Mapping[str, str],
        where: Sequence[Where] = (),
        *,
        limit: int | None = None,
        batch_rows: int = BATCH_ROWS,
        time_limit: timedelta | None = None,
    ) -> pa.RecordBatchReader:
        """Return batches; with row IDs if ``columns`` is empty or maps names to expressions.

        The caller translates errors of the library (``Catalog.translate_errors``).
        """
        predicate = self.predicate(table, where)
        query = (
            self.catalog.open_table(table)
            .search(None)
            .select(dict(columns) if isinstance(columns, Mapping) else list(columns))
        )
        if predicate:
            query = query.where(predicate)
        if limit is not None:
            query = query.limit(limit)
        if not columns or isinstance(columns, Mapping):
            query = query.with_row_id(True)  # noqa: FBT003 - the library's
        timeout = None if time_limit is None else max(time_limit, timedelta(milliseconds=1))
        return query.to_batches(batch_rows, timeout=timeout)

    def read(self, table: str, columns: Sequence[str], where: Sequence[Where]) -> list[Row]:
        """Return the rows that meet all conditions.

        Raises:
            SchemaMismatchError: the table or a column does not exist.
        """
        self.catalog.require_columns(table, columns)
        with self.catalog.translate_errors():
            return [row for batch in self.scan(table, columns, where) for row in to_rows(batch, columns)]

    def read_within(
        self, time_limit: timedelta, table: str, columns: Sequence[str], where: Where, *, limit: int
    ) -> list[Row] | None:
        """Return rows that meet a condition, in no order; None after a time limit."""
        selected, deadline = list(dict.fromkeys(columns)), time.monotonic() + time_limit.total_seconds()
        try:
            with self.catalog.translate_errors():
                batch = self.scan(table, selected, [where], limit=limit, time_limit=time_limit).read_all()
        except QueryFailedError as error:
            if TIMEOUT_MESSAGE in str(error):
                return None
            raise
        return to_rows(batch, columns) if time.monotonic() <= deadline else None

    def read_by_id(self, table: str, columns: Sequence[str], row_ids: Sequence[int]) -> list[Row]:
        """Return the rows with these row IDs, in this order."""
        result: list[Row] = []
        selected = list(dict.fromkeys(columns))
        with self.catalog.translate_errors():
            for batch_ids in split_batches(row_ids, ROWS_PER_READ):
                signals.raise_if_interrupted()
                query = self.catalog.open_table(table).take_row_ids(batch_ids)
                batch = query.select(selected).with_row_id().to_arrow()
                rows_by_id = dict(zip(batch.column(ROW_ID).to_pylist(), to_rows(batch, columns), strict=True))
                result += [rows_by_id[row_id] for row_id in batch_ids]
        return result

    def predicate(self, table: str, where: Sequence[Where]) -> str | None:
        """Return the conjunction of the conditions, or None without conditions."""
        return self._join(table, where, " and ") or None

    def _join(self, table: str, conditions: Sequence[Where], operator: str) -> str:
        return operator.join(f"({self._compile(table, condition)})" for condition in conditions)

    def _compile(self, table: str, where: Where) -> str:
        match where:
            case Condition():
                return self._compare(table, where)
            case InSubquery():
                return self._in_subquery(table, where)
            case ReferenceCount():
                return self._reference_count(table, where)
            case AnyOf() | AllOf():
                is_any = isinstance(where, AnyOf)
                joined = self._join(table, where.conditions, " or " if is_any else " and ")
                return joined or (MATCH_NONE if is_any else MATCH_ALL)
            case Not():
                return f"({self._compile(table, where.condition)}) is not true"

    def _compare(self, table: str, where: Condition) -> str:
        name, column_type = self._resolve(table, where.column)
        op, value = "=" if where.op == "identical" else where.op, where.value
        if where.op == "identical" and value is not None and not has_literals(column_type):
            return MATCH_NONE  # so that the value is stored again
        if op == "in":
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise TypeError("op 'in' takes a sequence")
            return self._in_list(name, column_type, value)
        if op in ("same", "contains", "starts", "element"):
            texts = list(_express_texts(name, column_type)) or [f"cast({name} as string)"]
            return " or ".join(_text_test(text, op, str(value)) for text in texts)
        if value is None:
            return f"{name} is null" if op == "=" else f"{name} is not null" if op == "!=" else MATCH_NONE
        return _compare_value(name, column_type, op, value)

    def _resolve(self, table: str, column: str) -> tuple[str, pa.DataType]:
        """Return a column as an expression, and its type."""
        return self.catalog.column_expression(table, column), self.catalog.column_type(table, column)

    def _in_list(self, name: str, column_type: pa.DataType, values: Sequence[object]) -> str:
        if not has_literals(column_type) and any(value is not None for value in values):
            raise no_condition_error(name, column_type)
        literals = [
            text for text in (_write_exact(value, column_type) for value in values) if text is not None
        ]
        return f"{name} in ({', '.join(dict.fromkeys(literals))})" if literals else MATCH_NONE

    def _in_subquery(self, table: str, where: InSubquery) -> str:
        rows = dict.fromkeys(self.read(where.table, where.target_columns, where.where))
        return self._compile(table, match_rows(where.columns, [row for row in rows if None not in row]))

    def _reference_count(self, table: str, where: ReferenceCount) -> str:
        rows = self.read(where.table, [where.referring_column], ())
        counts = Counter(value for (value,) in rows if value is not None)
        is_match = OPERATORS[where.op]
        includes_zero = is_match(0, where.count)  # rows without references match, too: list the others
        listed = [key for key, count in counts.items() if is_match(count, where.count) != includes_zero]
        predicate = self._in_list(*self._resolve(table, where.column), listed)
        return f"({predicate}) is not true" if includes_zero else predicate


class LanceTextScanner(TextScanner):
    def __init__(self, db: LanceReader) -> None:
        self._catalog, self._rows = db.catalog, db.rows

    def text_columns(self, table: str) -> Sequence[str]:
        return [
            name
            for name in self._catalog.require_table(table).columns
            if any(_express_texts(name, self._catalog.column_type(table, name)))
        ]

    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        key = self._catalog.primary_key(table)
        where = AnyOf([Condition(name, "contains", word) for name in columns])
        rows = self._rows.read_within(timeout, table, [*key, *columns], where, limit=limit)
        if rows is None:
            return None
        nested = {name for name in columns if type_family(self._catalog.column_type(table, name)) == "nested"}
        matches = list[TextMatch]()
        for row in rows:
            texts = dict(zip(columns, row[len(key) :], strict=True))
            excerpts = {
                name: excerpt
                for name, text in texts.items()
                if (excerpt := _excerpt_document(text, word) if name in nested else _excerpt(text, word))
            }
            matches.append(TextMatch(row[: len(key)], excerpts))
        return matches


def _excerpt_document(document: object, word: str) -> str:
    """Return the same for the first text with the word in an object or a list, as JSON."""
    texts = _list_texts(json.loads(document)) if isinstance(document, str) else ()
    return next(filter(None, (_excerpt(text, word) for text in texts)), "")


def _list_texts(document: object) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, list | dict):
        for value in document.values() if isinstance(document, dict) else document:
            yield from _list_texts(value)


def _excerpt(text: object, word: str) -> str:
    """Return the first occurrence of a word with the text around it; empty if there is none."""
    position = lower_ascii(text).find(lower_ascii(word)) if isinstance(text, str) else -1
    if not isinstance(text, str) or position < 0:
        return ""
    return text[max(0, position - CHARACTERS_BEFORE) : position + len(word) + CHARACTERS_AFTER]
