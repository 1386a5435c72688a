"""The tables of a transfer: their columns, and the order in which they are copied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from dbctl.engines.contract.database import Readable
from dbctl.extensions.transfer.errors import TransferSchemaError
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    LineColumn,
    PortableSchema,
    PortableTable,
    exchange_kind,
)
from dbctl.model import Struct, TimeForm, sort_by_use
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App

#: Tables of dbctl itself: the state of a transfer, and of a partially applied migration.
_OWN_TABLES = (ledger_detection.TRANSFER_TABLE, ledger_detection.JOURNAL)


class TransferTable(Struct, frozen=True, kw_only=True):
    """One table that is copied."""

    name: str
    columns: Sequence[LineColumn]  #: those of the key first
    key_width: int  #: number of columns of the key; 0: none, or one that may be NULL
    pairs: Sequence[ColumnPair]

    @property
    def key(self) -> Sequence[LineColumn]:
        """The columns of the primary key, or of a unique index."""
        return self.columns[: self.key_width]


class Exclusions(Struct, frozen=True, kw_only=True):
    """Tables that a transfer does not copy."""

    ledgers: Collection[str]  #: ledgers of migrations
    patterns: Sequence[str]  #: tables of search indexes, which dbctl creates again

    def is_excluded(self, table: str) -> bool:
        """Whether a table is not copied."""
        return table in {*self.ledgers, *_OWN_TABLES} or any(
            fnmatchcase(table, pattern) for pattern in self.patterns
        )


def list_exclusions(app: App, database: str, db: Readable) -> Exclusions:
    """Return the tables of ``database``, open as ``db``, that are not copied."""
    section = app.database(database).migrations
    ledgers = ledger_detection.ledger_tables(app, database, db)
    return Exclusions(ledgers=ledgers, patterns=section.unmanaged if section else ())


def select_tables(schema: PortableSchema, exclusions: Exclusions) -> list[PortableTable]:
    """Return the tables to copy, each after those to which its rows refer, as far as references have no cycle."""
    tables = {table.name: table for table in schema.tables if not exclusions.is_excluded(table.name)}
    names = sort_by_use(
        sorted(tables), lambda name: sorted(reference.table for reference in tables[name].references)
    )
    return [tables[name] for name in names]


def pair_columns(
    source: PortableSchema, destination: PortableSchema, *, are_computed: bool = False
) -> Sequence[ColumnPair]:
    """Return the columns that rows are copied to: those with the same name in the same table, unless the destination computes them.

    ``are_computed``: return those that both compute.
    """
    tables = {table.name: table for table in destination.tables}
    pairs = list[ColumnPair]()
    for table in source.tables:
        others = (
            {column.name: column for column in tables[table.name].columns} if table.name in tables else {}
        )
        for column in table.columns:
            other = others.get(column.name)
            is_selected = other is not None and (
                bool(column.generated and other.generated) if are_computed else not other.generated
            )
            if other is not None and is_selected:
                pairs.append(
                    ColumnPair(
                        table=table.name,
                        column=column.name,
                        source=column.declared,
                        destination=other.declared,
                        source_type=column.type,
                        destination_type=other.type,
                        is_nullable=other.is_nullable,
                    )
                )
    return pairs


def build_tables(
    tables: Sequence[PortableTable], pairs: Sequence[ColumnPair], *, time_form: TimeForm, target: str
) -> list[TransferTable]:
    """Return the columns of each table.

    Raises:
        TransferSchemaError: the destination lacks a table or a column.
    """
    pairs_by_table: dict[str, dict[str, ColumnPair]] = {}
    for pair in pairs:
        pairs_by_table.setdefault(pair.table, {})[pair.column] = pair
    return [_build_table(table, pairs_by_table.get(table.name, {}), time_form, target) for table in tables]


def _build_table(
    table: PortableTable, pairs: Mapping[str, ColumnPair], time_form: TimeForm, target: str
) -> TransferTable:
    # the destination stores the values of a generated column whose expression it cannot evaluate
    columns = [column for column in table.columns if not column.generated or column.name in pairs]
    if not pairs:
        raise TransferSchemaError(target=target, missing=f"table {table.name}")
    for column in columns:
        if column.name not in pairs:
            raise TransferSchemaError(target=target, missing=f"column {table.name}.{column.name}")
    key = table.key if set(table.key) <= set(pairs) else ()
    ordered = {column.name: pairs[column.name] for column in columns}
    return create_table(
        table.name,
        key,
        ordered,
        lambda pair: LineColumn(name=pair.column, kind=exchange_kind(pair), time_form=time_form),
    )


def create_table(
    name: str,
    key: Sequence[str],
    pairs: Mapping[str, ColumnPair],
    create_column: Callable[[ColumnPair], LineColumn],
) -> TransferTable:
    """Return a table with these columns by name, those of the key first."""
    names = dict.fromkeys([*key, *pairs])
    return TransferTable(
        name=name,
        columns=[create_column(pairs[column]) for column in names],
        key_width=len(key),
        pairs=[pairs[column] for column in names],
    )
