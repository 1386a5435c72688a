"""The rules of ``migrate lint``: code, severity and hint of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dbctl.model import Severity


class LintRule(NamedTuple):
    """Severity and hint for one code."""

    severity: Severity
    hint: str
    guideline: str = ""  #: of the profile, which makes it a warning


DATA_LOSS_HINT = "If that is intended, add to the file: -- dbctl: allow-data-loss"
_LOCK_HINT = "Run it while the app is stopped, or allow it if the table is small."
_OLD_APP_HINT = "A running app still uses the old name: rename in two steps, or stop the app first."

#: A rule with a guideline is a warning if the profile requires it: see ``Migrations.guidelines``.
LINT_RULES: Mapping[str, LintRule] = {
    # All engines
    "drops-table": LintRule("warning", DATA_LOSS_HINT),
    "drops-column": LintRule("warning", DATA_LOSS_HINT),
    "deletes-all": LintRule("warning", DATA_LOSS_HINT),
    "deletes-rows": LintRule("info", DATA_LOSS_HINT),
    "updates-all": LintRule("warning", "Add a WHERE clause, or allow it above the statement."),
    "renames": LintRule("warning", _OLD_APP_HINT),
    "external-side-effect": LintRule(
        "warning", "Run the statement by hand: a rehearsal refuses such a file."
    ),
    "runs-text": LintRule("warning", "Write the statement itself: a rehearsal refuses such a file."),
    "marker-hidden": LintRule("error", "Reword the line: the app's own runner would split the file there."),
    "drops-ledger": LintRule("error", "Remove the statement: only the runner may change the ledger."),
    "shared-number": LintRule("warning", "Give it an unused number."),
    "missing-description": LintRule(
        "info", "Begin the file with a comment that describes its purpose.", "purpose"
    ),
    "no-down": LintRule("info", "Write a down section, or allow it if there can be none.", "down"),
    "no-if-not-exists": LintRule(
        "info", "Add IF NOT EXISTS: the app's guidelines require it.", "if-not-exists"
    ),
    "no-if-exists": LintRule("info", "Add IF EXISTS: the app's guidelines require it.", "if-exists"),
    "no-insert-or-ignore": LintRule(
        "info", "Add OR IGNORE or ON CONFLICT: the app's guidelines require it.", "insert-or-ignore"
    ),
    # PostgreSQL and MySQL
    "index-locks": LintRule(
        "warning",
        "Use CONCURRENTLY in a separate file with -- dbctl: no-transaction, or allow it if the table is small.",
    ),
    "rewrites-table": LintRule("warning", _LOCK_HINT),
    "constraint-scans": LintRule(
        "warning", "Add it as NOT VALID, and run VALIDATE CONSTRAINT in a later migration."
    ),
    "not-null-scans": LintRule(
        "warning", "Add and validate a CHECK (… IS NOT NULL) first: then the table is not scanned."
    ),
    "unique-locks": LintRule(
        "warning", "Run CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX."
    ),
    "locks-table": LintRule("warning", _LOCK_HINT),
    "enum-value-same-transaction": LintRule("error", "Use it in the next migration."),
    "not-null-without-default": LintRule(
        "error", "Give it a default, or add it without NOT NULL, fill it, and add NOT NULL later."
    ),
    "not-transactional": LintRule(
        "info", "Write one statement per file: after a failure it can run again unchanged."
    ),
    "mixed-ddl-dml": LintRule("warning", "Move the row changes into a separate migration."),
    "copies-table": LintRule("warning", _LOCK_HINT),
    "changes-enum": LintRule("warning", "Append new values, and keep the values that rows contain."),
    # SQLite
    "rebuild-drops-objects": LintRule("warning", "Create it again after the rename."),
    "pragma-no-effect": LintRule(
        "info", "Remove it: dbctl suspends foreign keys during the migration and checks them at the end."
    ),
    "default-not-constant": LintRule("error", "Add it without a default, then fill it with UPDATE."),
    "column-refused": LintRule("error", "Add a plain column and an index, or rebuild the table."),
    "double-quoted-text": LintRule(
        "warning", "Use single quotes: in double quotes it is a column name if such a column exists."
    ),
}
