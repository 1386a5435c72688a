"""Check that stored payloads of sessions and values of settings have the forms that the profile declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

from dbctl.engines.contract import Readable
from dbctl.errors import PrivilegeMissingError
from dbctl.profiles import is_payload
from dbctl.profiles.model import Payload, Settings
from dbctl.services.app import App, find_column, users_database
from dbctl.services.profiles.consistency import Problem
from dbctl.services.settings import decode, find_key

#: Rows at each end of a table whose values are read.
SAMPLE_ROWS = 100
SAMPLE_LIMIT = timedelta(seconds=2)


def find_wrong_forms(app: App, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the columns of which no payload, or less than half of the values of settings, have the declared form."""
    profile = app.profile
    if profile.users and users_database(app) == database:
        for index, table in enumerate(profile.users.signed_in):
            key = ("users", "signed_in", index, "payload")
            yield from _check_payload(key, table.table, table.payload, live)
        for index, section in enumerate(profile.sessions):
            yield from _check_payload(("sessions", index, "payload"), section.table, section.payload, live)
    for index, settings in enumerate(profile.settings):
        if app.resolve_database(settings) == database:
            yield from _check_settings(("settings", index, "stored"), settings, live)


def _check_payload(
    key: Sequence[str | int], table: str, payload: Payload | None, live: Readable
) -> Iterator[Problem]:
    if payload is None:
        return
    values = [value for (value,) in _sample(live, table, [payload.column])]
    if values and not any(is_payload(payload.codec, value) for value in values):
        reason = f"none of {len(values)} values of {table.removesuffix('?')}.{payload.column} has the form {payload.codec}"
        yield key, reason


def _check_settings(key: Sequence[str | int], settings: Settings, live: Readable) -> Iterator[Problem]:
    if settings.stored == "text" or not isinstance(settings.key, str):
        return
    column = settings.fields["value"]
    names = [settings.key, column if isinstance(column, str) else column[0]]
    rows = [
        (name, value)
        for name, value in _sample(live, settings.table, names)
        if isinstance(value, str) and find_key(settings, str(name)).stored is None
    ]
    wrong = [name for name, value in rows if not _has_form(settings, value)]
    if len(wrong) * 2 > len(rows):
        yield (
            key,
            f"{len(wrong)} of {len(rows)} values of {settings.table} are not {settings.stored}, such as {wrong[0]}",
        )


def _has_form(settings: Settings, value: str) -> bool:
    try:
        decode(settings.stored, value)
    except ValueError:
        return False
    return True


def _sample(live: Readable, table_name: str, names: Sequence[str]) -> list[tuple[object, ...]]:
    """Return rows without NULL in the last column; none of a table that lacks a column or is not read."""
    table = live.tables().get(table_name.removesuffix("?"))
    columns = [column for name in names if (column := find_column(table, name))]
    if table is None or len(columns) != len(names):
        return []
    with suppress(PrivilegeMissingError):  # reported by ``find_unreadable_tables``
        rows = live.sample(table.name, columns, rows=SAMPLE_ROWS, timeout=SAMPLE_LIMIT) or []
        return [row for row in rows if row[-1] is not None]
    return []
