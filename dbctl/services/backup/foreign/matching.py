"""Match a foreign file with a database of an app, by its engine, its tables and its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Dumps, DumpVerification, list_dump_tables
from dbctl.errors import DbctlError, FileNotRestorableError, UsageError, WrongAppError
from dbctl.services.app import App, find_wrong_app_hint
from dbctl.services.backup.manifest import member_file_name
from dbctl.services.backup.repository import ID

#: Fact of a member from a foreign dump program, which may have omitted tables: the type of its content.
CONTENT_FACT = "written_as"


def report_missing_tables(
    app: App, database: str, verification: DumpVerification, path: Path
) -> Iterator[str]:
    """Yield a warning about live tables that the file lacks: it may be a partial dump."""
    if missing := find_missing_live_tables(app, database, verification.tables):
        yield f"{path} lacks tables of {app.target(database)}: {', '.join(missing)}"


def find_missing_live_tables(app: App, database: str, tables: Mapping[str, int]) -> list[str]:
    """Return the live tables that are not in ``tables``; empty if the database cannot be read."""
    with suppress(DbctlError):  # a missing or damaged database is a reason for restoring
        live = list_dump_tables(app.reader(database, allow_empty=True, familiar_tables=tables))
        return sorted(name for name in live if name not in tables)
    return []


def is_dbctl_file_name(app: App, path: Path) -> bool:
    """Whether the file has a name by dbctl, with a UTC time, and not one documented by the app."""
    if ID.fullmatch(path.parent.name):
        return True
    dbctl_prefixes = {member_file_name(app, name, "*").partition("*")[0] for name in app.profile.databases}
    documented_prefixes = tuple(
        pattern.name.partition("{time}")[0]
        for pattern in app.profile.backup.foreign
        if "{time}" in pattern.name
    )
    return path.name.startswith(tuple(dbctl_prefixes)) and not path.name.startswith(documented_prefixes)


def detect_database(app: App, engine: str, tables: Mapping[str, int], path: Path) -> str:
    """Return the database of the app to which a file belongs, by its engine and tables.

    Raises:
        FileNotRestorableError: no database of the app uses the engine.
        WrongAppError: required tables are missing.
        UsageError: it matches several databases.
    """
    databases = {name: database for name, database in app.profile.databases.items() if app.only in ("", name)}
    engines = {
        name: app.configured.databases[name].engine for name in databases if name in app.configured.databases
    }
    if list(app.configured.databases) == ["main"] and app.main() in databases:
        engines[app.main()] = app.configured.databases["main"].engine
    matches = [name for name, database_engine in engines.items() if database_engine == engine]
    if not matches:
        names = ", ".join(
            f"{name} in {registry.engine_title(database_engine)}" for name, database_engine in engines.items()
        )
        raise FileNotRestorableError(
            path=path,
            reason=f"its engine is {registry.engine_title(engine)}",
            hint=f"{app.name} uses {names or 'no configured database'}. Import rows from other sources with: dbctl data import",
        )
    complete = [name for name in matches if all(table in tables for table in databases[name].needs)]
    if len(complete) == 1:
        return complete[0]
    if not complete:
        name = matches[0]
        missing = [table for table in databases[name].needs if table not in tables]
        description = f"table {', '.join(missing)}" if tables else "every table"
        partial_hint = "A partial dump can only restore tables that the database has."
        raise WrongAppError(
            target=path,
            profile=app.profile.title,
            missing=description,
            hint=f"Nothing was changed. {find_wrong_app_hint(databases[name], tables) or partial_hint}",
        )
    raise UsageError(
        detail=f"{path} matches {' and '.join(complete)}: select one with --db {' or --db '.join(complete)}"
    )


def find_partial_match(app: App, engine: str, tables: Mapping[str, int]) -> str:
    """Return the only server database that has all of the tables; empty without a unique match."""
    matches = list[str]()
    for name in app.profile.databases:
        if tables and app.only in ("", name):
            with suppress(DbctlError):  # an unreadable database does not match
                live = app.reader(name)
                dumps = live.part(Dumps)
                if app.url(name).engine == engine and dumps and dumps.supports_partial:
                    matches += [name] if live.tables().keys() >= tables.keys() else []
    return matches[0] if len(matches) == 1 else ""
