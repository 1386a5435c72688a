"""A table for the ``data`` commands: rows by key, filters, and values by the live schema."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import product

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Column,
    Condition,
    Op,
    Readable,
    Reference,
    Where,
    after_key,
)
from dbctl.engines.sql.codec import SHOWN_BYTES
from dbctl.errors.base import Remedy
from dbctl.errors.databases import ColumnMissingError, LimitExceededError, RowNotFoundError
from dbctl.errors.usage import UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.errors.users import ObjectMissingError
from dbctl.model import Row, Struct, format_count, now, sort_by_use
from dbctl.profiles.codecs import BOOLEANS, explain_incomparable, read_time
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column, find_named_key
from dbctl.services.app.results import is_time, missing_table_error, stores_days, stores_texts, time_columns
from dbctl.services.app.secrets import find_secret_columns, find_table_secrets
from dbctl.services.app.user_roles.form import BOOLEAN_TYPE
from dbctl.services.app.validation import day_after, parse_boolean, parse_day, parse_time, truncate

_BINARY_KEY = Remedy(
    "Write bytes as '\\x…' with hexadecimal digits, in quotation marks. List rows with: `data rows {table}`"
)
_LEDGER = Remedy("Use: `migrate mark NAME`; or: `migrate repair`")
#: A server that scans a table also reads rows that other sessions have added since the snapshot, and refuses them.
CONFLICT_HINT = "Nothing was changed. Run it again. If other sessions add rows all the time, exclude new rows by their primary key, such as with: --filter 'id<=1000'"
_NUMBER = re.compile(r"-?[0-9]+([.][0-9]+)?(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
_NUMERIC_TYPE = re.compile("INT|REAL|FLOA|DOUB|NUMERIC|DECIMAL")
#: Types of texts and of bytes, but not of lists of them.
_TEXT_TYPE = re.compile(r".*(?:CHAR|TEXT|CLOB)[^[]*")
_BYTES_TYPE = re.compile(r".*(?:BINARY|BLOB|BYTEA)[^[]*")
_NANOSECONDS = re.compile(r"\.[0-9]{7}")
#: Operators of filters, the longer ones first.
OPERATORS: Mapping[str, Op] = {
    "!=": "!=",
    "<=": "<=",
    ">=": ">=",
    "=": "=",
    "<": "<",
    ">": ">",
    ":": "contains",
}


def selected_database(app: App) -> str:
    """Return the database of ``--db``, or the main database."""
    return app.only or app.main_database


def list_ledger_tables(app: App, database: str, db: Readable) -> Sequence[str]:
    """Return the tables in which dbctl records migrations, whether they exist or not."""
    migrations = app.database(database).migrations
    if migrations is None:
        return []
    ledger = ledger_detection.resolve_ledger(app.profile, migrations.ledger)
    if migrations.ledger == ledger_detection.AUTO:
        ledger, _ = ledger_detection.detect_ledgers(db, app.url(database).engine, own=migrations.foreign)
    return [ledger.table, ledger_detection.JOURNAL]


def refuse_ledger_name(app: App, database: str, db: Readable, name: str) -> None:
    """Refuse a change of the ledger of migrations, or of a table with its name; raises as ``DataTable.refuse_reserved``."""
    if name in list_ledger_tables(app, database, db):
        raise UseDedicatedCommandError(operation=f"changing the ledger {name}", hint=_LEDGER)


class Filters(Struct, frozen=True, kw_only=True):
    """Conditions of rows, all of which must be met."""

    conditions: Sequence[str] = ()  #: ``COLUMN=VALUE`` and other operators
    null: Sequence[str] = ()  #: columns that are NULL
    not_null: Sequence[str] = ()


class DataTable:
    """One table or view of one open database."""

    def __init__(
        self, app: App, db: Readable, name: str, *, secrets: bool = False, database: str = ""
    ) -> None:
        """Open the table; ``db`` is ``database``, by default the one of ``selected_database``.

        Raises:
            TableMissingError: the table does not exist; the hint suggests similar names.
        """
        self.database = database or selected_database(app)
        if name not in db.tables():
            raise missing_table_error(app, db, name)
        self.app, self.db, self.name = app, db, name
        self.live = LiveTable(app.profile, db, name, "data")
        self.columns = self.live.table.columns
        self.key = self.live.table.primary_key
        self.hidden: Collection[str] = frozenset(() if secrets else self._find_secrets())
        self._times = time_columns(app, self.database, self.live)
        users = app.profile.users
        active = users.fields.get("active") if users and not users.active and users.table == name else None
        self._booleans = {find_column(self.live.table, active)}

    def _find_secrets(self) -> Collection[str]:
        """Return the secret columns; only those of a view depend on other tables, one of which may be damaged."""
        if self.live.table.is_view:
            return find_secret_columns(self.app, self.database, self.db, [self.name]).get(self.name, [])
        return find_table_secrets(self.app, self.database, self.db, self.name, sampled=True)

    def refuse_reserved(self) -> None:
        """Refuse a change of the ledger of migrations, and of a table in which the engine stores an index.

        Raises:
            UseDedicatedCommandError: the table is the ledger or the journal.
            UsageError: it belongs to an index.
        """
        refuse_ledger_name(self.app, self.database, self.db, self.name)
        if self.live.table.is_internal:
            raise UsageError(
                detail=f"{self.name} belongs to an index, which a change of its rows would damage"
            )

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            ColumnMissingError: the column does not exist.
        """
        if name not in self.columns:
            raise ColumnMissingError(
                table=self.name, column=name, names=", ".join(self.columns), candidates=self.columns
            )
        return self.columns[name]

    def require_readable_column(self, name: str) -> Column:
        """Return a column for a filter or a sort order, either of which could reveal a secret step by step.

        Raises:
            UsageError: the column is secret.
        """
        column = self.column(name)
        if name in self.hidden:
            raise UsageError(detail=f"{self.name}.{name} is secret; add --secrets to use it")
        return column

    def read(
        self, columns: Sequence[str], where: Sequence[Where], **options: object
    ) -> list[dict[str, object]]:
        """Return rows with masked secrets; ``options`` are passed to ``select``."""
        rows = self.db.select(self.name, columns, where, **options)  # type: ignore[arg-type]
        return [
            {name: self.mask_value(name, value) for name, value in zip(columns, row, strict=True)}
            for row in rows
        ]

    def read_stored(self, where: Sequence[Where], *, for_update: bool = False) -> list[dict[str, object]]:
        """Return stored rows, including secrets; ``for_update`` locks them if a transaction is open."""
        names = list(self.columns)
        rows = self.db.select(self.name, names, where, for_update=for_update)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def count_matches(self, where: Sequence[Where], limit: int) -> int:
        """Return the number of rows that meet conditions.

        Raises:
            LimitExceededError: it exceeds ``limit``.
        """
        matched = self.db.count(self.name, where)
        if matched > limit:
            raise LimitExceededError(target=self.db.target, table=self.name, rows=matched, limit=limit)
        return matched

    def mask_value(self, column: str, value: object) -> object:
        """Return the value, or a mask if the column is secret."""
        return MASK if column in self.hidden and value is not None else value

    def find_stamp(self, values: Collection[str]) -> str | None:
        """Return the column with the time of the last change, unless it is among the changed columns."""
        stamp = find_column(self.live.table, self.app.database(self.database).updated_at)
        return stamp if stamp not in values else None

    # Keys ------------------------------------------------------------------------------------------------------

    def key_conditions(self, key: Sequence[str]) -> list[Where]:
        """Return the conditions of the row with a primary key, given as text.

        Raises:
            UsageError: the table has no primary key, or its number of columns differs.
            RowNotFoundError: no row can have this key.
        """
        try:
            return [
                Condition(name, "=", value)
                for name, value in zip(self.key, self._parse_key(key), strict=True)
            ]
        except ValueInvalidError:
            raise self._create_not_found(key) from None

    def rows_after(self, key: Sequence[str]) -> Where:
        """Return the condition of the rows after a primary key.

        Raises:
            UsageError: see ``key_conditions``; also for a secret key.
            ValueInvalidError: no row can have this key, so its position is undefined.
        """
        values = self._parse_key(key)
        for name, text in zip(self.key, key, strict=True):
            self.parse_typed(self.require_readable_column(name).name, text)
        return after_key(self.key, values)

    def require_key(self) -> Sequence[str]:
        """Return the columns of the primary key.

        Raises:
            UsageError: the table has none.
        """
        if not self.key:
            kind = "a view" if self.live.table.is_view else "without a primary key"
            raise UsageError(detail=f"{self.name} is {kind}, so its rows have no key")
        return self.key

    def _parse_key(self, key: Sequence[str]) -> Sequence[object]:
        """Return the values of a primary key, given as text."""
        self.require_key()
        if len(key) != len(self.key):
            raise UsageError(
                detail=f"the key of {self.name} has {format_count(len(self.key), 'part')}: {' '.join(self.key).upper()}"
            )
        exact = [self._parse_exact(name, text) for name, text in zip(self.key, key, strict=True)]
        first, *others = product(*((value,) if text is None else (value, text) for value, text in exact))
        if not others:
            return first
        # numbers are before texts; of several keys, that of a stored row
        return next((values for values in (first, *others) if self._has_key(values)), first)

    def _has_key(self, values: Sequence[object]) -> bool:
        where = [Condition(name, "=", value) for name, value in zip(self.key, values, strict=True)]
        return self.db.count(self.name, where) > 0

    def complete_key(self, key: Sequence[str]) -> Sequence[str]:
        """Return the key with a UUID instead of its beginning; raises AmbiguousIdError if several rows have such a key."""
        if len(self.key) != 1 or len(key) != 1:
            return key
        return [self.live.complete_id(self.key[0], key[0])]

    def find(self, key: Sequence[str]) -> dict[str, object]:
        """Return one stored row; lock it if a transaction is open.

        Raises:
            RowNotFoundError: the row does not exist.
        """
        for row in self.read_stored(self.key_conditions(key), for_update=True):
            return row
        raise self._create_not_found(key)

    def _create_not_found(self, key: Sequence[str]) -> RowNotFoundError:
        hint = {"hint": _BINARY_KEY} if any(self.columns[name].is_binary for name in self.key) else {}
        return RowNotFoundError(
            table=self.name,
            target=self.db.target,
            key=" ".join(ascii(truncate(part)) for part in key),
            **hint,
        )

    # Values ----------------------------------------------------------------------------------------------------

    def is_time(self, column: str) -> bool:
        """Whether a column contains times, by its type or by the profile."""
        return is_time(self.db, self.columns[column], self._times)

    def parse_value(self, column: str, text: str) -> object:
        """Return the stored value of a text for a column; a name of the row that the column refers to becomes its key.

        Raises:
            ValueInvalidError: the text is invalid for the column.
            ObjectMissingError, AmbiguousNameError: the profile names the rows of the other table, and none or several have the text.
        """
        definition = self.column(column)
        if reference := self._find_named_reference(column):
            return self._parse_reference(column, text, *reference)
        if self._is_boolean(definition):
            return self._encode_boolean(definition, text)
        if (time := self._parse_time(definition, text)) is not None:
            if stores_days(self.live, definition):
                return parse_day(column, text, time)
            if definition.native == "time" and text != "now":
                self.parse_typed(column, time.isoformat())  # refuses what the column would round
            return self.live.encode(column, time, typed=text)
        value, other = self.parse_typed(column, text), self._parse_exact(column, text)[1]
        return other if other is not None and stores_texts(self.live, column) else value

    def _parse_time(self, definition: Column, text: str) -> datetime | None:
        """Return the time that a text is for a column; None for a number, what only a server parses, and a column without times."""
        is_number = _NUMBER.fullmatch(text) and _NUMERIC_TYPE.search(definition.type)
        is_bytes = definition.is_binary and text.startswith(SHOWN_BYTES)
        if is_number or is_bytes or not self.is_time(definition.name):
            return None
        is_unparsed = read_time(text) is None and text != "now"  # infinity, a zero date, or no time
        if definition.native == "time" and (is_unparsed or _NANOSECONDS.search(text)):
            return None  # no datetime: the database parses the text
        return now() if text == "now" else parse_time(definition.name, text)

    def _find_named_reference(self, column: str) -> tuple[str, str, Sequence[str]] | None:
        """Return the table and column that a foreign key refers to, and the columns with the names of rows; None: no names."""
        tables, names = self.db.tables(), dict[str, list[str]]()
        for path in self.app.database(self.database).row_names:
            table, _, name = path.removesuffix("?").rpartition(".")
            if table in tables and name in tables[table].columns:
                names.setdefault(table, []).append(name)
        for table, columns in names.items():
            for reference in self.db.references(table):
                if reference.table == self.name and list(reference.columns) == [column]:
                    return table, reference.to[0], columns
        return None

    def _parse_reference(self, column: str, text: str, table: str, key: str, names: Sequence[str]) -> object:
        """Return an existing key as it is, otherwise the key of the row with a name; raises as ``parse_value``."""
        with suppress(ValueInvalidError):
            value = self.parse_typed(column, text)
            if self.db.count(table, [Condition(key, "=", value)]):
                return value
        named_key = find_named_key(self.db, table, key, names, text)
        if named_key is None:
            raise ObjectMissingError(name=truncate(text), table=table, target=self.db.target)
        return named_key

    def parse_typed(self, column: str, text: str) -> object:
        """Return the stored value of a text in the form of the database; raises as ``parse_value``."""
        return self.db.codec.text_parser(self.name, column)(text)

    def _parse_exact(self, column: str, text: str) -> tuple[object, str | None]:
        """Return a value, and its text if the value is a number and the column can have either, as SQLite permits."""
        parse = self.db.codec.csv_parser(self.name, column)
        value = parse(text, not re.search("CHAR|TEXT|CLOB", self.columns[column].type))
        other = parse(text, False) if isinstance(value, int | float) else None  # noqa: FBT003 - as a quoted cell
        return value, other if isinstance(other, str) else None

    def _is_boolean(self, definition: Column) -> bool:
        if definition.native == "boolean" or definition.name in self._booleans:
            return True
        return "boolean" not in self.db.native_types and bool(re.fullmatch(BOOLEAN_TYPE, definition.type))

    def _encode_boolean(self, definition: Column, text: str) -> object:
        boolean = parse_boolean(definition.name, text)
        return boolean if definition.native == "boolean" else BOOLEANS[self.app.profile.boolean][boolean]

    # Filters ---------------------------------------------------------------------------------------------------

    def parse_filter(self, text: str) -> Where:
        """Return the condition of ``COLUMN=VALUE``; also ``!=``, ``<``, ``<=``, ``>``, ``>=``, and ``:`` for "contains".

        Raises:
            UsageError, ColumnMissingError: the filter is invalid.
        """
        for name in sorted(self.columns, key=len, reverse=True):
            operator = next((operator for operator in OPERATORS if text.startswith(f"{name}{operator}")), "")
            if operator:
                column, value = self.require_readable_column(name), text.removeprefix(name + operator)
                return self._compare(column, OPERATORS[operator], value)
        column_name = re.split("[!<>=:]", text, maxsplit=1)[0]
        if column_name == text:
            raise UsageError(
                detail=f"--filter {text!r}: write it as COLUMN=VALUE, or with != < <= > >= or : (contains)"
            )
        self.column(column_name)
        raise UsageError(detail=f"--filter {text!r}: expected = != < <= > >= or : after {column_name}")

    def conditions(self, filters: Filters) -> list[Where]:
        """Return the conditions of filters; for errors see ``parse_filter``."""
        where = [self.parse_filter(text) for text in filters.conditions]
        where += [Condition(self.require_readable_column(name).name, "=", None) for name in filters.null]
        where += [Condition(self.require_readable_column(name).name, "!=", None) for name in filters.not_null]
        return where

    def _compare(self, definition: Column, op: Op, text: str) -> Where:
        name = definition.name
        if op == "contains":
            return Condition(name, op, text)
        if self._is_boolean(definition):
            return Condition(name, op, self._encode_boolean(definition, text))
        timestamp = self._parse_time(definition, text)
        if op != "=" and definition.native != "time" and not _NUMBER.fullmatch(text):
            stored = [value for (value,) in self.live.sample([name])]
            reason = explain_incomparable(text, stored, is_time=timestamp is not None, orders=op != "!=")
            if reason:
                raise ValueInvalidError(name=name, value=ascii(truncate(text)), reason=f"the column {reason}")
        if timestamp is not None:
            if op == "=" and len(text) == len("2026-01-31") and not text.isdecimal():
                return AllOf([Condition(name, ">=", timestamp), Condition(name, "<", day_after(timestamp))])
            return Condition(name, op, timestamp)
        try:
            value, other = self._parse_exact(name, text)
            return _compare_either(name, op, value, other)
        except ValueInvalidError:  # no row has this value; a typing error could select all rows
            comparable = _find_comparable(definition, text) if op not in ("=", "!=") else text
            if op == "!=" or comparable is None or definition.native == "time":
                raise
            return Condition(name, op, comparable)


def _find_comparable(definition: Column, text: str) -> str | bytes | None:
    """Return by what a column orders its values before or after a text that it cannot store; None: it orders none."""
    if _BYTES_TYPE.fullmatch(definition.type):  # the app may store texts as bytes
        return None if text.startswith(SHOWN_BYTES) else text.encode(errors="surrogateescape")
    return text if _NUMBER.fullmatch(text) or _TEXT_TYPE.fullmatch(definition.type) else None


def _compare_either(name: str, op: Op, value: object, other: str | None) -> Where:
    """Compare a column with a number or, if ``other`` is its text, with both: numbers are before all texts, also before an empty one."""
    condition: Where = Condition(name, op, value)
    if other is None:
        return condition
    text: Where = Condition(name, op, other)
    if op == "!=":
        return AllOf([condition, text])
    if op in ("<", "<="):
        text = AllOf([Condition(name, ">=", ""), text])
    elif op in (">", ">="):
        condition = AllOf([condition, Condition(name, "<", "")])
    return AnyOf([condition, text])


def row_key(table: DataTable, row: Row) -> dict[str, object]:
    return {name: row[name] for name in table.key}


def sort_by_references(
    db: Readable, names: Collection[str], *, is_ignored: Callable[[Reference], bool] = lambda _: False
) -> list[str]:
    """Return the tables in order of their references, referenced tables first, as far as references have no circle."""
    referenced = defaultdict[str, list[str]](list)
    for name in names:
        for reference in db.references(name) if name in db.tables() else ():
            if not is_ignored(reference):
                referenced[reference.table].append(name)
    return sort_by_use(names, referenced.__getitem__)
