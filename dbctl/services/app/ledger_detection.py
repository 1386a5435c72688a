"""Which ledger of migrations a database has, where its profile leaves that to be found out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dbctl.engines.contract import Readable
from dbctl.profiles import ledgers
from dbctl.profiles.model import NO_LEDGER, ForeignLedger, Format, Ledger, Profile
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column

#: What a profile says instead of a ledger.
FOUND = "found"
#: The table of the steps of a migration that is half done.
JOURNAL = "dbctl_migration_steps"


def names(profile: Profile) -> Collection[str]:
    """Return the names that a profile may give in place of a ledger."""
    return [*profile.ledgers, *ledgers.known().ledgers, FOUND, NO_LEDGER]


def named(profile: Profile, told: Ledger | str, format: Format = "found") -> Ledger:  # noqa: A002 - the profile's word
    """Return the ledger that a profile means; where that is to be found out, the one that dbctl would make.

    A folder in the ``format`` of a runner whose ledger is known gets that one: its runner takes no other for its own.
    """
    if isinstance(told, Ledger):
        return told
    known = ledgers.known().ledgers
    return profile.ledgers.get(told) or known.get(told) or known.get(format) or next(iter(known.values()))


def found(
    db: Readable,
    engine: str,
    format: Format = "found",  # noqa: A002 - as above
) -> tuple[Ledger, ForeignLedger | None]:
    """Return the ledger that dbctl writes in a database, and another runner's that says instead what was applied.

    Where there is none yet, it is the one that ``named`` tells of a folder in that ``format``.
    """
    tables, known = db.tables(), ledgers.known()
    foreign = [one for one in known.foreign.values() if _is_there(one, db, engine)]
    taken = {one.table for one in foreign}
    mine = [
        one
        for one in known.ledgers.values()
        if one.table not in taken and (one.table not in tables or _is(one, db))
    ]
    for one in mine:
        if one.table in tables:
            return one, None
    own = known.ledgers.get(format)
    return own if own in mine else mine[0], next(iter(foreign), None)


def ledger_tables(app: App, database: str, db: Readable) -> frozenset[str]:
    """Return the tables that record which migrations of a database ran; empty if its profile names no migrations."""
    section = app.database(database).migrations
    if section is None:
        return frozenset()
    ledger, foreign = named(app.profile, section.ledger), None
    if section.ledger == FOUND:
        ledger, foreign = found(db, app.url(database).engine)
    return frozenset({ledger.table, JOURNAL, *([foreign.table] if foreign else [])})


def query_foreign(ledger: ForeignLedger, db: Readable, engine: str) -> Iterable[Sequence[object]]:
    """Return the rows of another runner's ledger, in the columns that the profile's query selects."""
    select = ledger.select if isinstance(ledger.select, str) else ledger.select[engine]
    return db.query(select, {"true": True})


def _is(ledger: Ledger, db: Readable) -> bool:
    """Whether a table of that name is that ledger: another runner may call its own the same."""
    table = db.tables()[ledger.table]
    told = [
        ledger.version,
        ledger.name,
        ledger.applied_at,
        ledger.checksum,
        ledger.duration_ms,
        ledger.started_at,
    ]
    told.append(ledger.rolled_back_at)
    mine = (
        {find_column(table, one) for one in told} | {ledger.id.column if ledger.id else None} | {*ledger.new}
    )
    return find_column(table, ledger.version or ledger.name) is not None and not any(
        column.required and name not in mine for name, column in table.columns.items()
    )


def _is_there(ledger: ForeignLedger, db: Readable, engine: str) -> bool:
    if not isinstance(ledger.select, str) and engine not in ledger.select:
        return False
    if not ledger.table:
        return bool(db.tables()) and bool(list(query_foreign(ledger, db, engine)))
    return ledger.table in db.tables() and all(
        db.tables()[ledger.table].columns.get(one) for one in ledger.has
    )
