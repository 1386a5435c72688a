"""What the columns of a LanceDB table are, told as Arrow tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Column, Table, VectorColumn
from dbctl.engines.lancedb.values import Family, decoded, family

if TYPE_CHECKING:
    import pyarrow as pa

#: What Lance puts into the metadata of a column that is the key, or part of it.
KEY = b"lance-schema:unenforced-primary-key"

#: What the library speaks of a family of types.
NATIVE: dict[Family, str] = {"boolean": "boolean", "time": "time"}


def table_of(name: str, schema: pa.Schema, keys: Sequence[str]) -> Table:
    """Return a live table; the first of ``keys`` that is there tells its rows apart, where it does not say so itself."""
    own = [field.name for field in schema if is_key(field)]
    found = own or [one for one in keys if one in schema.names][:1]
    columns = {
        field.name: Column(
            name=field.name,
            type=str(decoded(field.type)).upper(),
            nullable=field.nullable and field.name not in found,
            required=not field.nullable or field.name in found,
            key=field.name in found,
            native=NATIVE.get(family(field.type), ""),
        )
        for field in schema
        if "`" not in field.name  # which the library has no escape for, so that nobody can read it
    }
    return Table(name=name, columns=columns)


def is_key(field: pa.Field) -> bool:
    """Whether a table says of a column that it is its key, or part of it."""
    return any(name.startswith(KEY) for name in field.metadata or {})


def vector_columns(table: str, schema: pa.Schema) -> list[VectorColumn]:
    """Return the columns that hold vectors."""
    return [
        VectorColumn(
            table=table,
            column=field.name,
            dimension=getattr(field.type, "list_size", None),
            type=str(field.type).upper(),
        )
        for field in schema
        if family(field.type) == "vector"
    ]
