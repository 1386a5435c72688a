"""Check that stored password hashes have a format that the profile declares."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import Readable
from dbctl.errors import ProfileInvalidError, SchemaMismatchError
from dbctl.services.app import App, UserTable, users_database
from dbctl.services.profiles.consistency import Problem
from dbctl.services.users import Passwords, StoredFormats

KEY = ("users", "password")


def find_undeclared_formats(app: App, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the formats of stored hashes that the profile does not declare: the app may not accept the format that it names."""
    stored = _sample_formats(app, database, live)
    if stored and stored.is_unknown:
        yield (
            KEY,
            f"no stored value is a hash in a format that it declares (unknown: {stored.unknown} of {stored.row_count})",
        )
    if stored and stored.undeclared:
        yield KEY, f"stored hashes have formats that it does not declare: {stored.describe_undeclared()}"


def find_unknown_values(app: App, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the number of stored values that are no hash of a known format."""
    stored = _sample_formats(app, database, live)
    if stored and stored.unknown and not stored.is_unknown:
        yield KEY, f"{stored.unknown} of {stored.row_count} stored values are in no known hash format"


def _sample_formats(app: App, database: str, live: Readable) -> StoredFormats | None:
    users = app.profile.users
    if users is None or users.password is None or users_database(app) != database:
        return None
    try:
        return Passwords(app, UserTable(app, live).live).sample_formats()
    except (ProfileInvalidError, SchemaMismatchError):  # reported by other checks
        return None
