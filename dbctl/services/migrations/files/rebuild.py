"""``migrate new --alter``: the script that changes columns and foreign keys of a table by rebuilding it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from dbctl.engines.contract.database import require_part
from dbctl.engines.contract.schema import (
    RebuildScript,
    Schema,
    SchemaColumn,
    SchemaTable,
    TableChange,
    TableRebuilder,
)
from dbctl.errors.base import Remedy
from dbctl.errors.migrations import RebuildLosesError
from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.services.app.app import App
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.schema_diff import Difference, compare, split_schema
from dbctl.services.migrations.status import open_for_reading

_ALTER_TABLE_HINT = Remedy(
    "It changes columns itself: write ALTER TABLE into the file of: `migrate new NAME`"
)
#: ``-- +goose StatementBegin`` … ``End`` encloses a statement that contains semicolons.
_GOOSE_STATEMENT = "-- +goose StatementBegin\n{}\n-- +goose StatementEnd"


def parse_table_change(
    table: str,
    *,
    renamed: Iterable[str],
    dropped: Sequence[str],
    types: Iterable[str],
    not_null: Iterable[str],
    nullable: Iterable[str],
    defaults: Iterable[str],
    added_keys: Iterable[str],
    dropped_keys: Sequence[str],
) -> TableChange:
    """Return the change that the options of ``migrate new`` describe; pairs have the form ``COLUMN=VALUE``.

    Raises:
        UsageError: no change, or one of a table without a name.
        ValueInvalidError: a pair has another form.
    """
    change = TableChange(
        table=table,
        renamed=dict(_split_pair("--rename-column", pair) for pair in renamed),
        dropped=dropped,
        types=dict(_split_pair("--type", pair) for pair in types),
        nullable={**dict.fromkeys(not_null, False), **dict.fromkeys(nullable, True)},
        defaults=dict(_split_pair("--default", pair) for pair in defaults),
        added_keys=dict(_split_key(pair) for pair in added_keys),
        dropped_keys=dropped_keys,
    )
    if bool(table) != bool(change.columns):
        raise UsageError(detail="--alter requires the table and at least one change of a column")
    return change


def _split_pair(option: str, pair: str) -> tuple[str, str]:
    column, separator, value = pair.partition("=")
    if not (column and separator and value):
        raise ValueInvalidError(name=option, value=repr(pair), reason="the form is COLUMN=VALUE")
    return column, value


def _split_key(pair: str) -> tuple[str, tuple[str, str]]:
    column, target = _split_pair("--add-foreign-key", pair)
    table, _, referenced_column = target.partition(".")
    if not (table and referenced_column):
        raise ValueInvalidError(
            name="--add-foreign-key", value=repr(pair), reason="the form is COLUMN=TABLE.COLUMN"
        )
    return column, (table, referenced_column)


def write_statements(
    app: App, target: MigrationTarget, change: TableChange, version: str, *, goose: bool
) -> list[str]:
    """Return the statements that change a table of the live database, each with its semicolon.

    Raises:
        NotSupportedError: ALTER TABLE of the engine changes columns.
        RebuildLosesError: the new table would lack something that the change does not name.
        DbctlError: the database cannot be read, or lacks the table or a column.
    """
    with open_for_reading(app, target) as db:
        rebuilder = require_part(db, TableRebuilder, "rebuilding a table", _ALTER_TABLE_HINT)
        script = rebuilder.write_rebuild(change, version)
    if losses := list(_find_losses(script, change)):
        raise RebuildLosesError(target=target.name, table=change.table, losses="; ".join(losses))
    statements = [f"{statement};" for statement in script.statements]
    if not goose:
        return statements
    return [
        _GOOSE_STATEMENT.format(statement) if ";" in statement[:-1] else statement for statement in statements
    ]


def _find_losses(script: RebuildScript, change: TableChange) -> Iterator[str]:
    """Yield what the script changes besides the requested changes."""
    expected = split_schema(_apply_change(script.before, script.after, change))
    for difference in compare(expected, split_schema(script.after)):
        yield _describe_loss(difference)


def _describe_loss(difference: Difference) -> str:
    if not difference.actual:
        return f"{difference.place} ({difference.expected})"
    if not difference.expected:
        return f"{difference.place} would be added ({difference.actual})"
    return f"{difference.place} ({difference.expected} would become {difference.actual})"


def _apply_change(before: Schema, after: Schema, change: TableChange) -> Schema:
    """Return the schema that the change alone produces; types, defaults and new keys as in ``after``."""
    rebuilt = next(table for table in after.tables if table.name == change.table)
    tables = [
        _apply_to_table(table, rebuilt, change.after_renaming()) if table.name == change.table else table
        for table in before.tables
    ]
    return structs.replace(before, tables=tables)


def _apply_to_table(table: SchemaTable, rebuilt: SchemaTable, change: TableChange) -> SchemaTable:
    dropped_keys = [[name] for name in (*change.dropped_keys, *change.added_keys, *change.dropped)]
    new_columns = {column.name: column for column in rebuilt.columns}
    return structs.replace(
        table,
        columns=[
            _apply_to_column(column, new_columns.get(column.name, column), change)
            for column in table.columns
            if column.name not in change.dropped
        ],
        indexes=[
            index for index in table.indexes if list(index.columns) not in [[name] for name in change.dropped]
        ],
        references=[
            *(reference for reference in table.references if list(reference.columns) not in dropped_keys),
            *(reference for reference in rebuilt.references if reference.columns[0] in change.added_keys),
        ],
    )


def _apply_to_column(column: SchemaColumn, new_column: SchemaColumn, change: TableChange) -> SchemaColumn:
    if column.name in change.types:
        column = structs.replace(column, type=new_column.type, storage=new_column.storage)
    if column.name in change.defaults:
        column = structs.replace(column, default=new_column.default)
    return structs.replace(column, nullable=change.nullable.get(column.name, column.nullable))
