"""``transfer plan``: what a transfer would copy, and what prevents it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import Exit
from dbctl.extensions.transfer.copies import NativeCopy, PortableCopy
from dbctl.extensions.transfer.copy import has_state
from dbctl.extensions.transfer.endpoints import Endpoints
from dbctl.extensions.transfer.portable.contract import (
    Omission,
    PortableSchemas,
    RowSource,
    ValueChange,
    require,
)
from dbctl.extensions.transfer.schema import SchemaOptions, SchemaOrigin, is_native
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values.unstorable import CopyProblem, find_changes, write_key
from dbctl.model import Closing, Plan, Row, Struct, format_count

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
    source = endpoints.open_source()
    with ExitStack() as stack:
        current = stack.enter_context(endpoints.open_destination_for_reading())
        # instead of a file that does not exist, an empty one
        db = current or stack.enter_context(endpoints.open_scratch())
        stack.enter_context(require(source, RowSource).snapshot())
        if is_native(endpoints, source, db, options):
            return _plan_native_copy(endpoints, source, db)
        copy = PortableCopy(endpoints, source, db, options)
        destination = stack.enter_context(copy.open_trial())
        inspection = copy.inspect(destination)
        schema, tables = inspection.schema, inspection.tables
        copied = {table.name for table in tables}
        is_adopted = copy.origin == "destination"
        return _create_plan(
            endpoints,
            copy.origin,
            _plan_tables(source, tables, source.count, inspection.replaced, is_adopted=is_adopted),
            excluded=sorted(
                name
                for name, table in source.tables().items()
                if not table.is_view and schema.exclusions.is_excluded(name) and name not in copied
            ),
            statements=[*schema.statements, *schema.later_statements],
            omissions=schema.omissions,
            changes=list(find_changes(source, tables, require(destination, PortableSchemas).limits)),
            problems=inspection.problems,
        )


def _plan_native_copy(endpoints: Endpoints, source: Readable, db: Readable) -> TransferPlan:
    """Return the plan of a copy with the definitions of the source."""
    if not has_state(db):
        endpoints.require_empty(db)
    copy = NativeCopy(endpoints, source, db)
    omissions = [*copy.schema.omissions, *copy.find_refused_objects()]
    problems = [
        CopyProblem(table=part.name, column=part.kind, keys=(), rows=0, reason=part.reason)
        for part in omissions
        if part.is_blocking
    ]
    return _create_plan(
        endpoints,
        copy.origin,
        _plan_tables(source, copy.list_tables(), copy.count_rows),
        statements=copy.statements,
        omissions=omissions,
        problems=[*problems, *copy.find_orphans()],
    )


def _create_plan(
    endpoints: Endpoints,
    origin: SchemaOrigin,
    tables: Sequence[PlannedTable],
    *,
    statements: Sequence[str],
    omissions: Sequence[Omission],
    problems: Sequence[CopyProblem],
    excluded: Sequence[str] = (),
    changes: Sequence[ValueChange] = (),
) -> TransferPlan:
    return TransferPlan(
        target=endpoints.target,
        source=str(endpoints.source_url),
        destination=str(endpoints.destination_url),
        schema=origin,
        tables=tables,
        excluded=excluded,
        statements=statements,
        omissions=[
            PlannedOmission(kind=part.kind, name=part.name, table=part.table, reason=part.reason)
            for part in omissions
        ],
        changes=changes,
        problems=problems,
    )


def _plan_tables(
    source: Readable,
    tables: Sequence[TransferTable],
    count_rows: Callable[[str], int],
    replaced: Mapping[str, int] = {},
    *,
    is_adopted: bool = False,
) -> list[PlannedTable]:
    measured = {size.table: size.bytes for size in source.storage.measure_tables(exact=False)}
    return [
        PlannedTable(
            table=table.name,
            rows=count_rows(table.name),
            bytes=measured.get(table.name),
            columns=len(table.columns),
            replaced=replaced.get(table.name, 0),
            conversions=_describe_conversions(table, is_adopted=is_adopted),
        )
        for table in tables
    ]


def _describe_conversions(table: TransferTable, *, is_adopted: bool) -> Mapping[str, str]:
    """Return the changes of types by column: of their kinds, and all differences in tables that the app made."""
    if is_adopted:
        return {
            pair.column: f"{own} to {other}"
            for pair in table.pairs
            if (own := pair.source_type.describe()) != (other := pair.destination_type.describe())
        }
    return {pair.column: pair.conversion for pair in table.pairs if pair.conversion}
