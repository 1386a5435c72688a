"""The schema of a LanceDB."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import Schema, SchemaColumn, SchemaIndex, SchemaTable, fingerprint
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.schema import is_key


class LanceCatalog(LanceConnection):
    """Capability.SCHEMA, without indexes, because they only affect the speed of searches."""

    def schema(self) -> Schema:
        return Schema(tables=[self._describe_table(name) for name in sorted(self.tables())], codes=[])

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        self._require_table(table)
        return {}  # LanceDB has no comments

    def _describe_table(self, table: str) -> SchemaTable:
        columns = [
            SchemaColumn(
                name=field.name,
                type=str(field.type).upper(),
                storage=str(field.type).lower(),
                nullable=field.nullable,
            )
            for field in self._arrow_schema(table)
        ]
        return SchemaTable(
            name=table,
            columns=columns,
            # Only the key that the table declares, not the key of the profile.
            key=[field.name for field in self._arrow_schema(table) if is_key(field)],
            indexes=list[SchemaIndex](),
            references=[],
            checks=[],
            options=[],
        )
