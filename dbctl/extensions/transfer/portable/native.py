"""Contract: copy a database to the same engine, with the schema as the engine itself describes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, TypeAlias, cast

from dbctl.engines.contract.database import Readable, Writable
from dbctl.engines.sql.catalog import Catalog, ident
from dbctl.engines.sql.database import SqlPart
from dbctl.errors.base import DbctlError
from dbctl.extensions.transfer.portable.contract import Omission, RowSink, RowSource, require_scripts
from dbctl.model import Struct

#: How two databases of an engine differ in their places: names of schemas, roles, versions; in words of the engine.
NativeRules: TypeAlias = Mapping[str, str]
#: The statements of objects, by kind and name.
Definitions: TypeAlias = Mapping[tuple[str, str], Sequence[str]]


class NativeObject(Struct, frozen=True, kw_only=True):
    """One object of a schema."""

    kind: str  #: in the words of the engine, in lower case
    name: str
    statements: Sequence[str]  #: what creates it, with its comment and grants
    is_compared: bool = True  #: whether ``statements`` are equal for equal objects


class NativeTable(Struct, frozen=True, kw_only=True):
    """A table whose rows are copied."""

    name: str  #: as the app names it
    place: str  #: its name in SQL
    destination: str  #: its name in SQL, in the destination
    object_name: str  #: the name of its ``NativeObject``
    #: whose values are stored, those of the key first, with their types in words of the engine
    columns: Mapping[str, str]
    key: Sequence[str] = ()  #: the columns of the primary key, none of which can be NULL
    condition: str = ""  #: SQL that selects the rows to copy; empty: all rows


def order_columns(columns: Mapping[str, str], key: Sequence[str]) -> Mapping[str, str]:
    """Return the columns of a table, those of the key first."""
    return {name: columns[name] for name in dict.fromkeys([*key, *columns])}


class NativeSchema(Struct, frozen=True, kw_only=True):
    """A schema in the words of its engine."""

    before: Sequence[NativeObject]  #: to create before rows are copied
    after: Sequence[NativeObject]  #: to create after rows were copied
    tables: Sequence[NativeTable]
    omissions: Sequence[Omission] = ()  #: what the destination will lack
    final: Sequence[str] = ()  #: statements that let objects act by themselves, after the transfer has ended

    @property
    def definitions(self) -> Definitions:
        """The statements of each object."""
        return list_definitions([*self.before, *self.after])

    def table(self, name: str) -> NativeTable:
        """Return the table with this name; raises ``KeyError`` if the schema lacks it."""
        return {table.name: table for table in self.tables}[name]


def list_definitions(objects: Sequence[NativeObject], *, only_compared: bool = True) -> Definitions:
    result: dict[tuple[str, str], list[str]] = {}
    for part in objects:
        if part.is_compared or not only_compared:
            result.setdefault((part.kind, part.name), []).extend(part.statements)
    return result


class NativeNames:
    """The tables of a native schema, which may be in other schemas than those of the app, and their names in SQL."""

    def __init__(self, schema: NativeSchema, *, is_destination: bool) -> None:
        self._tables = {table.name: table for table in schema.tables}
        self._is_destination = is_destination

    def require_native(self, table: str) -> NativeTable:
        return self._tables[table]

    def quote_table(self, table: str) -> str:
        native = self._tables[table]
        return native.destination if self._is_destination else native.place

    def quote_column(self, table: str, column: str, alias: str) -> str:
        del table, alias  # a statement reads one table
        return ident(column)

    def primary_key(self, table: str) -> Sequence[str]:
        return self._tables[table].key


#: The tables whose rows a part reads or writes.
TableNames: TypeAlias = Catalog | NativeNames


class NativeSchemas(SqlPart, ABC):
    """The part that describes a database for another one of the same engine."""

    row_source: ClassVar[Callable[..., RowSource]]
    row_sink: ClassVar[Callable[..., RowSink]]
    #: objects of ``after`` cannot be created while rows refer to missing rows
    refuses_orphans: ClassVar[bool] = False
    #: SQL for the number of rows to copy of a table, with its name and its condition
    counting: ClassVar[str] = "select count(*) from {} {}"

    def describes_for(self, destination: Readable) -> bool:
        """Whether the destination, of the same engine, reads the statements of this database."""
        del destination  # of any version
        return True

    @abstractmethod
    def prepare(self, destination: Readable, state_table: str) -> NativeRules:
        """Return the rules of a copy of this database, whose destination has ``state_table``."""

    @abstractmethod
    def read_native(self, rules: NativeRules) -> NativeSchema:
        """Return the whole schema of this database for the destination, from the snapshot of the caller."""

    @abstractmethod
    def read_definitions(self, rules: NativeRules) -> Definitions:
        """Return the objects of this database, the destination, as ``read_native`` of the source does."""

    def create_objects(self, statements: Sequence[str]) -> None:
        """Run the statements of objects in this database, in ``ScriptRunner.schema_transaction``.

        Raises:
            QueryFailedError: the engine refuses a statement.
        """
        require_scripts(self._db).run_definitions(statements)

    def try_objects(self, objects: Sequence[NativeObject]) -> Iterator[tuple[NativeObject, str]]:
        """Create objects in this scratch database; yield those that it refuses, with its reason."""
        db = cast("Writable", self._db)
        for part in objects:
            try:
                with db.transaction():
                    self.create_objects(part.statements)
            except DbctlError as error:
                yield part, str(error.context.get("reason") or error)

    def count_rows(self, schema: NativeSchema, table: str) -> int:
        """Return the number of rows to copy of a table of this database."""
        native = schema.table(table)
        ((count,),) = self._connection.fetch(self.counting.format(native.place, native.condition))
        return int(str(count))

    def open_rows(self, schema: NativeSchema, *, is_destination: bool = False) -> RowSource:
        """Return the part that reads the rows of this database exactly as they are stored."""
        return self.row_source(self._db, NativeNames(schema, is_destination=is_destination))

    def open_sink(self, schema: NativeSchema) -> RowSink:
        """Return the part that writes such rows into this database."""
        return self.row_sink(self._db, NativeNames(schema, is_destination=True))

    @abstractmethod
    def read_values(self, rules: NativeRules, *, is_destination: bool = False) -> Mapping[str, str]:
        """Return the counters of this database, by name, and other values that no table stores."""

    @abstractmethod
    def value_statements(self, values: Mapping[str, str]) -> Sequence[str]:
        """Return the statements for ``create_objects`` that set values of ``read_values`` in this database."""

    @abstractmethod
    def list_contents(self) -> Sequence[str]:
        """Return the names of objects that the destination must not have before a copy."""

    def drop_statements(self, rules: NativeRules) -> Sequence[str]:
        """Return the statements that drop what a copy created in this database."""
        del rules
        return require_scripts(self._db).drop_statements()
