"""The whole schema of a LanceDB as a value."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import Schema, SchemaColumn, SchemaIndex, SchemaTable, fingerprint
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.schema import is_key


class LanceDescribes(LanceConnection):
    """Capability.SCHEMA; indexes are no part of it, for each only changes how fast a search is."""

    def schema(self) -> Schema:
        return Schema(tables=[self._described_whole(name) for name in sorted(self.tables())], codes=[])

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        self._checked(table)
        return {}  # its schema has no place for them

    def _described_whole(self, table: str) -> SchemaTable:
        columns = [
            SchemaColumn(
                name=field.name,
                type=str(field.type).upper(),
                storage=str(field.type).lower(),
                nullable=field.nullable,
            )
            for field in self._arrow(table)
        ]
        return SchemaTable(
            name=table,
            columns=columns,
            # Only what it contains itself: what a profile adds is no part of it.
            key=[field.name for field in self._arrow(table) if is_key(field)],
            indexes=list[SchemaIndex](),
            references=[],
            checks=[],
            options=[],
        )
