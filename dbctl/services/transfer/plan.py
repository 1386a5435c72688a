"""``transfer plan``: what a transfer would copy, and what prevents it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

from msgspec import structs

from dbctl.engines.contract.checks import SizeMonitor
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.portable import PortableSchemas, RowSource, ValueChange
from dbctl.errors.base import Exit
from dbctl.model import Closing, Plan, Row, Struct, format_count
from dbctl.services.transfer.adopt import (
    count_existing_rows,
    find_adoption_problems,
    is_adopted,
    require_common_tables,
)
from dbctl.services.transfer.check import find_orphans, find_problems, find_refused_statements
from dbctl.services.transfer.compare import require
from dbctl.services.transfer.copies import NativeCopy
from dbctl.services.transfer.copy import has_state
from dbctl.services.transfer.endpoints import Endpoints
from dbctl.services.transfer.schema import (
    UNTRIED,
    SchemaOptions,
    SchemaOrigin,
    build_copied_tables,
    derive_schema,
    is_native,
    open_planned_destination,
    pair_tables,
    select_schema,
)
from dbctl.services.transfer.tables import TransferTable, list_exclusions
from dbctl.services.transfer.values.unstorable import CopyProblem, find_changes, write_key

_ORIGINS: Mapping[SchemaOrigin, str] = {
    "migrations": "the app's migrations",
    "derived": "a derived schema",
    "native": "the definitions of its engine",
    "destination": "the tables that it has",
}


class PlannedTable(Struct, frozen=True, kw_only=True):
    """One table that a transfer would copy."""

    table: str
    rows: int
    bytes: int | None  #: with its indexes, in the source; None if unknown
    columns: int
    conversions: Mapping[str, str]  #: by column, where the type of the destination differs
    replaced: int = 0  #: rows that the destination has already, and that are equal to rows of the source


class PlannedOmission(Struct, frozen=True, kw_only=True):
    """A part of the schema that the destination would lack."""

    kind: str
    name: str
    table: str
    reason: str


class TransferPlan(Struct, frozen=True, kw_only=True):
    """Result of ``transfer plan``."""

    target: str
    source: str
    destination: str
    schema: SchemaOrigin  #: where the tables of the destination come from
    tables: Sequence[PlannedTable]  #: in the order of the copy
    excluded: Sequence[str]  #: tables that are not copied: ledgers and search indexes
    statements: Sequence[str]  #: those of a derived schema
    omissions: Sequence[PlannedOmission]
    changes: Sequence[ValueChange]  #: values that change, although their type does not
    problems: Sequence[CopyProblem]  #: what prevents the transfer

    @property
    def closing(self) -> Closing:
        problems = format_count(len(self.problems), "problem") if self.problems else "no problems"
        tables = format_count(len(self.tables), "table")
        return Closing(f"Checked {tables}", [format_count(self.rows, "row"), problems], is_timed=True)

    @property
    def status(self) -> Exit:
        """The exit code of the command."""
        return Exit.CHECK_FAILED if self.problems else Exit.OK

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(table.rows for table in self.tables)

    def summary(self) -> Sequence[Row]:
        return [
            {
                "table": table.table,
                "rows": table.rows,
                "bytes": table.bytes,
                "conversions": ", ".join(f"{name}: {change}" for name, change in table.conversions.items()),
            }
            for table in self.tables
        ]

    def sections(self) -> Mapping[str, Sequence[object]]:
        problems = [
            {
                "table": problem.table,
                "column": problem.column,
                "rows": problem.rows,
                "reason": problem.reason,
                "keys": "; ".join(map(write_key, problem.keys)),
            }
            for problem in self.problems
        ]
        return {
            "statements": [line for sql in self.statements for line in f"{sql};".splitlines()],
            "changes": self.changes,
            "omissions": self.omissions,
            "problems": problems,
        }

    @property
    def remarks(self) -> Sequence[str]:
        """The sections as sentences."""
        return [
            *map(str, self.problems),
            *(
                f"{change.table}.{change.column}: {change.change} in {format_count(change.rows, 'row')}"
                for change in self.changes
            ),
            *(f"{part.kind} {part.name} is omitted: {part.reason}" for part in self.omissions),
        ]

    def to_plan(self) -> Plan:
        """Return the steps of ``transfer run``."""
        origin = _ORIGINS[self.schema]
        verb = "fill" if self.schema == "destination" else "create"
        steps = [f"{verb} {format_count(len(self.tables), 'table')} in {self.destination} with {origin}"]
        steps += [
            f"replace {format_count(table.replaced, 'row')} of {table.table}, which the source has, too"
            for table in self.tables
            if table.replaced
        ]
        steps += [f"copy {format_count(table.rows, 'row')} of {table.table}" for table in self.tables]
        steps += [f"omit {omission.kind} {omission.name}: {omission.reason}" for omission in self.omissions]
        steps += [
            f"change {format_count(change.rows, 'value')} of {change.table}.{change.column}: {change.change}"
            for change in self.changes
        ]
        steps += [f"refuse: {problem}" for problem in self.problems]
        steps += ["create indexes and foreign keys", "compare each table with the source"]
        return Plan(
            title=f"Copy {format_count(self.rows, 'row')} to {self.destination}",
            target=self.target,
            steps=steps,
            rows={table.table: table.rows for table in self.tables},
        )


def plan_transfer(endpoints: Endpoints, options: SchemaOptions) -> TransferPlan:
    """Return what ``transfer run`` would do; the destination is not changed.

    Raises:
        TransferDestinationError: the destination is not empty.
        TransferSchemaError: the destination would lack a table or a column.
        PrivilegeMissingError: migrations cannot be run in a private database of the server.
    """
    app, database = endpoints.app, endpoints.database
    source = endpoints.open_source()
    with ExitStack() as stack:
        current = stack.enter_context(endpoints.open_destination_for_reading())
        stack.enter_context(require(source, RowSource).snapshot())
        if is_native(endpoints, source, current, options):
            return _plan_native_copy(endpoints, source, current)
        exclusions = list_exclusions(app, database, source)
        options = structs.replace(options, is_adopted=current is not None and is_adopted(endpoints, current))
        schema = select_schema(endpoints, source, exclusions, options)
        problems, replaced = list[CopyProblem](), dict[str, int]()
        planned_destination = open_planned_destination(schema, endpoints, current)
        destination = stack.enter_context(planned_destination)
        if options.is_adopted:
            if not has_state(destination):
                require_common_tables(endpoints, schema, options, destination)
            tables = pair_tables(endpoints, schema, destination)
            if not has_state(destination):
                replaced.update(count_existing_rows(endpoints, source, destination, tables))
                problems += find_adoption_problems(endpoints, source, destination, tables, replaced)
        elif schema.migrations:
            tables = pair_tables(endpoints, schema, destination)
        else:
            schema, pairs = derive_schema(schema, destination)
            tables = build_copied_tables(endpoints, schema, pairs)
            if destination is current:
                schema = structs.replace(schema, omissions=[*schema.omissions, UNTRIED])
            else:
                problems += find_refused_statements(schema, destination)
        problems += find_problems(source, destination, tables)
        changes = list(find_changes(source, tables, require(destination, PortableSchemas).limits))
        measured = _measure_tables(source)
        planned = [
            PlannedTable(
                table=table.name,
                rows=source.count(table.name),
                bytes=measured.get(table.name),
                columns=len(table.columns),
                replaced=replaced.get(table.name, 0),
                conversions=_describe_conversions(table, is_adopted=options.is_adopted),
            )
            for table in tables
        ]
    copied = {table.table for table in planned}
    return TransferPlan(
        target=endpoints.target,
        source=str(endpoints.source_url),
        destination=str(endpoints.destination_url),
        schema=schema.origin,
        tables=planned,
        excluded=sorted(
            name
            for name, table in source.tables().items()
            if not table.is_view and exclusions.is_excluded(name) and name not in copied
        ),
        statements=[*schema.statements, *schema.later_statements],
        omissions=[
            PlannedOmission(
                kind=omission.kind, name=omission.name, table=omission.table, reason=omission.reason
            )
            for omission in schema.omissions
        ],
        changes=changes,
        problems=problems,
    )


def _plan_native_copy(endpoints: Endpoints, source: Readable, current: Readable | None) -> TransferPlan:
    """Return the plan of a copy with the definitions of the source; ``current``: None for a file that would be created."""
    if current is not None and not has_state(current):
        endpoints.require_empty(current)
    with ExitStack() as stack:
        destination = current
        if destination is None:
            engine = endpoints.destination.engine(endpoints.database)
            scratch = engine.open_scratch(endpoints.destination_url, endpoints.target)
            destination = stack.enter_context(closing(scratch))
        copy = NativeCopy(endpoints, source, destination)
        tables = copy.list_tables()
        omissions = [*copy.schema.omissions, *copy.find_refused_objects()]
        problems = [
            CopyProblem(table=part.name, column=part.kind, keys=(), rows=0, reason=part.reason)
            for part in omissions
            if part.is_blocking
        ]
        problems += find_orphans(source, tables) if copy.refuses_orphans else ()
        measured = _measure_tables(source)
        planned = [
            PlannedTable(
                table=table.name,
                rows=copy.count_rows(table.name),
                bytes=measured.get(table.name),
                columns=len(table.columns),
                conversions={},
            )
            for table in tables
        ]
    return TransferPlan(
        target=endpoints.target,
        source=str(endpoints.source_url),
        destination=str(endpoints.destination_url),
        schema="native",
        tables=planned,
        excluded=(),
        statements=copy.statements,
        omissions=[
            PlannedOmission(kind=part.kind, name=part.name, table=part.table, reason=part.reason)
            for part in omissions
        ],
        changes=(),
        problems=problems,
    )


def _describe_conversions(table: TransferTable, *, is_adopted: bool) -> Mapping[str, str]:
    """Return the changes of types by column: of their kinds, and all differences in tables that the app made."""
    if is_adopted:
        return {
            pair.column: f"{own} to {other}"
            for pair in table.pairs
            if (own := pair.source_type.describe()) != (other := pair.destination_type.describe())
        }
    return {pair.column: pair.conversion for pair in table.pairs if pair.conversion}


def _measure_tables(source: Readable) -> Mapping[str, int | None]:
    """Return the sizes of tables in bytes."""
    sizes = source.part(SizeMonitor)
    return {size.table: size.bytes for size in sizes.measure_tables(exact=False)} if sizes else {}
