"""Deleting users, with all that is theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.base import Condition, Readable, Where, Within, Writable
from dbctl.model import Done, Plan, Row, counted
from dbctl.services import audit, last_admin
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft, exactly
from dbctl.services.deletion import Touched, reach
from dbctl.services.user_changes import listed
from dbctl.services.user_table import User, UserTable, Who, database_of


class UsersDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``users delete``."""

    users: Sequence[User]
    rows: Mapping[str, int]

    def brief(self) -> Row:
        return {"deleted": [user.login for user in self.users], "rows": self.rows}


def delete_users(app: App, who: Who) -> Change[UsersDeleted]:
    """Delete users with all that is theirs, as the live foreign keys and the profile say.

    Raises (when planned and when applied):
        LastAdminError: no active admin would be left.
        ConstraintError: rows of others point to them, and nothing says what becomes of those rows.
    """

    def draft(db: Readable) -> Draft[UsersDeleted]:
        users = UserTable(app, db)
        found = users.find(who)
        last_admin.guard(users, found)
        doomed: list[Where] = [users.live.among(users.told.id.column, [user.id for user in found])]
        owned = _owned(users, doomed)
        rows = {users.live.name: len(found)} if found else {}
        steps = [f"delete {listed(found)}"] if found else []
        for touched in [*owned, *reach(db, users.live.name, doomed, before=users.told.owns)]:
            rows[touched.table] = rows.get(touched.table, 0) + touched.rows
            steps.append(touched.step)

        def work(db: Writable) -> UsersDeleted:
            for name in users.told.owns:
                table, _, column = name.partition(".")
                if table in db.tables():
                    db.delete(table, [Condition(column, "in", [user.id for user in found])])
            exactly(db.delete(users.live.name, doomed), len(found), db)
            for user in found:
                audit.record(app, db, "users.delete", "users", user.id, {"username": user.login})
            return UsersDeleted(users=found, rows=rows)

        plan = Plan(
            title=f"Delete {listed(found)}", target=db.target, steps=steps, rows=rows, destructive=bool(found)
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "users delete", draft)


def _owned(users: UserTable, doomed: Sequence[Where]) -> list[Touched]:
    """Return the rows that the profile says are theirs, and what goes along with those."""
    found = []
    for name in users.told.owns:
        table, _, column = name.partition(".")
        if table in users.db.tables():
            within = Within([column], users.live.name, [users.id], doomed)
            count = users.db.count(table, [within])
            if count:
                found.append(
                    Touched(table=table, rows=count, step=f"delete {counted(count, 'row')} of {table}")
                )
                found += reach(users.db, table, [within])
    return found
