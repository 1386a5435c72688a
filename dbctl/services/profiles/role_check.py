"""Check that the roles of users have the form that the profile declares."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import Readable
from dbctl.errors import SchemaMismatchError
from dbctl.services.app import App, UserTable, users_database
from dbctl.services.profiles.consistency import Problem


def find_role_problems(app: App, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the contradictions between the declared roles, the types of their columns and the stored values."""
    users = app.profile.users
    if users is None or users.role is None or users_database(app) != database:
        return
    try:
        roles = UserTable(app, live).roles
        for key, reason in roles.find_problems() if roles else ():
            yield ("users", *key), reason
    except SchemaMismatchError:  # reported by other checks
        return
