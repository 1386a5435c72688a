"""The parts that this extension adds to open databases."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from dbctl.engines.contract.database import Readable, Writable

#: The part of each engine, whose module needs the driver.
REWRITERS = {
    "lancedb": ("dbctl.extensions.copies.rewrite_lancedb", "LanceRewriter"),
    "mysql": ("dbctl.extensions.copies.rewrite_mysql", "MySQLRewriter"),
    "postgresql": ("dbctl.extensions.copies.rewrite_postgresql", "PostgreSQLRewriter"),
    "sqlite": ("dbctl.extensions.copies.rewrite_sqlite", "SQLiteRewriter"),
}


def create_parts(db: Readable) -> Sequence[object]:
    """Return the part that rewrites a database; none of a reader."""
    if not isinstance(db, Writable):
        return []
    module, name = REWRITERS[db.engine]
    return [getattr(import_module(module), name)(db)]
