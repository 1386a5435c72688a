"""Compare a backup with the live database: which rows and tables a restore would remove or restore."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import count_dump_rows
from dbctl.model import Finding, Severity
from dbctl.services.app import App, ledger_detection
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.safety import schema_fingerprint

ROWS_HINT = "Rows may have been deleted or lost: dbctl restore preview compares all tables."
TABLE_HINT = "It was dropped, or this is another database: dbctl restore preview compares all tables."
LEDGER_HINT = "A restored database must be migrated again: dbctl migrate up"


def compare_with_live(app: App, manifest: Manifest) -> Iterator[Finding]:
    """Yield the differences between each database of a backup and the live one: row counts, schema, migrations.

    More live rows are expected, so they are only an info; fewer rows are a warning, and a missing table is an error.

    Raises:
        DbctlError: a live database cannot be read.
    """
    for member in manifest.members:
        if member.form in ("dump", "kept") and app.only in ("", member.database):
            yield from _compare_database(app, manifest, member)


def _compare_database(app: App, manifest: Manifest, member: Member) -> Iterator[Finding]:
    target = app.target(member.database)
    live = app.reader(member.database)
    live_counts = count_dump_rows(live, member.rows)
    ledger_tables = ledger_detection.ledger_tables(app, member.database, live)

    def finding(severity: Severity, code: str, description: str, hint: str = "") -> Finding:
        message = f"backup {manifest.id}: {description}"
        return Finding(target=target, severity=severity, code=code, message=message, hint=hint)

    for table, saved_count in member.rows.items():
        if table not in live_counts:
            yield finding(
                "error",
                "table-missing",
                f"{table} does not exist in the live database; the backup has {saved_count} rows",
                TABLE_HINT,
            )
        elif live_counts[table] != saved_count and table in ledger_tables:
            ledger_description = (
                f"the ledger {table} has {live_counts[table]} live rows, {saved_count} in the backup"
            )
            yield finding("warning", "migrations-differ", ledger_description, LEDGER_HINT)
        elif live_counts[table] < saved_count:
            yield finding(
                "warning",
                "rows-fewer",
                f"{table} has {live_counts[table]} live rows, {saved_count} in the backup",
                ROWS_HINT,
            )
        elif live_counts[table] > saved_count:
            yield finding(
                "info",
                "rows-more",
                f"{table} has {live_counts[table]} live rows, {saved_count} in the backup",
            )
    if not member.only:
        for table in sorted(live_counts.keys() - member.rows.keys()):
            yield finding(
                "info", "table-new", f"{table} is not in the backup and has {live_counts[table]} live rows"
            )
        if member.schema and schema_fingerprint(live) not in ("", member.schema):
            yield finding(
                "warning",
                "schema-changed",
                "the live schema is different",
                "Compare with: dbctl migrate status",
            )
