"""Values that the destination of a transfer cannot store, found before anything is copied."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract import ColumnPair, PortableSchema


def pair_columns(source: PortableSchema, destination: PortableSchema) -> Sequence[ColumnPair]:
    """Return the columns that rows are copied to: those with the same name in the same table, unless one is generated."""
    tables = {table.name: table for table in destination.tables}
    pairs = list[ColumnPair]()
    for table in source.tables:
        others = {column.name: column for column in tables[table.name].columns} if table.name in tables else {}
        for column in table.columns:
            other = others.get(column.name)
            if other is not None and not other.generated and not column.generated:
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
