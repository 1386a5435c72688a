"""``schema diff``: compare the schemas of two databases: of an app, at an address, in a backup, or the result of all migrations."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from msgspec import structs

from dbctl.config import loader
from dbctl.config.model import PLAIN
from dbctl.config.sections import Selection
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.schema import Schema, SchemaColumn, SchemaIndex, SchemaTable
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.usage import ConfigMissingError
from dbctl.extensions.transfer.errors import SideMissingError, SidesSameError
from dbctl.extensions.transfer.portable.contract import (
    PortableSchema,
    PortableSchemas,
    PortableTable,
    require,
)
from dbctl.extensions.transfer.portable.read import simplify_actions
from dbctl.model import Closing, Row, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.app.ledger_detection import TRANSFER_TABLE
from dbctl.services.app.session import open_app
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.repository import Repository
from dbctl.services.migrations.drift import SchemaReplay, read_schema
from dbctl.services.migrations.ledger.state import read_state
from dbctl.services.migrations.schema_diff import Difference, compare, split_schema
from dbctl.services.migrations.status import find_targets
from dbctl.services.restore.source import BackupSource
from dbctl.url import find_scheme

BACKUP_PREFIX = "backup:"
#: The side that is the result of all migrations of the other one.
MIGRATIONS = "migrations"


class SideOptions(Struct, frozen=True, kw_only=True):
    """How sides are selected and opened."""

    selection: Selection
    timeout: float
    database: str  #: the database of a side that names only an app, or a backup; empty: the main database
    repository: str  #: address of the repository; empty: the configured one
    create_keys: Callable[[App], DecryptionKeys]


class Side(Struct, frozen=True, kw_only=True):
    """One opened database."""

    name: str
    app: App
    database: str
    db: Readable
    ledgers: Collection[str] = ()  #: tables that both sides ignore, because only one records migrations


class _Place(NamedTuple):
    """A database that is not opened yet."""

    selection: Selection
    database: str


@contextmanager
def open_sides(names: Sequence[str], options: SideOptions) -> Iterator[tuple[Side, Side]]:
    """Open two databases for reading; a backup is restored into a temporary database.

    A backup, and migrations, belong to the database of the other side, or to that of the options.

    Raises:
        SideMissingError: a name is neither an app nor a database nor a file.
        SidesSameError: both are the same database.
        BackupMissingError, MigrationsMissingError: the app has no such backup, or no migrations.
    """
    if names[0] == names[1]:
        raise SidesSameError(first=names[0], second=names[1])
    places = [None if _is_derived(name) else _find_place(name, options) for name in names]
    default = next(filter(None, places), _Place(options.selection, options.database))
    with ExitStack() as stack:
        sides = [
            _open_database(stack, place, options) if place else _open_derived(stack, name, default, options)
            for name, place in zip(names, places, strict=True)
        ]
        if all(places):
            _refuse_same(*sides)
        yield sides[0], sides[1]


def _is_derived(name: str) -> bool:
    return name == MIGRATIONS or name.startswith(BACKUP_PREFIX)


def _find_place(name: str, options: SideOptions) -> _Place:
    """Return the database of an app, or at an address."""
    selection = options.selection
    try:
        apps = loader.load(selection).apps
    except ConfigMissingError:
        apps = {}
    prefix, _, last = name.rpartition("/")
    owner = apps.get(prefix.partition("/")[0])
    if owner and owner.is_fleet and prefix == owner.name:
        return _Place(structs.replace(selection, app=name), options.database)
    if name in apps:
        return _Place(structs.replace(selection, app=name), options.database)
    if owner and (owner.is_fleet or prefix == owner.name):
        return _Place(structs.replace(selection, app=prefix), last)
    databases = _list_databases(selection)
    if name in databases:
        return _Place(selection, name)
    scheme, separator, _ = name.partition(":")
    if not (separator and find_scheme(scheme.lower().partition("+")[0])) and not os.path.lexists(name):
        raise SideMissingError(name=name, candidates=[*apps, *databases])
    return _Place(Selection(profile=PLAIN, urls=[f"main={name}"]), "")


def _list_databases(selection: Selection) -> Collection[str]:
    """Return the databases of the selected app; none if no app is selected."""
    try:
        return loader.find_app(selection, allow_fleet=True).databases
    except DbctlError:  # every side has a name of its own
        return ()


def _open_app(stack: ExitStack, place: _Place, options: SideOptions) -> tuple[App, str]:
    """Return the app of a database, and the name of the database."""
    app = stack.enter_context(open_app(place.selection, timeout=options.timeout, only=place.database))
    return app, app.only or app.main_database


def _open_database(stack: ExitStack, place: _Place, options: SideOptions) -> Side:
    app, database = _open_app(stack, place, options)
    name = str(app.url(database)) if place.selection.profile == PLAIN else app.target(database)
    return Side(name=name, app=app, database=database, db=app.reader(database, allow_empty=True))


def _open_derived(stack: ExitStack, name: str, place: _Place, options: SideOptions) -> Side:
    app, database = _open_app(stack, place, options)
    if name == MIGRATIONS:
        (target,) = find_targets(app, database)
        target = read_state(
            target, app.reader(database, allow_empty=True)
        ).target  # with the variant of the database
        replay = SchemaReplay(app, target, list(target.folder.files.values()))
        return Side(
            name=f"{MIGRATIONS} of {app.target(database)}",
            app=app,
            database=database,
            db=stack.enter_context(replay.open_result()),
            ledgers=target.ledger_tables,
        )
    repository = Repository(app, options.repository)
    manifest = repository.find(name.removeprefix(BACKUP_PREFIX))
    source = BackupSource(repository, manifest, options.create_keys(app))
    member = manifest.restorable_member(database)
    if member is None:
        raise source.missing_error(database)
    source.prepare_keys()
    return Side(
        name=f"backup {manifest.id} of {app.target(database)}",
        app=app,
        database=database,
        db=stack.enter_context(source.open_content(member)),
    )


def _refuse_same(first: Side, second: Side) -> None:
    urls = [side.app.url(side.database) for side in (first, second)]
    if len({(url.engine, url.options) for url in urls}) > 1:  # the options select the schema of a server
        return
    identities = [side.app.restore_target(side.database).identity() for side in (first, second)]
    if identities[0] == identities[1]:
        raise SidesSameError(first=first.name, second=second.name)


PORTABLE_REMARK = (
    "the engines differ: expressions, checks, views, triggers, lengths and collations are not compared"
)


class SchemaDifference(Struct, frozen=True, kw_only=True):
    """One difference of two schemas."""

    object: str  #: ``table``, ``column``, ``index`` …
    name: str  #: ``table``, ``table.column``, or words with the name of the table
    change: str  #: ``only a``, ``only b``, ``differs``
    a: str  #: the definition; empty if the side lacks it
    b: str


class ComparedSides(Struct, frozen=True, kw_only=True):
    """The result of a comparison of two sides."""

    a: str  #: the name of the first side
    b: str
    equal: bool

    @property
    def status(self) -> Exit:
        """The exit code of the command with ``--check``."""
        return Exit.OK if self.equal else Exit.CHECK_FAILED


class SchemaDiff(ComparedSides, frozen=True, kw_only=True):
    """Result of ``schema diff``."""

    compared: int  #: tables, columns, keys, indexes, …
    differences: Sequence[SchemaDifference]
    remarks: Sequence[str]

    @property
    def closing(self) -> Closing:
        details = [format_count(len(self.differences), "difference")] if self.differences else ["all equal"]
        return Closing(
            f"Compared {format_count(self.compared, 'part')} of two schemas", details, is_timed=True
        )

    def summary(self) -> Row:
        summary: dict[str, object] = {"a": self.a, "b": self.b, "equal": self.equal}
        summary["compared"] = self.compared
        if self.differences:
            summary["differences"] = self.differences
        return summary


def compare_schemas(first: Side, second: Side) -> SchemaDiff:
    """Return the differences of two schemas; those of different engines are compared by their logical types.

    Raises:
        NotSupportedError: an engine cannot describe its schema.
    """
    ledgers = {*first.ledgers, *second.ledgers}
    remarks = list[str]()
    engines = {side.app.url(side.database).engine for side in (first, second)}
    if len(engines) == 1:
        schemas = [read_schema(side.db) for side in (first, second)]
    else:
        remarks.append(PORTABLE_REMARK)
        schemas = [
            _simplify_schema(require(side.db, PortableSchemas).read_portable()) for side in (first, second)
        ]
    if ledgers:
        remarks.append(
            f"the ledger of migrations is not compared: {', '.join(sorted(filter(None, ledgers)))}"
        )
    parts = [split_schema(schema, {*ledgers, TRANSFER_TABLE}) for schema in schemas]
    differences = [_describe(difference) for difference in compare(*parts)]
    return SchemaDiff(
        a=first.name,
        b=second.name,
        equal=not differences,
        compared=len(parts[0].keys() | parts[1].keys()),
        differences=differences,
        remarks=remarks,
    )


def _describe(difference: Difference) -> SchemaDifference:
    change = (
        "differs"
        if difference.expected and difference.actual
        else "only a"
        if difference.expected
        else "only b"
    )
    return SchemaDifference(
        object=difference.part.kind,
        name=difference.place,
        change=change,
        a=difference.expected,
        b=difference.actual,
    )


def _simplify_schema(schema: PortableSchema) -> Schema:
    """Return a schema reduced to the properties that all engines have."""
    return Schema(tables=list(map(_simplify_table, schema.tables)), codes=[])


def _simplify_table(table: PortableTable) -> SchemaTable:
    return SchemaTable(
        name=table.name,
        columns=[
            SchemaColumn(
                name=column.name,
                type=column.type.kind,
                storage=column.type.kind,
                # SQLite accepts NULL in some keys, and servers do not
                nullable=column.is_nullable and column.name not in table.key,
            )
            for column in table.columns
        ],
        key=table.key,
        indexes=list(_simplify_indexes(table)),
        references=[simplify_actions(reference) for reference in table.references],
        checks=[],
        options=[],
    )


def _simplify_indexes(table: PortableTable) -> Iterator[SchemaIndex]:
    """Yield the indexes over all rows; their names differ between engines, and MySQL adds some for foreign keys."""
    foreign = [list(reference.columns) for reference in table.references]
    seen = set[tuple[bool, tuple[str, ...]]]()
    for index in table.indexes:
        columns = tuple(index.plain_columns)
        if (
            columns
            and (index.is_unique or list(columns) not in foreign)
            and (index.is_unique, columns) not in seen
        ):
            seen.add((index.is_unique, columns))
            yield SchemaIndex(name="", columns=columns, unique=index.is_unique)
