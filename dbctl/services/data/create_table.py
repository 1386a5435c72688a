"""Create a table for the rows of a file, whose columns are detected from them, and add them, in one transaction."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from functools import cached_property

import msgspec

from dbctl import signals
from dbctl.engines.contract.database import Column, Readable, Writable, require_supported
from dbctl.engines.contract.streaming import Kind, NewColumn, require_table_name
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.base import Remedy
from dbctl.errors.databases import AlreadyExistsError, ImportInvalidError
from dbctl.errors.usage import UsageError
from dbctl.model import Plan, format_count
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation, retry_conflicts
from dbctl.services.data.csv_jsonl import Cell, Line, RowFileError
from dbctl.services.data.row_import import MAX_ERRORS, ImportResult, ImportRows, RowFile
from dbctl.services.data.table import refuse_ledger_name, selected_database
from dbctl.sqlite_library import TypeTracker

#: Numbers that a column of numbers returns with the same digits: without leading zeros, which postcodes have, and without ``+`` and ``_``.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?([eE][-+]?[0-9]+)?", re.ASCII)
#: A cell that a column of bytes can store.
_BYTES = re.compile(r"\\x(?:[0-9A-Fa-f]{2})*")
#: A NUL in the text of JSON, not after an escaped backslash.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1
#: More digits are an identifier, which is a text; also fewer than Python converts to an integer.
_MAX_DIGITS = 1000
#: Digits after the point of money.
_MONEY_SCALE = 2
#: A value that is no number, for the detection.
_TEXT = "text"


class DetectedColumns:
    """The content of each column of a file, after all of its lines were read once."""

    def __init__(self, file: RowFile) -> None:
        """Read a file; ``errors`` has the invalid lines, at most ``MAX_ERRORS``, and ``row_count`` the number of rows, of which ``has_all`` all were read."""
        self.errors, self.row_count, self.has_all = dict[int, str](), 0, False
        self.names: Sequence[str] = ()
        self._types: Mapping[str, str] = {}
        try:
            self.names, lines = file.read(file.table)
            _check_names(self.names)
            self._columns = {name: _Values() for name in self.names}
            tracker = TypeTracker()
            for _ in tracker.wrap(self._read(lines)):
                pass
            self._types = tracker.types
        except RowFileError as error:
            self.errors.setdefault(error.number, str(error))

    def _read(self, lines: Iterator[Line]) -> Iterator[dict[str, object]]:
        for line in lines:
            if len(self.errors) >= MAX_ERRORS:
                return
            self.row_count += 1
            signals.raise_if_interrupted()
            if len(line.values) != len(self.names):
                fields = format_count(len(line.values), "field")
                self.errors[line.number] = f"it has {fields}, but the header has {len(self.names)}"
                continue
            row = dict[str, object]()
            for name, value in zip(self.names, line.values, strict=True):
                try:
                    row[name] = self._columns[name].add(value)
                except ValueError as error:
                    self.errors.setdefault(line.number, f"{name}: {error}")
            yield row
        self.has_all = True

    def define(self, key: Sequence[str]) -> list[NewColumn]:
        """Return the columns; ``key`` are those of the primary key."""
        return [
            values.define(name, self._types.get(name, _TEXT), is_key=name in key)
            for name, values in self._columns.items()
        ]

    def list_empty(self, names: Sequence[str]) -> list[str]:
        """Return those of the columns that are NULL in a row."""
        return [name for name in names if self._columns[name].is_null]


def _check_names(names: Sequence[str]) -> None:
    """Refuse names that a column cannot have, or that are no names.

    Raises:
        RowFileError: with the reason.
    """
    if not names:
        raise RowFileError(1, "the file has no columns")
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        raise RowFileError(1, f"its only column would be {names[0]!r}; separate the columns by commas")
    if not all(map(is_storable, names)):
        raise RowFileError(1, "it contains a NUL, or is not valid UTF-8")
    folded = [name.casefold() for name in names]
    for position, name in enumerate(names, 1):
        reason = ""
        if not name:
            reason = "has no name"
        elif name != name.strip():
            reason = f"has a name that begins or ends with a blank: {name!r}"
        elif not name.isprintable():
            reason = f"has a name with a character that cannot be printed: {name!r}"
        elif folded.count(name.casefold()) > 1:
            reason = f"has a name that differs from another one only in upper and lower case: {name!r}"
        if reason:
            raise RowFileError(1, f"column {position} {reason}")


class _Values:
    """What the values of one column have in common."""

    def __init__(self) -> None:
        self.is_null = False
        self._kinds = set[Kind]()
        self._digits = self._scale = self._length = 0
        self._scales = set[int]()  # one or two of them
        self._has_exponent, self._fits_float, self._fits_integer = False, True, True

    def add(self, value: object) -> object:
        """Add a value, and return it as the detection of numbers reads it.

        Raises:
            ValueError: no database can store it.
        """
        if value is None:
            self.is_null = True
            return None
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return self._add_number(to_text(value))
        text = (
            value.text if isinstance(value, Cell) else value if isinstance(value, bytes) else to_text(value)
        )
        self._length = max(self._length, len(text))
        if isinstance(text, bytes):
            return self._add_kind("bytes")
        if not is_storable(text) or (isinstance(value, dict | list) and _ESCAPED_NUL.search(text)):
            raise ValueError("it contains a NUL, or is not valid UTF-8")
        if isinstance(value, Cell):
            is_bytes = value.is_unquoted and _BYTES.fullmatch(text)
            return self._add_kind("bytes") if is_bytes else self._add_number(text)
        kinds: Mapping[type, Kind] = {bool: "boolean", dict: "json", list: "json"}
        return self._add_kind(kinds.get(type(value), "text"))

    def _add_kind(self, kind: Kind) -> str:
        self._kinds.add(kind)
        return _TEXT

    def _add_number(self, text: str) -> str:
        """Add a number, or a text that is none."""
        self._length = max(self._length, len(text))
        match = _NUMBER.fullmatch(text) if len(text) <= _MAX_DIGITS and text != "-0" else None
        if match is None:
            return self._add_kind("text")
        self._kinds.add("decimal")
        whole, fraction, exponent = match[1], match[2] or "", match[3]
        self._digits, self._scale = max(self._digits, len(whole)), max(self._scale, len(fraction))
        if len(self._scales) <= 1:
            self._scales.add(len(fraction))
        if exponent:
            self._has_exponent = True
            self._fits_float = self._fits_float and _is_float(text)
        elif fraction:
            self._fits_float = self._fits_float and repr(float(text)) == text
        else:
            self._fits_integer = self._fits_integer and _SMALLEST <= int(text) <= _LARGEST
            # each 64-bit float of a whole number that is printed without an exponent ends with ``.0``
            self._fits_float = self._fits_float and abs(int(text)) < 1 << 53
        return text

    def define(self, name: str, detected: str, *, is_key: bool) -> NewColumn:
        """Return the column; ``detected`` is what the library calls it: ``integer``, ``float`` or ``text``."""
        return NewColumn(
            name=name,
            kind=self._select_kind(detected),
            is_key=is_key,
            digits=self._digits,
            scale=self._scale,
            fits_float=self._fits_float and self._scale > 0 and self._scales != {_MONEY_SCALE},
            length=self._length,
        )

    def _select_kind(self, detected: str) -> Kind:
        if len(self._kinds) != 1:
            return "text"
        (kind,) = self._kinds
        if kind != "decimal":
            return kind
        if detected == "integer" and self._fits_integer:
            return "integer"
        if self._has_exponent:
            return "float" if self._fits_float else "text"
        return "decimal"


def _is_float(text: str) -> bool:
    """Whether a 64-bit float is equal to a number."""
    number = float(text)
    return math.isfinite(number) and Decimal(repr(number)) == Decimal(text)


def to_text(value: object) -> str:
    """Return a value of JSON as a column of texts stores it: with all digits, and the JSON of what is neither a text nor a number."""
    if isinstance(value, str):
        return value
    return (
        str(value)
        if isinstance(value, int | Decimal) and not isinstance(value, bool)
        else codec.encode_json(value)
    )


_EXISTS = Remedy("Choose another name, or add the rows to the existing table: omit --create")
_NO_TABLES = "Supported by SQLite, PostgreSQL, MySQL and MariaDB."


class TypedRowFile(RowFile, frozen=True, kw_only=True):
    """A file whose values become those of the columns of a new table."""

    texts: frozenset[str]  #: columns whose values of JSON are written as texts, which have all digits

    def read(self, table: str) -> tuple[Sequence[str], Iterator[Line]]:
        columns, lines = super().read(table)
        indexes = [index for index, name in enumerate(columns) if name in self.texts]

        def convert() -> Iterator[Line]:
            for line in lines:
                values = list(line.values)
                for index in indexes:
                    value = values[index]
                    if isinstance(value, Cell):
                        # in a column of texts, what begins like bytes is a text
                        values[index] = (
                            Cell(value.text, is_unquoted=False) if value.text.startswith("\\x") else value
                        )
                    elif value is not None and not isinstance(value, bytes):
                        values[index] = to_text(value)
                yield Line(line.number, values)

        return columns, convert()


class CreateTable(Operation):
    """The creation of the table ``file.table`` with the columns and the rows of a file.

    Raises (when planned and when applied):
        ImportInvalidError: with all invalid lines.
        AlreadyExistsError: the name is used.
        ReadOnlyError: the database is read-only.
        UsageError: a column of the key is missing.
        ValueInvalidError: a column cannot have its name, or a key its values.
        NotSupportedError: the engine creates no tables.
    """

    def __init__(self, app: App, file: RowFile, key: Sequence[str] = ()) -> None:
        self._database = selected_database(app)
        super().__init__(app, app.target(self._database))
        self._file, self._key = file, key

    @cached_property
    def _detected(self) -> DetectedColumns:
        """What the columns contain; the file is read once, before the transaction."""
        detected = DetectedColumns(self._file)
        if unknown := [name for name in self._key if name not in detected.names and detected.names]:
            names = ", ".join(detected.names)
            raise UsageError(
                detail=f"{self._file.name} has no column {unknown[0]!r}", hint=f"Columns: {names}."
            )
        errors = [f"line {number}: {reason}" for number, reason in sorted(detected.errors.items())]
        if not errors:
            errors = [f"{name}: it is a key, and a cell is NULL" for name in detected.list_empty(self._key)]
        if errors:
            rows = max(detected.row_count, len(errors)) if detected.has_all else None
            raise ImportInvalidError(errors=errors, rows=rows, file=self._file.name)
        return detected

    def _define_columns(self, db: Readable) -> list[Column]:
        """Return the columns in the order of the file; raises as the class."""
        name = self._file.table
        if name.casefold() in {table.casefold() for table in db.tables()}:
            raise AlreadyExistsError(target=self.target, kind="a table", name=name, hint=_EXISTS)
        refuse_ledger_name(self._app, self._database, db, name)
        if not name.isprintable() or name != name.strip():
            raise UsageError(detail=f"the name of a table cannot be {name!r}")
        require_table_name(db, name)
        return [
            require_supported(db, db.codec.define_column(column), "creating tables", _NO_TABLES)
            for column in self._detected.define(self._key)
        ]

    def plan(self) -> Plan:
        self._app.require_writable(self._database)
        return self._plan(self._define_columns(self._app.reader(self._database)))

    def _plan(self, columns: Sequence[Column]) -> Plan:
        name, count = self._file.table, self._detected.row_count
        described = (
            f"column {column.name}: {column.type.lower()}{', primary key' if column.is_primary_key else ''}"
            for column in columns
        )
        return self._create_plan(
            f"Create the table {name} from {self._file.name}",
            [f"create the table {name}", *described, f"add {format_count(count, 'row')} to {name}"],
            {name: count},
        )

    def apply(self, confirmed: str | None = None) -> ImportResult:
        """Create the table and add the rows in one transaction.

        Raises:
            ConstraintError: two rows have the same key; nothing was changed.
            QueryFailedError: the database refuses the table; nothing was changed.
        """
        self._detected  # noqa: B018 - reads the file before the lock
        with ExitStack() as deferred, self._app.writer(self._database) as db:
            columns = self._define_columns(db)
            self._require_confirmed(confirmed, lambda: self._plan(columns))
            return retry_conflicts(lambda: self._create(db, columns, deferred))

    def _create(self, db: Writable, columns: Sequence[Column], deferred: ExitStack) -> ImportResult:
        name, detected = self._file.table, self._detected
        staging = require_supported(db, db.staging, "creating tables", _NO_TABLES)
        texts = frozenset(
            column.name for column in detected.define(self._key) if column.kind in ("text", "json", "decimal")
        )
        file = TypedRowFile(
            source=self._file.source, name=self._file.name, form=self._file.form, table=name, texts=texts
        )
        with staging.create_table(name, columns, self._key, db.transaction):
            audit.note_created_table(db, name)
            result = ImportRows(self._app, db, file, {name: detected.row_count}).apply(db)
            # a signal after the commit would hide it
            deferred.enter_context(signals.critical_result(is_deferred=True))
        return msgspec.structs.replace(
            result, created={column.name: column.type.lower() for column in columns}
        )
