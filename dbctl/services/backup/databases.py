"""The databases of a backup and the tables whose rows it leaves out (``schema_only``): select and open them, and refuse what they do not support."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import chain

from dbctl.engines import registry
from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.dumps import Dumps
from dbctl.errors.backup import SchemaOnlyRefusedError, SchemaOnlyUnknownError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import DatabaseNotConfiguredError, DriverMissingError, NotSupportedError, UsageError
from dbctl.model import Struct
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App
from dbctl.services.app.results import missing_table_error
from dbctl.services.backup.manifest import Manifest, OmittedDatabase


def select_databases(app: App) -> tuple[list[str], list[OmittedDatabase]]:
    """Return the databases of a backup, and the omitted ones with the reason.

    Raises:
        DatabaseNotConfiguredError: a required database is not configured.
        NotSupportedError: no database can be backed up.
    """
    selected, left_out = list[str](), dict[str, str]()
    for name, section in app.profile.databases.items():
        if app.only not in ("", name):
            continue
        try:
            url = app.url(name)
        except DatabaseNotConfiguredError:
            if not section.optional or app.only:
                raise
            left_out[name] = "it is not configured"
            continue
        if remote_reason := registry.load_engine(url.engine).no_backup_reason(url):
            if app.only:
                raise NotSupportedError(
                    feature="a backup", subject=app.target(name), hint=f"Its tables: {remote_reason}."
                )
            left_out[name] = remote_reason
        elif section.backup or app.only:
            selected.append(name)
        else:
            owner = section.owner or "another program"
            left_out[name] = f"it belongs to {owner}; include it with --db {name}"
    if not selected:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise NotSupportedError(feature="a backup without any database", subject=app.name, hint=f"{reasons}.")
    return selected, [OmittedDatabase(database=name, reason=reason) for name, reason in left_out.items()]


def can_be_empty(app: App, database: str, earlier: Sequence[Manifest]) -> bool:
    """Whether a database may have no table: a server lists it, and no backup of it has one."""
    url = app.configured.databases.get(database)
    is_listed = bool(app.configured.fleet) and url is not None and not url.is_local
    return is_listed and not any(
        member.rows for manifest in earlier for member in manifest.members if member.database == database
    )


def describe_databases(app: App, manifest: Manifest) -> Iterator[str]:
    """Yield warnings about databases in the backup, and about missing ones."""
    for member in manifest.members:
        if member.form == "dump" and not (member.rows or member.schema_only):
            yield f"{app.target(member.database)}: the database has no table"
        if remarks := member.facts.get("remarks"):
            yield f"{app.target(member.database)}: {remarks}"
    for omitted in manifest.left_out:
        name, target, reason = omitted.database, app.target(omitted.database), omitted.reason
        if omitted.failed:
            yield f"{target} is not in the backup: {reason.removeprefix(f'backup of {target} failed: ')}"
        elif name in app.configured.databases and reason == app.engine(name).no_backup_reason(app.url(name)):
            yield f"{target} is not in the backup: {reason}"


def find_database_with(app: App, databases: Sequence[str], tables: Sequence[str]) -> str:
    """Return the only database that has these tables.

    Raises:
        UsageError: none of several databases has all tables, or more than one.
        TableMissingError: no database has a table.
        NotSupportedError: the database can only be copied completely.
    """
    matches = list(databases)
    if len(databases) > 1:
        matches = [name for name in databases if set(tables) <= app.reader(name).tables().keys()]
        if not matches:
            known = {table for name in databases for table in app.reader(name).tables()}
            if missing := [table for table in tables if table not in known]:
                raise TableMissingError(name=missing[0], target=app.name, candidates=known)
            raise UsageError(detail="--table: these tables are in several databases")
        if len(matches) > 1:
            raise UsageError(detail=f"--table: select one database (--db {' or --db '.join(matches)})")
    live, dumps = app.reader(matches[0]), open_dumps(app, matches[0])
    existing_tables = live.tables()
    if not dumps.supports_partial:
        raise NotSupportedError(
            feature="a backup of some tables",
            subject=live.target,
            hint="Its file can only be copied completely. Omit --table.",
        )
    for name in tables:
        if name not in existing_tables:
            raise missing_table_error(app, live, name)
    return matches[0]


def open_dumps(
    app: App, database: str, *, allow_empty: bool = False, familiar_tables: Collection[str] = ()
) -> Dumps:
    """Open a database for dumping, or its files if its driver is missing.

    Raises:
        DriverMissingError: its driver is missing, and its files cannot be copied without it.
        NotSupportedError: its engine has no dumps.
    """
    try:
        db = app.reader(database, allow_empty=allow_empty, familiar_tables=familiar_tables)
    except DriverMissingError:
        if (files := app.engine(database).open_copier(app.url(database), app.target(database))) is None:
            raise
        return files
    return require_supported(db, db.dumps, "a backup", "Its engine cannot be copied.")


@contextmanager
def suggest_other_databases(app: App, names: Sequence[str]) -> Iterator[None]:
    """If one of several databases fails, add to the error how to back up the others."""
    try:
        yield
    except DbctlError as error:
        failed_target = error.context.get("target")
        others = [name for name in names if app.target(name) != failed_target]
        if others and len(others) < len(names) and not error.details:
            _add_suggestion(app, others, error)
        raise


#: Of one database.
BACK_UP = Remedy("`backup create --db {name}`")


def _add_suggestion(app: App, names: Sequence[str], error: DbctlError) -> None:
    readable, reasons = list[str](), list[str]()
    for name in names:
        try:
            open_dumps(app, name).estimate_dump_size()
        except DbctlError as failure:
            reasons.append(str(failure))
        else:
            readable.append(name)
    explanation = f"No backup of {app.name} was created: a backup must include all of its databases."
    error.details = [explanation, *reasons]
    if readable:
        error.details.append(f"{', '.join(readable)} can be read.")
        commands = "; ".join(BACK_UP.write(app.name, {"name": name}) for name in readable)
        error.hint = f"{error.hint} Back up the others separately: {commands}"


class EmptiedTables(Struct, frozen=True):
    """The tables of one database whose rows its backups leave out."""

    tables: Sequence[str] = ()  #: with the names of a dump, which are those of partitions
    entries: Collection[str] = ()  #: the entries of ``schema_only`` that name one of its tables


def select_tables(app: App, database: str, dumps: Dumps, entries: Sequence[str]) -> EmptiedTables:
    """Return the tables of a database that ``schema_only`` names.

    Raises:
        NotSupportedError: dumps of its engine have the rows of all tables.
        SchemaOnlyRefusedError: other tables, or the app, need the rows.
    """
    if not entries:
        return EmptiedTables()
    tables = dumps.list_emptiable_tables()
    known = _list_copied_tables(app, database) if tables is None else tables
    matches = {entry: [name for name in known if fnmatchcase(name, entry)] for entry in entries}
    used = [entry for entry, names in matches.items() if names]
    if tables is None:
        if used:
            raise NotSupportedError(
                feature=f"a backup without the rows of {', '.join(matches[used[0]])}",
                subject=app.target(database),
                hint=f'Nothing was created. Its engine copies whole tables: remove "{used[0]}" from schema_only.',
            )
        return EmptiedTables()
    selected = sorted({part for names in matches.values() for name in names for part in tables[name]})
    reasons = [*dumps.find_dependents(selected)] if selected else []
    ledgers = ledger_detection.ledger_tables(app, database, app.reader(database)) if selected else ()
    reasons += [f"{name} records which migrations ran" for name in selected if name in ledgers]
    if selected and {*chain.from_iterable(tables.values())} <= {*selected}:
        reasons.append("it has no other table")
    if reasons:
        raise SchemaOnlyRefusedError(
            app=app.name,
            target=app.target(database),
            tables=", ".join(selected),
            reasons="; ".join(dict.fromkeys(reasons)),
        )
    return EmptiedTables(selected, used)


def _list_copied_tables(app: App, database: str) -> Collection[str]:
    """Return the tables of a database whose files are copied; none if its driver, without which they can be copied, is missing."""
    try:
        return app.reader(database).tables()
    except DriverMissingError:
        return ()


def require_known_entries(app: App, entries: Sequence[str], selected: Iterable[EmptiedTables]) -> None:
    """Check that each entry names a table of one of the databases.

    Raises:
        SchemaOnlyUnknownError: some name none.
    """
    used = {entry for part in selected for entry in part.entries}
    if unknown := [entry for entry in entries if entry not in used]:
        raise SchemaOnlyUnknownError(app=app.name, entries=", ".join(map(repr, unknown)))
