"""What ``migrate lint`` can find: every code, how grave it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dbctl.model import Severity


class HazardKind(NamedTuple):
    """One kind of finding."""

    severity: Severity
    hint: str


_SLOWLY = "Run it while nobody uses the app, or allow it where the table is small."
_OLD_APP = "An app that runs meanwhile asks for what it knew: change it in two steps, or stop the app first."

#: Those whose code begins with ``no-`` are graver where the profile asks for what is missing: see ``Migrations.guidelines``.
KINDS: Mapping[str, HazardKind] = {
    # On every engine
    "drops-table": HazardKind(
        "warning", "Where that is meant, say so in the file: -- dbctl: allow-data-loss."
    ),
    "drops-column": HazardKind(
        "warning", "Where that is meant, say so in the file: -- dbctl: allow-data-loss."
    ),
    "deletes-all": HazardKind(
        "warning", "Where that is meant, say so in the file: -- dbctl: allow-data-loss."
    ),
    "deletes-rows": HazardKind("info", "Where that is meant, say so in the file: -- dbctl: allow-data-loss."),
    "updates-all": HazardKind("warning", "Say which rows, or allow it above the statement."),
    "renames": HazardKind("warning", _OLD_APP),
    "reaches-out": HazardKind("warning", "Do it by hand: dbctl migrate rehearse refuses such a file."),
    "marker-hidden": HazardKind(
        "error", "Word the line otherwise: the app's own runner would cut the file there."
    ),
    "drops-ledger": HazardKind("error", "Leave the ledger alone: its runner keeps it."),
    "shared-number": HazardKind("warning", "Give it a number of its own."),
    "no-purpose": HazardKind("info", "Begin the file with a comment that says what it is for."),
    "no-down": HazardKind("info", "Write the way down, or allow it where there is none."),
    "no-if-not-exists": HazardKind("info", "Add IF NOT EXISTS: the app's guidelines ask for it."),
    "no-if-exists": HazardKind("info", "Add IF EXISTS: the app's guidelines ask for it."),
    "no-insert-or-ignore": HazardKind("info", "Pass over what is there: the app's guidelines ask for it."),
    # Of servers
    "index-locks": HazardKind(
        "warning",
        "Say CONCURRENTLY, in a file of its own with -- dbctl: no-transaction; or allow it where the table is small.",
    ),
    "rewrites-table": HazardKind("warning", _SLOWLY),
    "constraint-scans": HazardKind(
        "warning", "Add it NOT VALID, and VALIDATE CONSTRAINT in a later migration."
    ),
    "not-null-scans": HazardKind("warning", "A CHECK that was validated before spares the reading."),
    "unique-locks": HazardKind(
        "warning", "CREATE UNIQUE INDEX CONCURRENTLY before, then ADD CONSTRAINT … USING INDEX."
    ),
    "locks-table": HazardKind("warning", _SLOWLY),
    "enum-value-early": HazardKind("error", "Use it in the next migration."),
    "not-null-without-default": HazardKind(
        "error", "Give it a default, or add it without NOT NULL, fill it, and set that later."
    ),
    "not-taken-back": HazardKind("info", "One statement a file can be run again as it is."),
    "ddl-and-rows": HazardKind("warning", "Put the rows into a migration of their own."),
    "copies-table": HazardKind("warning", _SLOWLY),
    "changes-enum": HazardKind("warning", "Add values at the end, and keep those that rows have."),
    # Of files
    "rebuild-forgets": HazardKind("warning", "Make it again behind the renaming."),
    "pragma-rests": HazardKind(
        "info", "Leave it out: dbctl lets foreign keys rest meanwhile, and checks them at the end."
    ),
    "default-not-constant": HazardKind("error", "Add it without a default, and fill it with UPDATE."),
    "column-refused": HazardKind("error", "Add a plain column and an index, or make the table anew."),
    "double-quoted-text": HazardKind(
        "warning", "Put it in single quotes: in double ones it is a column as soon as one has that name."
    ),
}
