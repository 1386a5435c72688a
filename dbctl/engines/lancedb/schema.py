"""The schema of a LanceDB: Arrow schemas as tables and columns of the contract, and new tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Column, Table
from dbctl.engines.contract.schema import Schema, SchemaColumn, SchemaTable, fingerprint
from dbctl.engines.contract.vectors import VectorColumn
from dbctl.engines.lancedb.errors import translate_errors
from dbctl.engines.lancedb.location import Location
from dbctl.engines.lancedb.values import Family, decoded_type, type_family
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa

    from dbctl.engines.lancedb.reader import LanceReader

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


class LanceSchema:
    """``SchemaReader``, without indexes, because they only affect the speed of searches."""

    def __init__(self, db: LanceReader) -> None:
        self._catalog = db.catalog

    def schema(self) -> Schema:
        return Schema(
            tables=[self._describe_table(name) for name in sorted(self._catalog.tables())], codes=[]
        )

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        self._catalog.require_table(table)
        return {}  # LanceDB has no comments

    def _describe_table(self, table: str) -> SchemaTable:
        fields = list(self._catalog.arrow_schema(table))
        return SchemaTable(
            name=table,
            columns=[
                SchemaColumn(
                    name=field.name,
                    type=str(field.type).upper(),
                    storage=str(field.type).lower(),
                    nullable=field.nullable,
                )
                for field in fields
            ],
            key=[field.name for field in fields if is_key(field)],  # not the key of the profile
            indexes=[],
            references=[],
            checks=[],
            options=[],
        )


def create_table(url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float) -> None:
    """Create an empty table in an existing folder, for sample databases.

    ``columns`` has the type of each column: ``text``, ``number``, ``vector(768)`` of 32-bit floats, or ``object(a, b)`` of texts.

    Raises:
        DriverMissingError: the library is not installed.
    """
    location = Location(url, target, timeout=timeout)
    location.require_database()
    connection = location.connection
    import pyarrow as pa

    with translate_errors(location):
        connection.create_table(
            table, schema=pa.schema([(name, _arrow_type(type_name)) for name, type_name in columns.items()])
        )


def _arrow_type(type_name: str) -> pa.DataType:
    import pyarrow as pa

    if type_name in ("text", "number"):
        return pa.string() if type_name == "text" else pa.float64()
    match = re.fullmatch(r"(vector|object)\((.+)\)", type_name)
    if match is None:
        raise ValueError(type_name)
    if match[1] == "vector":
        return pa.list_(pa.float32(), int(match[2]))
    return pa.struct([(name.strip(), pa.string()) for name in match[2].split(",")])
