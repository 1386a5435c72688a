"""Columns that store times: by type, by the profile, or by default."""

from __future__ import annotations

import re
from collections.abc import Collection

from dbctl.engines.contract import Column, HoldsTimeForms, Readable
from dbctl.profiles.model import Name
from dbctl.services.app.app import App
from dbctl.services.app.live_table import Live, find_column
from dbctl.services.app.user_table import TIMES

_DATES = re.compile(r"DATE|TIMESTAMP")


def is_time(db: Readable, column: Column, named: Collection[str]) -> bool:
    """Whether a column holds times: by its type, or because it is ``named``."""
    if column.native == "time" or column.name in named:
        return True
    return "time" not in db.natives and bool(_DATES.match(column.type))


def time_columns(app: App, database: str, live: Live) -> frozenset[str]:
    """Return the columns of a table that hold times by the profile, or by their defaults."""
    profile, named = app.profile, list[Name | None]()
    if app.database(database).updated_at:
        named.append(app.database(database).updated_at)
    if profile.users and profile.users.table == live.name:
        named += [profile.users.fields.get(word) for word in TIMES]
    if profile.users:
        named += [
            section.expires_at
            for section in profile.users.signed_in
            if section.table.removesuffix("?") == live.name
        ]
    named += [section.fields.get("updated_at") for section in profile.settings if section.table == live.name]
    if profile.audit and profile.audit.table == live.name:
        named.append(profile.audit.fields.get("at"))
    for kind in profile.sessions:
        if kind.table.removesuffix("?") == live.name:
            named += [kind.started_at, kind.seen_at, kind.ended_at, kind.expires_at]
    named += [rule.age.column for rule in profile.cleanup if rule.table.removesuffix("?") == live.name]
    clocks = live.db.clocks(live.name) if isinstance(live.db, HoldsTimeForms) else ()
    return frozenset(column for name in named if (column := find_column(live.table, name))).union(clocks)
