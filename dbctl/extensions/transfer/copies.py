"""The two kinds of a copy: to the same engine with its own definitions, and to any engine with migrations or a derived schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TypeAlias, cast

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.extensions.transfer.adopt import (
    compare_ledgers,
    count_existing_rows,
    find_adoption_problems,
    require_common_tables,
)
from dbctl.extensions.transfer.check import (
    find_orphans,
    find_problems,
    find_refused_statements,
    refuse_problems,
)
from dbctl.extensions.transfer.copy import (
    Destination,
    TransferState,
    drop_state,
    empty_destination,
    has_state,
    load_state,
)
from dbctl.extensions.transfer.endpoints import REMEDY, Endpoints
from dbctl.extensions.transfer.errors import TransferOtherError, TransferSchemaError
from dbctl.extensions.transfer.portable.contract import (
    LARGE_OBJECT,
    ColumnPair,
    DerivedSchema,
    LineColumn,
    Omission,
    PortableSchema,
    PortableSchemas,
    RowSink,
    RowSource,
    require,
    require_scripts,
)
from dbctl.extensions.transfer.portable.native import NativeSchemas, list_definitions
from dbctl.extensions.transfer.schema import (
    UNTRIED,
    SchemaOptions,
    SchemaOrigin,
    TransferSchema,
    attach,
    detach,
    fingerprint,
    fingerprint_objects,
    is_native,
    read_schema,
    refuse_losses,
    select_schema,
)
from dbctl.extensions.transfer.tables import TransferTable, build_tables, pair_columns
from dbctl.extensions.transfer.values.unstorable import CopyProblem
from dbctl.model import Struct
from dbctl.services.app import ledger_detection
from dbctl.services.migrations.database_plan import apply_all
from dbctl.services.migrations.schema_diff import compare_objects


class NativeCopy:
    """A copy to the same engine; the source is in a snapshot."""

    origin: SchemaOrigin = "native"  #: where the schema of the destination comes from

    def __init__(self, endpoints: Endpoints, source: Readable, db: Readable) -> None:
        """Read the schema of the source."""
        self._endpoints, self._reader = endpoints, source
        self._source, self._destination = require(source, NativeSchemas), require(db, NativeSchemas)
        self.rules = self._source.prepare(db, ledger_detection.TRANSFER_TABLE)
        self.schema = self._source.read_native(self.rules)
        self.rows: RowSource = self._source.open_rows(self.schema)
        self.final = self.schema.final
        self.destination_rows = self._destination.open_rows(self.schema, is_destination=True)
        self._tables = [
            TransferTable(
                name=table.name,
                columns=[LineColumn(name=name, kind="native") for name in table.columns],
                key_width=len(table.key),
                pairs=(),
            )
            for table in self.schema.tables
        ]

    def list_tables(self) -> list[TransferTable]:
        return self._tables

    def name_object(self, table: TransferTable) -> str:
        """Return the name that ``compare_schemas`` has for a table."""
        (native,) = (native for native in self.schema.tables if native.name == table.name)
        return native.object_name

    def count_rows(self, table: str) -> int:
        return self._source.count_rows(self.schema, table)

    def find_orphans(self) -> Sequence[CopyProblem]:
        """Return the rows that refer to missing rows, if the destination refuses them."""
        return list(find_orphans(self._reader, self._tables)) if self._source.refuses_orphans else ()

    @property
    def statements(self) -> Sequence[str]:
        """The statements that create the schema."""
        return [sql for part in (*self.schema.before, *self.schema.after) for sql in part.statements]

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """Values by kind and name of an object that change with the schema of the source."""
        tables = {
            f"columns of {table.name}": fingerprint((dict(table.columns), list(table.key)))
            for table in self.schema.tables
        }
        definitions = list_definitions([*self.schema.before, *self.schema.after], only_compared=False)
        return tables | {f"{kind} {name}": fingerprint(part) for (kind, name), part in definitions.items()}

    def open(self, db: Writable) -> Destination:
        """Return the parts of the destination that read and write rows."""
        native = self._destination
        return Destination(db, native.open_sink(self.schema), self.destination_rows, native)

    def drop_statements(self) -> Sequence[str]:
        """Return the statements that empty the destination."""
        return self._destination.drop_statements(self.rules)

    def compare_ledgers(self) -> Iterator[tuple[str, str]]:
        """Yield nothing: rows of ledgers are compared as those of other tables."""
        yield from ()

    def record_created(self, state: TransferState) -> None:
        """Do nothing: ``compare_schemas`` compares with the source."""

    def require_fit(self) -> None:
        """Do nothing: the destination is empty."""

    def refuse_problems(self) -> None:
        """Refuse rows that the destination would not accept.

        Raises:
            ValuesUnstorableError: rows refer to missing rows.
        """
        refuse_problems(self._reader, self.find_orphans())

    def create_schema(self, destination: Destination, state: TransferState) -> None:
        """Create what rows need, and record what is created after them; afterwards the phase is ``copy``.

        Raises:
            TransferSchemaError: the destination would lack rows.
        """
        refuse_losses(self.schema.omissions, str(self._endpoints.destination_url))
        with require_scripts(destination.db).schema_transaction():
            destination.create([sql for part in self.schema.before for sql in part.statements])
            state.add_attachments([list(part.statements) for part in self.schema.after])
        with destination.db.transaction():
            state.enter_phase("copy")

    def set_values(self, destination: Destination) -> None:
        """Set the counters, and other values that no table stores."""
        values = self._source.read_values(self.rules)
        with require_scripts(destination.db).schema_transaction():
            destination.create(self._destination.value_statements(values))

    def find_refused_objects(self) -> Iterator[Omission]:
        """Yield the objects that the destination refuses, found by creating all of them in a scratch database."""
        with ExitStack() as stack:
            try:
                scratch = stack.enter_context(self._endpoints.open_scratch())
            except PrivilegeMissingError:
                yield UNTRIED
                return
            scripts, native = require_scripts(scratch), require(scratch, NativeSchemas)
            with scripts.schema_transaction():
                for sql in native.drop_statements(self.rules) if native.list_contents() else ():
                    scripts.run_statement(sql)
                for part, reason in native.try_objects([*self.schema.before, *self.schema.after]):
                    yield Omission(kind=part.kind, name=part.name, reason=reason, is_blocking=True)

    def compare_schemas(self) -> Iterator[tuple[str, str, str]]:
        """Yield the kind, name and difference of each object that differs."""
        definitions = self._destination.read_definitions(self.rules)
        for (kind, name), change in compare_objects(self.schema.definitions, definitions):
            yield kind, name, "only in the destination" if change == "extra" else change
        expected = self._source.read_values(self.rules)
        actual = self._destination.read_values(self.rules, is_destination=True)
        for name, _ in compare_objects(expected, actual):
            own, other = expected.get(name, "missing"), actual.get(name, "missing")
            yield "value", name, f"{own} in the source, {other} in the destination"


class CopyInspection(Struct, frozen=True, kw_only=True):
    """What a copy into tables of another definition would do."""

    schema: TransferSchema  #: with the statements of a derived schema
    tables: Sequence[TransferTable]
    replaced: Mapping[str, int]  #: rows by table that the destination has already
    problems: Sequence[CopyProblem]  #: what prevents the copy


class PortableCopy:
    """A copy with the app's migrations, or a derived schema; the source is in a snapshot."""

    def __init__(self, endpoints: Endpoints, source: Readable, db: Readable, options: SchemaOptions) -> None:
        """Read the schema of the source.

        Raises:
            TransferSchemaError: it has large objects.
        """
        self._endpoints, self._source, self._db = endpoints, source, db
        self._options = options
        self.schema = select_schema(endpoints, source, db, options)
        refuse_losses([part for part in self.schema.source.omissions if part.kind == LARGE_OBJECT], db.target)
        self.origin: SchemaOrigin = self.schema.origin  #: where the schema of the destination comes from
        self.rows, self.destination_rows = require(source, RowSource), require(db, RowSource)
        self.final: Sequence[str] = ()

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """Values by kind and name of an object that change with the schema of the source."""
        # a comparison does not read ledgers
        return fingerprint_objects(self.schema.source, self.schema.exclusions.ledgers)

    def list_tables(self) -> list[TransferTable]:
        """Return the tables with the columns of both sides.

        Raises:
            TransferSchemaError: the destination lacks a table or a column.
        """
        return self._pair_tables(read_schema(self._db))

    def name_object(self, table: TransferTable) -> str:
        """Return the name that ``compare_schemas`` has for a table."""
        return table.name

    def open(self, db: Writable) -> Destination:
        """Return the parts of the destination that read and write rows."""
        return Destination(db, require(db, RowSink), require(db, RowSource))

    def require_fit(self) -> None:
        """Refuse a schema that the app made, if rows do not fit, or if it has other rows.

        Raises:
            TransferDestinationError: it has tables or many rows that the source lacks.
            ValuesUnstorableError: with all problems.
        """
        if self.origin == "destination" and not has_state(self._db):
            self._refuse_unfit(self._db)

    def _refuse_unfit(self, db: Readable) -> None:
        refuse_problems(self._source, self.inspect(db).problems)

    def inspect(self, destination: Readable) -> CopyInspection:
        """Return the tables to copy, and what prevents the copy; every row of the source is read.

        ``destination`` is a database with the tables; for a derived schema, one in which its statements are tried.

        Raises:
            TransferDestinationError: the app made the tables of the destination, and it has others, or too many rows.
            TransferSchemaError: the destination would lack a table or a column.
        """
        endpoints, source, schema = self._endpoints, self._source, self.schema
        replaced, problems = dict[str, int](), list[CopyProblem]()
        if schema.origin == "derived":
            derived = self._derive(destination)
            tables = self._build_tables(derived.columns)
            schema = structs.replace(
                schema,
                statements=derived.before,
                later_statements=derived.after,
                omissions=[*derived.omissions, *([UNTRIED] if destination is self._db else [])],
            )
            if destination is not self._db:
                problems += find_refused_statements(schema, destination)
            schemas = read_schema(source), read_schema(destination)
        else:
            is_new = schema.origin == "destination" and not has_state(destination)
            if is_new:
                require_common_tables(endpoints, schema, self._options, destination)
            schemas = read_schema(source), read_schema(destination)
            tables = self._pair_tables(schemas[1])
            if is_new:
                replaced.update(count_existing_rows(endpoints, source, destination, tables))
                problems += find_adoption_problems(endpoints, source, destination, tables, replaced, schemas)
        problems += find_problems(source, destination, tables, schemas)
        return CopyInspection(schema=schema, tables=tables, replaced=replaced, problems=problems)

    @contextmanager
    def open_trial(self) -> Iterator[Readable]:
        """Provide a private database with the engine of the destination, and with the tables of the app's migrations.

        It is dropped at the end of the block. Without migrations, the destination is provided if the app made its schema, or
        to a user who may not create databases on the server.

        Raises:
            PrivilegeMissingError: the user may not create databases on the server.
        """
        if self.origin == "destination":
            yield self._db
            return
        with ExitStack() as stack:
            try:
                scratch = stack.enter_context(self._endpoints.open_scratch())
            except PrivilegeMissingError:
                if self.schema.migrations:
                    raise
                yield self._db
                return
            if self.schema.migrations:
                apply_all(self.schema.migrations, scratch)
            yield scratch

    def _derive(self, destination: Readable) -> DerivedSchema:
        """Return the statements of the destination's engine.

        Raises:
            TransferSchemaError: rows would be lost.
        """
        part = require(destination, PortableSchemas)
        derived = part.derive(self.schema.source, time_form=self._endpoints.time_form)
        or_else = ", or choose a destination of the same engine"
        refuse_losses(derived.omissions, destination.target, or_else=or_else)
        return derived

    def _build_tables(self, pairs: Sequence[ColumnPair]) -> list[TransferTable]:
        endpoints = self._endpoints
        target = endpoints.destination.target(endpoints.database)
        return build_tables(self.schema.source.tables, pairs, time_form=endpoints.time_form, target=target)

    def _pair_tables(self, other: PortableSchema) -> list[TransferTable]:
        """Return the tables with the columns of both sides; ``other`` is the schema of the destination.

        Raises:
            TransferSchemaError: the destination lacks a table or a column.
        """
        try:
            return self._build_tables(pair_columns(self.schema.source, other))
        except TransferSchemaError as error:
            if self.origin != "migrations":
                error.hint = f"No row was copied. {REMEDY}"
            raise

    def compare_ledgers(self) -> Iterator[tuple[str, str]]:
        """Yield the ledger and the difference of each migration that only one side records."""
        if self.origin != "migrations":  # those of the profile have other names on another engine
            yield from compare_ledgers(self._endpoints, self._source, self._db)

    def compare_schemas(self) -> Iterator[tuple[str, str, str]]:
        """Yield the kind, name and difference of what the destination lacks of an unfinished copy, and of its ledger."""
        for name, difference in self.compare_ledgers():
            yield "ledger", name, difference
        if not has_state(self._db):
            return
        try:
            # it is only read
            state = load_state(cast("Writable", self._db), self._endpoints.identity)
        except TransferOtherError:  # a copy of this database that arrived over another one
            return
        for group in state.attachments.values():
            yield "statement", "; ".join(group), "missing"
        yield from state.list_lost_objects(self._read_created())
        for change in state.list_schema_changes(self.fingerprints):
            yield "schema", self._endpoints.target, f"{change} since the copy"

    def _read_created(self) -> Mapping[str, str]:
        return fingerprint_objects(read_schema(self._db), [ledger_detection.TRANSFER_TABLE])

    def record_created(self, state: TransferState) -> None:
        """Record the objects of the destination, which a comparison then misses."""
        state.save_created(self._read_created())

    def drop_statements(self) -> Sequence[str]:
        """Return the statements that empty the destination."""
        return require_scripts(self._db).drop_statements()

    def create_schema(self, destination: Destination, state: TransferState) -> None:
        """Create the tables, and detach what the copy does not need; afterwards the phase is ``copy``."""
        db = destination.db
        if self.schema.migrations:
            apply_all(self.schema.migrations, db)
        derived, scripts = self._derive(db) if self.origin == "derived" else None, require_scripts(db)
        with scripts.schema_transaction():
            for sql in derived.before if derived else ():
                scripts.run_statement(sql)
            detach(destination, state, indexes=True)
            state.add_attachments([[sql] for sql in derived.after] if derived else [])
        with destination.sink.bulk_load(), db.transaction():
            # The source has the rows that migrations insert.
            for table in reversed(self.schema.source.tables):
                db.delete(table.name, ())
            state.enter_phase("copy")

    def refuse_problems(self) -> None:
        """Refuse rows and statements that the destination would not accept.

        Raises:
            ValuesUnstorableError: with all problems.
        """
        if self.origin == "destination":
            return  # as ``require_fit`` did
        if self.schema.migrations:
            self._refuse_unfit(self._db)
            return
        # its types have the checks that the types of the destination lack
        with self.open_trial() as scratch:
            self._refuse_unfit(scratch)

    def set_values(self, destination: Destination) -> None:
        """Set the counters."""
        db = destination.db
        numbers = require(self._source, PortableSchemas).read_counters()
        with db.transaction():  # also where the source counts nothing, and takes the largest key
            for table in self.schema.source.tables:
                db.advance_sequences(table.name)
        statements = require(db, PortableSchemas).set_counters(numbers)
        with require_scripts(db).schema_transaction():
            destination.create(statements)


Copy: TypeAlias = NativeCopy | PortableCopy


def open_copy(endpoints: Endpoints, source: Readable, db: Readable, options: SchemaOptions) -> Copy:
    """Return the copy of the source, which is in a snapshot."""
    if is_native(endpoints, source, db, options):
        return NativeCopy(endpoints, source, db)
    return PortableCopy(endpoints, source, db, options)


@contextmanager
def drop_refused_copy(db: Writable, state: TransferState, copy: Copy) -> Iterator[None]:
    """Drop what the block created in the destination if it fails before a row was copied.

    A schema that the app made gets its indexes and foreign keys back.
    """
    try:
        yield
    except DbctlError:
        if not state.tables and copy.origin == "destination":
            attach(copy.open(db), state)
            drop_state(db)
        elif not state.tables:
            empty_destination(db, copy.drop_statements())
        raise
