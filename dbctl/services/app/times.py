"""Columns that store times: by type, by the profile, or by default."""

from __future__ import annotations

import re
from collections.abc import Collection

from dbctl.engines.contract.database import Column, Readable
from dbctl.profiles.model.base import ColumnNames
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.user_table import TIMES

_DATES = re.compile(r"DATE|TIMESTAMP")


def is_time(db: Readable, column: Column, time_columns: Collection[str]) -> bool:
    """Return whether a column holds times: by its type, or because it is one of ``time_columns``."""
    if column.native == "time" or column.name in time_columns:
        return True
    return "time" not in db.native_types and bool(_DATES.match(column.type))


def time_columns(app: App, database: str, live: LiveTable) -> frozenset[str]:
    """Return the columns of a table that hold times according to the profile or their defaults."""
    profile, names = app.profile, list[ColumnNames | None]()
    if app.database(database).updated_at:
        names.append(app.database(database).updated_at)
    if profile.users and profile.users.table == live.name:
        names += [profile.users.fields.get(word) for word in TIMES]
    if profile.users:
        names += [
            section.expires_at
            for section in profile.users.signed_in
            if section.table.removesuffix("?") == live.name
        ]
    names += [section.fields.get("updated_at") for section in profile.settings if section.table == live.name]
    if profile.audit and profile.audit.table == live.name:
        names.append(profile.audit.fields.get("at"))
    for kind in profile.sessions:
        if kind.table.removesuffix("?") == live.name:
            names += [kind.started_at, kind.seen_at, kind.ended_at, kind.expires_at]
    names += [rule.age.column for rule in profile.cleanup if rule.table.removesuffix("?") == live.name]
    clocks = [column.name for column in live.table.columns.values() if column.has_time_default]
    return frozenset(column for name in names if (column := find_column(live.table, name))).union(clocks)
