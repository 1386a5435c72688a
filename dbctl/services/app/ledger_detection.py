"""Detect which migration ledger a database has, if its profile does not name one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dbctl.engines.contract.database import Readable
from dbctl.profiles import loader
from dbctl.profiles.model.databases import NO_LEDGER, ForeignLedger, Format, Ledger
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column, has_all

#: The value of ``ledger`` in a profile if dbctl detects the ledger.
AUTO = "auto"
#: The table of the steps of a partially applied migration.
JOURNAL = "dbctl_migration_steps"
#: The table of the state of an unfinished transfer.
TRANSFER_TABLE = "dbctl_transfer"


def ledger_names(profile: Profile) -> Collection[str]:
    """Return the names that a profile may use for a ledger."""
    return [*profile.ledgers, *loader.load_ledgers().ledgers, AUTO, NO_LEDGER]


def resolve_ledger(profile: Profile, ledger: Ledger | str, format: Format = "auto") -> Ledger:  # noqa: A002 - the name of the profile's key
    """Return the ledger that a profile names; for ``auto`` the ledger that dbctl would create.

    For migrations in the ``format`` of a supported runner that is the ledger of that runner, because the runner uses no other.
    """
    if isinstance(ledger, Ledger):
        return ledger
    known = loader.load_ledgers().ledgers
    return profile.ledgers.get(ledger) or known.get(ledger) or known.get(format) or next(iter(known.values()))


def detect_ledgers(
    db: Readable,
    engine: str,
    format: Format = "auto",  # noqa: A002 - the name of the profile's key
    *,
    own: ForeignLedger | None = None,
) -> tuple[Ledger, ForeignLedger | None]:
    """Return the ledger that dbctl writes, and the ledger of another runner that records the applied migrations, if any.

    ``own`` is the ledger of the app's own runner, by its profile. If no ledger exists, the first is the one that ``resolve_ledger`` returns for ``format``.
    """
    tables, known = db.tables(), loader.load_ledgers()
    foreign = [
        ledger for ledger in (*([own] if own else []), *known.foreign.values()) if _exists(ledger, db, engine)
    ]
    foreign_tables = {ledger.table for ledger in foreign}
    available = [
        ledger
        for ledger in known.ledgers.values()
        if ledger.table not in foreign_tables and (ledger.table not in tables or _matches(ledger, db))
    ]
    for ledger in available:
        if ledger.table in tables:
            return ledger, None
    default = known.ledgers.get(format)
    return default if default in available else available[0], next(iter(foreign), None)


def ledger_tables(app: App, database: str, db: Readable) -> frozenset[str]:
    """Return the tables that record which migrations of a database ran; empty if its profile names no migrations."""
    section = app.database(database).migrations
    if section is None:
        return frozenset()
    ledger, foreign = resolve_ledger(app.profile, section.ledger), None
    if section.ledger == AUTO:
        ledger, foreign = detect_ledgers(db, app.url(database).engine, own=section.foreign)
    return frozenset({ledger.table, JOURNAL, *([foreign.table] if foreign else [])})


def query_foreign(ledger: ForeignLedger, db: Readable, engine: str) -> Iterable[Sequence[object]]:
    """Return the rows of another runner's ledger, in the columns that the profile's query selects."""
    select = ledger.select if isinstance(ledger.select, str) else ledger.select[engine]
    return db.query(select, {"true": True})


def _matches(ledger: Ledger, db: Readable) -> bool:
    """Return whether the table with the ledger's name has the ledger's columns; another runner may use the same name."""
    table = db.tables()[ledger.table]
    column_names = [
        ledger.version,
        ledger.name,
        ledger.applied_at,
        ledger.checksum,
        ledger.duration_ms,
        ledger.started_at,
    ]
    column_names.append(ledger.rolled_back_at)
    known_columns = (
        {find_column(table, names) for names in column_names}
        | {ledger.id.column if ledger.id else None}
        | {*ledger.new}
    )
    return find_column(table, ledger.version or ledger.name) is not None and not any(
        column.required and name not in known_columns for name, column in table.columns.items()
    )


def _exists(ledger: ForeignLedger, db: Readable, engine: str) -> bool:
    if not isinstance(ledger.select, str) and engine not in ledger.select:
        return False
    if not ledger.table:
        return bool(db.tables()) and bool(list(query_foreign(ledger, db, engine)))
    needs = [ledger.table, *(f"{ledger.table}.{column}" for column in ledger.columns), *ledger.needs]
    return has_all(db.tables(), needs)
