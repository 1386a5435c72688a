"""Check that a live database has one of a profile's variants, for cleanup rules and sessions."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import Readable
from dbctl.profiles.model import Profile
from dbctl.services.app import find_column
from dbctl.services.profiles.consistency import Problem


def find_unknown_variants(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Problem]:
    """Yield the sections whose table exists, but without the columns of any variant."""
    users_database = (profile.users.database if profile.users else "") or main
    sections: list[tuple[Problem, str, str, list[list[str]]]] = [
        (
            (("cleanup", index, "variant"), rule.name),
            rule.database or main,
            rule.table,
            [list(variant.needs) for variant in rule.variant],
        )
        for index, rule in enumerate(profile.cleanup)
    ]
    sections += [
        (
            (("sessions", index, "variant"), sessions.name),
            users_database,
            sessions.table,
            [list(variant.open) for variant in sessions.variant],
        )
        for index, sessions in enumerate(profile.sessions)
    ]
    tables = live.tables()
    for (key, name), section_database, table, variants in sections:
        live_table = tables.get(table.removesuffix("?"))
        if section_database != database or live_table is None or not variants:
            continue
        if not any(all(find_column(live_table, column) for column in needs) for needs in variants):
            columns = ", or ".join(", ".join(needs) for needs in variants)
            yield key, f"no variant of {name} fits {live_table.name}: {columns}"
