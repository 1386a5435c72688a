"""Every command that writes a database of an app, with the source of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

#: ``input``: rows from a user, a file or a backup; each is checked by the rules of the app (``RowRules``).
#: ``generated``: rows from dbctl itself, or from constants of the profile. ``schema``: no rows of the app, only its schema,
#: indexes or migration ledger.
Source = Literal["input", "generated", "schema"]

_INPUT = (
    "users create", "users ensure", "users update", "users set-role", "users add-role", "users remove-role", "users set-password", "users activate",
    "users deactivate", "users import", "users delete", "roles create", "roles update", "roles delete", "roles grant",
    "roles revoke", "settings set", "settings reset", "settings apply", "data set", "data add", "data delete", "data import",
    "restore apply --table",
)  # fmt: skip
_GENERATED = (
    "users unlock", "sessions revoke", "sessions cleanup", "integrity repair", "sessions rebuild-stats", "restore apply",
    "restore undo", "search vectors store", "search vectors make",
)  # fmt: skip
_SCHEMA = (
    "migrate up", "migrate down", "migrate reset", "migrate baseline", "migrate mark", "migrate repair", "integrity check",
    "search index build", "search index repair", "search index repair --dry-run", "search index drop",
    "search index check", "maintain vacuum", "maintain analyze", "maintain optimize", "maintain reindex",
    "maintain checkpoint", "maintain wal", "maintain rollback-journal",
)  # fmt: skip

#: Sources by the purpose with which a command opens the database; ``App.writer`` accepts no other purpose.
PATHS: Mapping[str, Source] = {
    **dict.fromkeys(_INPUT, "input"),
    **dict.fromkeys(_GENERATED, "generated"),
    **dict.fromkeys(_SCHEMA, "schema"),
}
