"""Convert Arrow schemas to tables and columns of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Column, Table, VectorColumn
from dbctl.engines.lancedb.values import Family, decoded_type, type_family

if TYPE_CHECKING:
    import pyarrow as pa

#: The start of the metadata key that marks key columns.
KEY_METADATA = b"lance-schema:unenforced-primary-key"

#: The native type by type family.
NATIVE_TYPES: dict[Family, str] = {"boolean": "boolean", "time": "time"}


def describe_table(name: str, schema: pa.Schema, keys: Sequence[str]) -> Table:
    """Return a live table; without a declared key, the first existing column of ``keys`` is the key."""
    key_fields = [field.name for field in schema if is_key(field)]
    key = key_fields or [name for name in keys if name in schema.names][:1]
    columns = {
        field.name: Column(
            name=field.name,
            type=str(decoded_type(field.type)).upper(),
            nullable=field.nullable and field.name not in key,
            required=not field.nullable or field.name in key,
            is_primary_key=field.name in key,
            native=NATIVE_TYPES.get(type_family(field.type), ""),
        )
        for field in schema
        if "`" not in field.name  # the library cannot escape it, so the column is unreadable
    }
    return Table(name=name, columns=columns)


def is_key(field: pa.Field) -> bool:
    """Whether a column is declared as part of the key."""
    return any(name.startswith(KEY_METADATA) for name in field.metadata or {})


def vector_columns(table: str, schema: pa.Schema) -> list[VectorColumn]:
    """Return the columns with vectors."""
    return [
        VectorColumn(
            table=table,
            column=field.name,
            dimension=getattr(field.type, "list_size", None),
            type=str(field.type).upper(),
        )
        for field in schema
        if type_family(field.type) == "vector"
    ]
