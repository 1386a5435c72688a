"""The tables of a LanceDB, their columns and schemas."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from dbctl import progress, signals
from dbctl.engines.contract.database import Column, Table
from dbctl.engines.contract.schema import Schema, SchemaColumn, SchemaReader, SchemaTable
from dbctl.engines.contract.vectors import VectorColumn
from dbctl.engines.sql.catalog import LiveTables
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import ChangedWhileReadError, CorruptError, QueryFailedError
from dbctl.extensions.lancedb.location import SUFFIX, Location, match_owner, translate_error, translate_errors
from dbctl.extensions.lancedb.manifest import HINT_FILE, VERSIONS_FOLDER, History, ManifestError
from dbctl.extensions.lancedb.snapshot import LOST_LINK, describe_loss, describe_missing, is_lost_link
from dbctl.extensions.lancedb.values import Family, decoded_type, quote_name, type_family

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import LanceTable

    from dbctl.extensions.lancedb.reader import LanceReader


#: The start of the metadata key that marks key columns.
KEY_METADATA = b"lance-schema:unenforced-primary-key"

#: The native type by type family.
NATIVE_TYPES: dict[Family, str] = {"boolean": "boolean", "time": "time"}


def describe_table(name: str, schema: pa.Schema, keys: Sequence[str]) -> Table:
    """Return a live table; without a declared key, the first existing column of ``keys`` is the key."""
    key_fields = [field.name for field in schema if is_key(field)]
    names = [name.removesuffix("?") for name in ([keys] if isinstance(keys, str) else keys)]
    key = key_fields or [name for name in names if name in schema.names][:1]
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


class LanceSchema(SchemaReader):
    """``SchemaReader``, without indexes, because they only affect the speed of searches."""

    def __init__(self, db: LanceReader) -> None:
        self._catalog = db.catalog

    def schema(self) -> Schema:
        return Schema(
            tables=[self._describe_table(name) for name in sorted(self._catalog.tables())], codes=[]
        )

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


def create_table(location: Location, table: str, columns: Mapping[str, str]) -> None:
    """Create an empty table as ``Engine.create_table`` does.

    Raises:
        DriverMissingError: the library is not installed.
    """
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


OUTDATED_HINT = Remedy(
    "To accept the loss, delete the file {path}. Otherwise stop the app, and restore a backup; list backups with: `backup list`"
)
#: Attempts to open a table that is pruned concurrently.
MAX_TRIES = 10


class _Tables(Mapping[str, Table]):
    """Tables whose columns are read when the first one is used; a damaged one raises its error then."""

    def __init__(
        self,
        names: Sequence[str],
        describe: Callable[[], Mapping[str, Table]],
        damaged: Mapping[str, DbctlError],
        target: str,
    ) -> None:
        self._names, self._describe, self._damaged, self._target = names, cache(describe), damaged, target

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Table:
        if name not in self._names:
            raise KeyError(name)
        tables = self._describe()
        if name in self._damaged:
            raise self._damaged[name]
        if name not in tables:
            raise ChangedWhileReadError(target=self._target)
        return tables[name]


class Catalog(LiveTables):
    """The tables of a database, each opened once."""

    def __init__(self, location: Location, *, read_only: bool, keys: Mapping[str, Sequence[str]]) -> None:
        """Store the location; nothing is opened.

        With ``read_only``, each table is pinned to the version that is the newest when it is opened. ``keys`` are as for ``Engine``.
        """
        self.target = location.target
        self.location, self.read_only = location, read_only
        self._keys = keys
        self._handles: dict[str, LanceTable] | None = None
        self._damaged: dict[str, DbctlError] = {}  #: the tables that cannot be opened
        self._outdated: dict[
            str, DbctlError
        ] = {}  #: those whose newest version is missing, if they are only read
        self._schemas: dict[str, pa.Schema] = {}
        self._closed = False

    def close(self) -> None:
        self._handles, self._closed = None, True

    # Tables ------------------------------------------------------------------------------------------------

    def _read_tables(self) -> Mapping[str, Table]:
        with self.translate_errors():
            names = self._list_readable_tables()
        if names is None:
            names = sorted([*self._open_all(), *self._damaged])
        return _Tables(names, self._describe_tables, self._damaged, self.target)

    def _list_readable_tables(self) -> list[str] | None:
        """Return the tables of a folder whose newest versions can be read; None if the library has to open them.

        Most commands need no columns, and the import of the library takes ten times as long as such a command.
        """
        if not self.read_only or self._handles or self.location.folder is None or not find_spec("lancedb"):
            return None
        names = self.location.list_tables()
        for name in names:
            history = self.history(name)
            hint = history.read_hint()
            try:
                manifest = history.read_manifest(next(iter(history.versions().values()), ""))
                if hint > manifest.version or not manifest.is_common:
                    return None
            except ManifestError:  # also a table without a version, or one that is pruned at this moment
                return None
        return names

    def _describe_tables(self) -> Mapping[str, Table]:
        with self.translate_errors():
            self._schemas = {name: handle.schema for name, handle in self._open_all().items()}
        return {
            name: describe_table(name, arrow_schema, self._keys.get(name, ()))
            for name, arrow_schema in self._schemas.items()
        }

    def require_undamaged(self) -> None:
        """Check that all tables can be opened at their newest versions.

        Raises:
            CorruptError, QueryFailedError: the newest version of a table cannot be read.
        """
        self.tables()
        for error in (*self._damaged.values(), *self._outdated.values()):
            raise error

    def version(self, table: str) -> int:
        """Return the version at which a table is open."""
        handle = self.open_table(table)
        with self.translate_errors():
            return handle.version

    def open_table(self, table: str) -> LanceTable:
        """Return the library's object of a table.

        Raises:
            SchemaMismatchError: it does not exist.
        """
        return self._open_all()[self.require_table(table).name]

    def open_version(self, table: str, version: int) -> LanceTable:
        """Return a further object of the library, for an earlier version of a table."""
        with self.translate_errors():
            handle = cast("LanceTable", self.location.connection.open_table(table))
            handle.checkout(version)
        return handle

    def open_newest(self, table: str) -> LanceTable:
        """Return the object of a table of a writer, at the newest version."""
        handle = self.open_table(table)
        with self.translate_errors():
            handle.checkout_latest()
        return handle

    def create_version(self, table: str, change: Callable[[LanceTable], object]) -> int:
        """Change a table with one statement; return the version that it created."""
        handle = self.open_table(table)
        with self.translate_errors(), match_owner(self.location, table):
            change(handle)
            return handle.version

    def detach(self) -> None:
        """Release all tables, because the folder is replaced; they are opened again on next use."""
        self._handles = None
        self.location.__dict__.pop("connection", None)
        self.forget()

    def reopen(self) -> None:
        """Read the newest versions of all tables."""
        with self.translate_errors():
            for handle in self._open_all().values():
                handle.checkout_latest()
        self.forget()

    def _open_all(self) -> dict[str, LanceTable]:
        """Return all tables except the damaged ones, opened on first use at their newest versions."""
        if self._handles is None:
            signals.raise_if_interrupted()
            handles: dict[str, LanceTable] = {}
            self._damaged.clear()
            with self.translate_errors():
                for name in self.location.list_tables():
                    try:
                        handle = self._open(name)
                    except (CorruptError, QueryFailedError) as error:  # the other tables remain usable
                        self._damaged[name] = error
                    else:
                        if handle is not None:
                            handles[name] = handle
            self._handles = handles
        return self._handles

    def _open(self, name: str) -> LanceTable | None:
        """Return a table at its newest version, or None if it has no version yet.

        Retries, because a concurrent compaction and pruning may remove the version that was the newest.
        """
        for tries_left in reversed(range(MAX_TRIES)):
            hint = self.history(name).read_hint()
            try:
                handle = cast("LanceTable", self.location.connection.open_table(name))
                if self.read_only or not handle.version:  # 0: the library opened an empty manifest
                    handle.checkout(handle.version)
            except (ValueError, FileNotFoundError, RuntimeError) as error:
                if "was not found" in str(error):
                    folder = self.location.folder
                    is_lost = folder is not None and is_lost_link(folder / f"{name}{SUFFIX}")
                    reason = LOST_LINK if is_lost else describe_loss(self.history(name))
                    if not reason:
                        return None
                    if is_lost or not tries_left:
                        raise CorruptError(target=self.target, reason=f"{name}{SUFFIX} {reason}") from error
                elif not tries_left:
                    raise self._open_error(name, error) from error
                signals.raise_if_interrupted()
            else:
                self._check_newest(name, hint, handle.version)
                return handle
        raise RuntimeError("MAX_TRIES is 0")

    def _check_newest(self, name: str, hint: int, version: int) -> None:
        """Add a note if the newest version of a table is missing: the library opens the one before.

        Raises:
            CorruptError: this is a writer; the next version would have the number of the missing one.
        """
        if not (missing := describe_missing(hint, version)):
            return
        path = f"{self.location.address}/{self.history(name).folder}/{VERSIONS_FOLDER}/{HINT_FILE}"
        remedy = OUTDATED_HINT.write(facts={"path": path})
        error = CorruptError(target=self.target, reason=f"{name}: {missing}", hint=remedy)
        if not self.read_only:
            raise error
        self._outdated[name] = error
        progress.add_note(f"{self.target}: {name}: {missing}")

    def _open_error(self, name: str, error: Exception) -> DbctlError:
        """Return the error for a table that cannot be opened, with the table and its newest readable version."""
        failure = translate_error(error, self.location)
        history = self.history(name)
        versions = history.versions() if isinstance(failure, CorruptError | QueryFailedError) else {}
        if versions and (reason := history.describe_unreadable(versions)):
            return CorruptError(target=self.target, reason=f"{name}: {reason}")
        return failure

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise errors of the library as errors of dbctl; missing files may belong to a pruned version."""
        if self._closed:
            raise RuntimeError(f"{self.target} is closed")
        try:
            with translate_errors(self.location):
                yield
        except CorruptError as error:
            if self._is_pruned():
                raise ChangedWhileReadError(target=self.target) from error
            raise

    def history(self, table: str) -> History:
        """Return the files and versions of a table, also of one that cannot be opened."""
        return History(self.location.files, f"{table}{SUFFIX}")

    def _is_pruned(self) -> bool:
        """Whether the version of an open table was removed."""
        return any(
            handle.version not in self.history(name).versions()
            for name, handle in (self._handles or {}).items()
        )

    # Columns -----------------------------------------------------------------------------------------------

    def require_columns(self, table: str, columns: Sequence[str]) -> None:
        """Check that columns exist.

        Raises:
            SchemaMismatchError: a column does not exist.
        """
        for column in columns:
            self.require_column(table, column)

    def arrow_schema(self, table: str) -> pa.Schema:
        self.require_table(table)
        return self._schemas[table]

    def column_expression(self, table: str, column: str) -> str:
        """Return a column as an expression of the library."""
        return quote_name(self.require_column(table, column).name)

    def column_type(self, table: str, column: str) -> pa.DataType:
        return self.arrow_schema(table).field(self.require_column(table, column).name).type
