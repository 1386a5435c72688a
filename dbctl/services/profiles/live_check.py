"""Whether a live database is in one of the shapes that a profile knows: rules of cleanup, and kinds of sessions."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import Readable
from dbctl.profiles.model import Profile
from dbctl.services.app import find_column
from dbctl.services.profiles.consistency import Complaint


def unshaped(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Complaint]:
    """Yield the parts whose table is there, and of which no shape has its columns."""
    here = (profile.users.database if profile.users else "") or main
    parts: list[tuple[Complaint, str, str, list[list[str]]]] = [
        (
            (("cleanup", at, "shape"), rule.name),
            rule.database or main,
            rule.table,
            [list(one.needs) for one in rule.shape],
        )
        for at, rule in enumerate(profile.cleanup)
    ]
    parts += [
        ((("sessions", at, "shape"), told.name), here, told.table, [list(one.open) for one in told.shape])
        for at, told in enumerate(profile.sessions)
    ]
    tables = live.tables()
    for (key, name), where, table, shapes in parts:
        found = tables.get(table.removesuffix("?"))
        if where != database or found is None or not shapes:
            continue
        if not any(all(find_column(found, column) for column in needs) for needs in shapes):
            columns = ", or ".join(", ".join(needs) for needs in shapes)
            yield key, f"no shape of {name} fits {found.name}: {columns}"
