"""The parts of a database that a transfer needs."""

from __future__ import annotations

from typing import TypeVar

from dbctl.engines.contract.database import Readable, Writable, WriteLock, require_part
from dbctl.engines.contract.native import NativeSchemas
from dbctl.engines.contract.portable import PortableSchemas, RowSink, RowSource, ValueScreen
from dbctl.engines.contract.schema import ScriptRunner

P = TypeVar("P")


def _require(db: Readable, kind: type[P]) -> P:
    """Return a part.

    Raises:
        NotSupportedError: the engine has none.
    """
    return require_part(db, kind, "a transfer", "Supported by SQLite, PostgreSQL, MySQL and MariaDB.")


def require_rows(db: Readable) -> RowSource:
    """Return the part that reads rows as lines; raises ``NotSupportedError`` if the engine has none."""
    return _require(db, RowSource)


def require_sink(db: Writable) -> RowSink:
    """Return the part that writes lines; raises as ``require_rows``."""
    return _require(db, RowSink)


def require_schemas(db: Readable) -> PortableSchemas:
    """Return the part that describes and derives schemas; raises as ``require_rows``."""
    return _require(db, PortableSchemas)


def require_screen(db: Readable) -> ValueScreen:
    """Return the part that finds suspected values with SQL; raises as ``require_rows``."""
    return _require(db, ValueScreen)


def require_scripts(db: Writable) -> ScriptRunner:
    """Return the part that changes the schema; raises as ``require_rows``."""
    return _require(db, ScriptRunner)


def require_write_lock(db: Readable) -> WriteLock:
    """Return the part that makes tables refuse writes; raises as ``require_rows``."""
    return _require(db, WriteLock)


def require_native(db: Readable) -> NativeSchemas:
    """Return the part that describes a database for the same engine; raises as ``require_rows``."""
    return _require(db, NativeSchemas)
