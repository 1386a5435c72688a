"""Create a table for the rows of a file, and add them, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from dbctl.engines.contract.database import Column, Readable, Writable, require_supported
from dbctl.errors.base import Remedy
from dbctl.errors.databases import AlreadyExistsError, ImportInvalidError
from dbctl.errors.usage import UsageError
from dbctl.model import Plan, format_count
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation, retry_conflicts
from dbctl.services.data.column_types import DetectedColumns, to_text
from dbctl.services.data.csv_jsonl import Cell, Line
from dbctl.services.data.row_import import ImportResult, ImportRows, RowFile
from dbctl.services.data.table import refuse_ledger_name, selected_database

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
            rows = max(detected.row_count, len(errors))
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
        with self._app.writer(self._database) as db:
            columns = self._define_columns(db)
            self._require_confirmed(confirmed, lambda: self._plan(columns))
            return retry_conflicts(lambda: self._create(db, columns))

    def _create(self, db: Writable, columns: Sequence[Column]) -> ImportResult:
        name, detected = self._file.table, self._detected
        staging = require_supported(db, db.staging, "creating tables", _NO_TABLES)
        if kind := staging.find_name_conflict(name):
            hint = f"Choose another name: in this database, {kind} and a table cannot have the same name."
            raise AlreadyExistsError(target=self.target, kind=kind, name=name, hint=hint)
        texts = frozenset(
            column.name for column in detected.define(self._key) if column.kind in ("text", "json", "decimal")
        )
        file = TypedRowFile(
            source=self._file.source, name=self._file.name, form=self._file.form, table=name, texts=texts
        )
        with staging.create_table(name, columns, self._key, db.transaction):
            audit.note_created_table(db, name)
            result = ImportRows(self._app, db, file, {name: detected.row_count}).apply(db)
        return msgspec.structs.replace(
            result, created={column.name: column.type.lower() for column in columns}
        )
