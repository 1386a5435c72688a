"""Every path on which dbctl writes a database of an app, and where the rows come from that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

#: ``given``: by a person, a file or a backup, so that each row is judged by the rules of the app (``RowRules``).
#: ``made``: by dbctl itself, or of constants of the profile. ``schema``: no rows of the app, but its schema, its
#: indexes or the record of its migrations.
Source = Literal["given", "made", "schema"]

_GIVEN = (
    "users create", "users ensure", "users update", "users set-role", "users set-password", "users activate",
    "users deactivate", "users import", "users delete", "roles create", "roles update", "roles delete", "roles grant",
    "roles revoke", "settings set", "settings reset", "settings apply", "data set", "data add", "data delete", "data import",
    "restore apply --table",
)  # fmt: skip
_MADE = (
    "users unlock", "sessions revoke", "sessions cleanup", "integrity repair", "sessions rebuild-stats", "restore apply",
    "restore undo", "search vectors store", "search vectors make",
)  # fmt: skip
_SCHEMA = (
    "migrate up", "migrate down", "migrate reset", "migrate adopt", "migrate mark", "migrate repair", "integrity check",
    "search index build", "search index repair", "search index repair --dry-run", "search index drop",
    "search index check", "maintain vacuum", "maintain analyze", "maintain optimize", "maintain reindex",
    "maintain checkpoint", "maintain wal", "maintain rollback-journal",
)  # fmt: skip

#: By the purpose that the path names where it opens the database; ``App.writer`` opens it for no other.
PATHS: Mapping[str, Source] = {
    **dict.fromkeys(_GIVEN, "given"),
    **dict.fromkeys(_MADE, "made"),
    **dict.fromkeys(_SCHEMA, "schema"),
}
