"""``data replace``: a text is replaced in the databases of an app, also inside values of PHP and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract.database import Writable
from dbctl.engines.sql.codec import is_encodable
from dbctl.errors.databases import ColumnMissingError
from dbctl.errors.usage import UsageError
from dbctl.extensions.copies.replace_rows import (
    KEY,
    NAMES,
    NO_KEY,
    SECRET,
    TYPE,
    UNREADABLE,
    Place,
    ReplacedRows,
    ReplaceInDatabase,
    ReplaceRequest,
)
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.results import missing_table_error
from dbctl.services.app.validation import truncate
from dbctl.services.users.sign_in_state import SignInChanges

_REASONS: Mapping[str, str] = {
    KEY: "keys are not changed",
    SECRET: "secrets are not changed without --secrets",
    UNREADABLE: "the value is serialized, and damaged or of a form of its own",
    NAMES: "names in serialized values are not changed",
    TYPE: "the column has no type for text",
    NO_KEY: "the table has no primary key",
}


class ReplacedColumn(Struct, frozen=True, kw_only=True):
    """A column in which the text was replaced."""

    database: str
    table: str
    column: str
    rows: int


class RemainingText(Struct, frozen=True, kw_only=True):
    """A column in whose values the text remains, at least in a part."""

    database: str
    table: str
    column: str  #: empty: the columns of a table without a primary key
    rows: int
    reason: str  #: ``key``, ``secret``, ``unreadable``, ``names``, ``type``, ``no-primary-key``
    keys: Sequence[Sequence[object]]  #: primary keys of the first rows, if the values are unreadable

    def describe(self) -> str:
        """Return what remains, and why."""
        name = ".".join(filter(None, [self.table, self.column]))
        keys = ", ".join(" ".join(map(str, key)) for key in self.keys)
        rows = format_count(self.rows, "row") + (f" ({keys})" if keys else "")
        return f"the text remains in {rows} of {name}: {_REASONS[self.reason]}"


class ReplaceResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data replace``."""

    is_timed = True

    replaced: Sequence[ReplacedColumn]
    rows: Mapping[str, int]  #: changed rows by table; other databases than the first are part of the name
    remaining: Sequence[RemainingText]

    @property
    def effect(self) -> Effect | None:
        if not self.replaced:
            return None
        values = {"values": sum(column.rows for column in self.replaced)}
        place = f"of {format_count(len(self.rows), 'table')}"
        return Effect("changed", "row", count=sum(self.rows.values()), place=place, counts=values)

    @property
    def remarks(self) -> Sequence[str]:
        return [remaining.describe() for remaining in self.remaining]


def replace_text(app: App, request: ReplaceRequest) -> Change[ReplaceResult]:
    """Replace a text in all tables of the writable databases, or of the selected one; each has one transaction.

    Raises:
        UsageError: the text is empty or invalid.
        ReadOnlyError: the selected database may not be written, or none.
        TableMissingError, ColumnMissingError (when planned and when applied): no database has a table or column of the request.
        ValueInvalidError (also): a value would be too long, or violates a rule of the app.
        ConstraintError (when applied): the database refuses a value, such as a duplicate.
    """
    _check_texts(request)
    databases = [app.only] if app.only else _list_writable(app)
    for name in databases:
        app.require_writable(name)
    return Change(
        app,
        databases[0],
        lambda _: ReplaceEverywhere(app, databases, request),
        cascade_databases=lambda: databases[1:],
    )


def _check_texts(request: ReplaceRequest) -> None:
    if not request.old:
        raise UsageError(detail="the text to replace is empty")
    if request.old == request.new:
        raise UsageError(detail="the two texts are equal")
    if any("\0" in text or not is_encodable(text) for text in (request.old, request.new)):
        raise UsageError(detail="a text contains NUL, or is not valid UTF-8")


def _list_writable(app: App) -> list[str]:
    """Return the databases that dbctl may change; without any, the main one, because its refusal has the reason."""
    names = [name for name in app.configured.databases if app.database(name).mode != "read-only"]
    return names or [app.main_database]


class ReplaceEverywhere:
    """The replacement in all databases."""

    def __init__(self, app: App, databases: Sequence[str], request: ReplaceRequest) -> None:
        """Read the rows, and check every rule; raises as ``replace_text``."""
        self._app = app
        self._replacements = [ReplaceInDatabase(app, name, app.reader(name), request) for name in databases]
        _require_tables(app, databases, request)
        counted = {replacement.name: replacement.count() for replacement in self._replacements}
        result = _create_result(counted)
        steps = [
            f"change {format_count(item.rows, 'value')} of {item.table}.{item.column}"
            + (f" in {app.target(item.database)}" if item.database != databases[0] else "")
            for item in result.replaced
        ]
        steps += self._list_lost(counted)
        old, new = (repr(truncate(text)) for text in (request.old, request.new))
        self.plan = Plan(
            title=f"Replace {old} with {new}",
            target=app.target(databases[0]) if len(databases) == 1 else app.name,
            steps=[*steps, *result.remarks],
            rows=result.rows,
            destructive=bool(result.rows),
        )

    def _list_lost(self, counted: Mapping[str, ReplacedRows]) -> Iterator[str]:
        """Yield steps about what ``undo`` will not restore."""
        if secrets := sum(rows.secrets for rows in counted.values()):
            yield f"undo will not restore {format_count(secrets, 'secret')}"
        for database, rows in counted.items():
            tables = self._app.reader(database).tables()
            for table in rows.rows:
                sign_ins = SignInChanges.list_rows(self._app, database, tables[table])
                if any(not (item.only or item.columns) for item in sign_ins):
                    yield f"undo will not restore the rows of {table}, a table of sign-ins"

    def apply(self, _: Writable) -> ReplaceResult:
        """Change the rows in the open transactions."""
        return _create_result(
            {
                replacement.name: replacement.apply(self._app.writers[replacement.name])
                for replacement in self._replacements
            }
        )


def _create_result(rows: Mapping[str, ReplacedRows]) -> ReplaceResult:
    first = next(iter(rows))

    def list_places() -> Iterator[tuple[str, Place, int, ReplacedRows]]:
        for database, counts in rows.items():
            for place, count in counts.values.items():
                yield database, place, count, counts

    return ReplaceResult(
        replaced=[
            ReplacedColumn(database=database, table=place.table, column=place.column, rows=count)
            for database, place, count, _ in list_places()
            if not place.reason
        ],
        rows={
            table if database == first else f"{database}/{table}": count
            for database, counts in rows.items()
            for table, count in counts.rows.items()
        },
        remaining=[
            RemainingText(
                database=database,
                table=place.table,
                column=place.column,
                rows=count,
                reason=place.reason,
                keys=counts.keys.get(place, ()),
            )
            for database, place, count, counts in list_places()
            if place.reason
        ],
    )


def _require_tables(app: App, databases: Sequence[str], request: ReplaceRequest) -> None:
    """Refuse tables and columns that no database has."""
    schemas = [app.reader(name).tables() for name in databases]
    for path in [*request.tables, *request.skipped]:
        if any(path in tables for tables in schemas):
            continue
        table, _, column = path.rpartition(".")
        live = next((tables[table] for tables in schemas if table in tables), None)
        if path in request.tables or live is None:
            raise missing_table_error(app, app.reader(databases[0]), table or path)
        if column not in live.columns:
            raise ColumnMissingError(
                table=table, column=column, names=", ".join(live.columns), candidates=live.columns
            )
