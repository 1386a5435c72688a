"""A backup beside the database that is running now: what a restore would take away, and what it would bring back."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import count_dumped
from dbctl.model import Finding, Severity
from dbctl.services.app import App, ledger_detection
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.safety import schema_of

FEWER = "Rows may have been deleted since, or lost: dbctl restore preview compares all tables."
GONE = "Somebody dropped it since, or this is another database: dbctl restore preview compares all tables."
MIGRATED = "Restored, it would have to be migrated again: dbctl migrate up."


def against_live(app: App, manifest: Manifest) -> Iterator[Finding]:
    """Yield how each database of a backup differs from the live one, in rows by table, schema and migrations.

    That more rows are there now is how things go, so it is told as info; fewer are a warning, and a table that is gone
    is an error.

    Raises:
        DbctlError: a live database cannot be read.
    """
    for one in manifest.members:
        if one.form in ("dump", "kept") and app.only in ("", one.database):
            yield from _of_database(app, manifest, one)


def _of_database(app: App, manifest: Manifest, one: Member) -> Iterator[Finding]:
    target = app.target(one.database)
    live = app.reader(one.database)
    now = count_dumped(live, one.rows)
    ledgers = ledger_detection.ledger_tables(app, one.database, live)

    def finding(severity: Severity, code: str, what: str, hint: str = "") -> Finding:
        message = f"backup {manifest.id}: {what}"
        return Finding(target=target, severity=severity, code=code, message=message, hint=hint)

    for table, then in one.rows.items():
        if table not in now:
            yield finding("error", "table-gone", f"{table} is not there now, and has {then} rows in it", GONE)
        elif now[table] != then and table in ledgers:
            what = f"{table}, which tells the migrations, has {now[table]} rows now, {then} in it"
            yield finding("warning", "migrations-differ", what, MIGRATED)
        elif now[table] < then:
            yield finding("warning", "rows-fewer", f"{table} has {now[table]} rows now, {then} in it", FEWER)
        elif now[table] > then:
            yield finding("info", "rows-more", f"{table} has {now[table]} rows now, {then} in it")
    if not one.only:
        for table in sorted(now.keys() - one.rows.keys()):
            yield finding("info", "table-new", f"{table} is not in it, and has {now[table]} rows now")
        if one.schema and schema_of(live) not in ("", one.schema):
            yield finding(
                "warning", "schema-changed", "the schema is another one now", "dbctl migrate status."
            )
