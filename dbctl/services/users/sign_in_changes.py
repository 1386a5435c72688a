"""Sign-ins of users whose role or state a change of rows affects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Readable
from dbctl.services.app import App, UserTable, find_column, users_database
from dbctl.services.users import sign_in_state


class SignInChanges:
    """Ends the sessions of users whose role or active state differs at the end of an open transaction."""

    def __init__(self, app: App) -> None:
        """Read the users of the app, if the change writes their database."""
        self._before = _read_states(app)

    def end_sessions(self, app: App) -> int:
        """End the sessions of users with another state; return the number of rows that stored them."""
        if self._before is None or not (after := _read_states(app)):
            return 0
        changed = {key for key, state in after.items() if key in self._before and state != self._before[key]}
        if not changed:
            return 0
        db = app.current_writer(users_database(app))
        users = UserTable(app, db)
        leaving = [user for user in users.read([]) if user.id in changed]
        return sign_in_state.end_sessions(users, db, leaving)

    @staticmethod
    def list_columns(app: App, db: Readable, database: str, table: str) -> Sequence[str] | None:
        """Return the columns of a table that end sign-ins; None: its rows are sign-ins."""
        users = app.profile.users
        if users is None or users_database(app) != database:
            return ()
        if any(section.table.removesuffix("?") == table for section in users.signed_in):
            return None
        if table != users.table:
            return ()
        live = db.tables().get(table)
        return [column for name in users.on_sign_out if (column := find_column(live, name))]


def _read_states(app: App) -> Mapping[object, object] | None:
    """Return roles and active state by the key of the user; None if the change does not write the users."""
    if app.profile.users is None:
        return None
    try:
        db = app.current_writer(users_database(app))
    except KeyError:
        return None
    return {user.id: (list(user.role_names), user.active) for user in UserTable(app, db).read([])}
