"""Check that stored password hashes have a format that the profile declares."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import Readable
from dbctl.errors import ProfileInvalidError, SchemaMismatchError
from dbctl.model import Severity
from dbctl.services.app import App, UserTable, users_database
from dbctl.services.app.evidence import Contradiction
from dbctl.services.users import Passwords, StoredFormats


def find_format_problems(app: App, database: str, live: Readable) -> Iterator[Contradiction]:
    """Yield the formats of stored hashes that the profile does not declare, and values in no known format."""
    stored = _sample_formats(app, database, live)
    if stored and stored.is_unknown:
        count = f"{stored.unknown} of {stored.row_count}"
        yield _create_format_problem(
            f"{count} stored values are in no known hash format, so dbctl sets no password"
        )
    if stored and stored.undeclared:
        formats = stored.describe_undeclared()
        yield _create_format_problem(f"stored hashes have formats that it does not declare: {formats}")
    if stored and stored.unknown and not stored.is_unknown:
        yield _create_problem(
            "password-unknown",
            "info",
            f"{stored.unknown} of {stored.row_count} stored values are in no known hash format",
            "Users with such a value cannot sign in with a password. List intended values in users.password.unusable.",
        )


def _create_format_problem(reason: str) -> Contradiction:
    remedy = (
        "Add each format to users.password.accepts if the app accepts it, or correct users.password.writes."
    )
    return _create_problem("password-format", "error", reason, remedy)


def _create_problem(code: str, severity: Severity, reason: str, remedy: str) -> Contradiction:
    return Contradiction(
        key=("users", "password"), code=code, reason=reason, remedy=remedy, severity=severity
    )


def _sample_formats(app: App, database: str, live: Readable) -> StoredFormats | None:
    users = app.profile.users
    if users is None or users.password is None or users_database(app) != database:
        return None
    try:
        return Passwords(app, UserTable(app, live).live).stored_formats
    except (ProfileInvalidError, SchemaMismatchError):  # reported by other checks
        return None
