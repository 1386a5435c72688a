"""Every command that writes a database of an app, with the source of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

#: ``input``: rows from a user, a file or a backup; each is checked by the rules of the app (``RowRules``).
#: ``generated``: rows from dbctl itself, or from constants of the profile. ``schema``: no rows of the app, only its schema,
#: indexes or migration ledger.
Source = Literal["input", "generated", "schema"]

_INPUT = (
    "users create", "users ensure", "users update", "users set-role", "users add-role", "users remove-role", "users set-password", "users activate",
    "users deactivate", "users import", "users delete", "roles create", "roles update", "roles delete", "roles grant",
    "roles revoke", "settings set", "settings reset", "settings update", "settings apply", "data set", "data add", "data delete",
    "data import", "restore apply --table",
)  # fmt: skip
_GENERATED = (
    "users unlock", "sessions revoke", "sessions cleanup", "integrity repair", "sessions rebuild-stats", "restore apply",
    "restore undo", "search vectors store", "search vectors make", "transfer run", "transfer switch", "transfer verify", "undo",
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

#: Commands whose rows the audit log contains before and after the change, so that ``undo`` can revert it; it counts those of others.
RESTORABLE = frozenset(_INPUT) - {"restore apply --table"} | {"users unlock", "sessions revoke", "undo"}
#: Purposes that the audit log does not record: checks, and the part of a restore that it already contains.
UNRECORDED = frozenset(
    {
        "integrity check",
        "search index check",
        "search index repair --dry-run",
        "restore apply",
        "restore undo",
        "transfer verify",
    }
)

#: Facts of a profile by which commands write, and which the stored data can contradict:
#: ``user-key``, ``role-key``: the codec of new keys; ``user-created``, ``user-updated``, ``role-created``, ``role-updated``,
#: ``setting-times``, ``sign-out``: the format of the times that a command writes; ``active``: the codec of this field;
#: ``active-known``: whether its values show who is active; ``permission-link``, ``audit``: the columns of new rows, and the
#: time of the record; ``ledger``: what distinguishes migrations.
Fact = Literal[
    "user-key", "user-created", "user-updated", "active", "active-known", "sign-out", "role-key", "role-created", "role-updated",
    "permission-link", "setting-times", "audit", "ledger",
]  # fmt: skip
FACTS: Sequence[Fact] = get_args(Fact)

#: The facts that take part in a command; a contradiction of another fact does not refuse it. The rule of the last admin
#: and passwords have their own checks.
FACTS_BY_PURPOSE: Mapping[str, Sequence[Fact]] = {
    "users create": ("user-key", "user-created", "active", "setting-times", "audit"),
    "users ensure": ("user-key", "user-created", "user-updated", "active", "sign-out", "audit"),
    "users import": ("user-key", "user-created", "active", "audit"),
    **dict.fromkeys(
        ["users activate", "users deactivate", "users update"],
        ("user-updated", "active", "sign-out", "audit"),
    ),
    **dict.fromkeys(
        ["users set-role", "users add-role", "users remove-role", "users set-password"],
        ("user-updated", "sign-out", "audit"),
    ),
    **dict.fromkeys(["users delete", "users unlock"], ("audit",)),
    "roles create": ("role-key", "role-created", "permission-link", "audit"),
    "roles update": ("role-updated", "audit"),
    "roles grant": ("role-updated", "permission-link", "audit"),
    "roles revoke": ("role-updated", "audit"),
    "roles delete": ("audit",),
    **dict.fromkeys(
        ["settings set", "settings reset", "settings update", "settings apply"], ("setting-times", "audit")
    ),
    "sessions revoke": ("sign-out", "audit"),
    **dict.fromkeys(["sessions cleanup", "sessions rebuild-stats"], ("audit",)),
    **dict.fromkeys(["data set", "data add", "data delete", "data import"], ("audit",)),
    "restore apply --table": ("audit",),
    **dict.fromkeys(["migrate up", "migrate down", "migrate reset", "migrate baseline"], ("ledger",)),
    **dict.fromkeys(["migrate mark", "migrate repair"], ("ledger", "audit")),
    # They write by no fact of a profile.
    **dict.fromkeys(
        [
            "integrity repair",
            "restore apply",
            "restore undo",
            "search vectors store",
            "search vectors make",
            "transfer run",
            "transfer switch",
            "transfer verify",
            "undo",
            "integrity check",
            "search index build",
            "search index repair",
            "search index repair --dry-run",
            "search index drop",
            "search index check",
            "maintain vacuum",
            "maintain analyze",
            "maintain optimize",
            "maintain reindex",
            "maintain checkpoint",
            "maintain wal",
            "maintain rollback-journal",
        ],
        (),
    ),
}
