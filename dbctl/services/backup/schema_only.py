"""Tables whose rows backups leave out (``schema_only``): their selection, and what refuses it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain

from dbctl.engines.contract.dumps import Dumps
from dbctl.errors.backup import SchemaOnlyRefusedError, SchemaOnlyUnknownError
from dbctl.errors.usage import DriverMissingError, NotSupportedError
from dbctl.model import Struct
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App


class Selected(Struct, frozen=True):
    """The tables of one database whose rows its backups leave out."""

    tables: Sequence[str] = ()  #: with the names of a dump, which are those of partitions
    entries: Collection[str] = ()  #: the entries of ``schema_only`` that name one of its tables


def select_tables(app: App, database: str, dumps: Dumps, entries: Sequence[str]) -> Selected:
    """Return the tables of a database that ``schema_only`` names.

    Raises:
        NotSupportedError: dumps of its engine have the rows of all tables.
        SchemaOnlyRefusedError: other tables, or the app, need the rows.
    """
    if not entries:
        return Selected()
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
        return Selected()
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
    return Selected(selected, used)


def _list_copied_tables(app: App, database: str) -> Collection[str]:
    """Return the tables of a database whose files are copied; none if its driver, without which they can be copied, is missing."""
    try:
        return app.reader(database).tables()
    except DriverMissingError:
        return ()


def require_known(app: App, entries: Sequence[str], selected: Iterable[Selected]) -> None:
    """Check that each entry names a table of one of the databases.

    Raises:
        SchemaOnlyUnknownError: some name none.
    """
    used = {entry for part in selected for entry in part.entries}
    if unknown := [entry for entry in entries if entry not in used]:
        raise SchemaOnlyUnknownError(app=app.name, entries=", ".join(map(repr, unknown)))
