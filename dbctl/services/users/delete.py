"""Deleting users, with all that is theirs, or after another one has taken it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import AllOf, AnyOf, Readable, Where, Writable
from dbctl.errors import DuplicateRowsError, UsageError
from dbctl.model import Done, Id, Plan, Row, counted
from dbctl.services.app import App, Change, Draft, User, UserSelector, UserTable, audit, database_of, exactly
from dbctl.services.deletion import Beside, Touched, doomed_rows, left_alone, reach, reachable, written
from dbctl.services.users import last_admin, sign_in_state
from dbctl.services.users.ownership import Belongings, Handover
from dbctl.services.users.update import listed


class UsersDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``users delete``."""

    users: Sequence[User]
    rows: Mapping[str, int]
    transferred: Mapping[str, int] = {}  #: rows of each table that another user has taken over
    duplicates: Mapping[
        str, int
    ] = {}  #: rows of each table that were deleted because that user has such a row
    signed_in_for: str | None = (
        None  #: how long a signed cookie, which nothing ends, still says who they were
    )

    left: Sequence[str] = ()  #: what stays elsewhere, in words

    @property
    def remarks(self) -> Sequence[str]:
        return [*sign_in_state.remarks(self.signed_in_for, changed=bool(self.users)), *self.left]

    def brief(self) -> Row:
        optional = {"transferred": self.transferred, "duplicates": self.duplicates}
        return {
            "deleted": [user.login for user in self.users],
            "rows": self.rows,
            **{name: rows for name, rows in optional.items() if rows},
        }


def delete_users(
    app: App, who: UserSelector, *, heir: str | Id = "", delete_duplicates: bool = False
) -> Change[UsersDeleted]:
    """Delete users with all that is theirs, as the live foreign keys and the profile say.

    Args:
        app: the app.
        who: those who go.
        heir: who takes over what the profile says can be taken over; it goes, too, where nobody does.
        delete_duplicates: delete rows that ``heir`` cannot take over, because a unique key would be there twice.

    Raises (when planned and when applied):
        LastAdminError: no active admin would be left.
        ConstraintError: rows of others point to them, and nothing says what becomes of those rows.
        AbilityMissingError: nothing of this app can be taken over.
        DuplicateRowsError: rows cannot be taken over, and ``delete_duplicates`` is false.
    """

    def draft(db: Readable) -> Draft[UsersDeleted]:
        users = UserTable(app, db)
        found = users.find(who)
        last_admin.guard(users, found)
        handover = Handover(users, found, _heir(users, found, heir)) if heir else None
        duplicates = handover.duplicates() if handover else []
        if handover and duplicates and not delete_duplicates:
            raise DuplicateRowsError(
                target=db.target,
                login=handover.to.login,
                rows=", ".join(
                    f"{counted(item.rows, 'row')} of {item.table} ({', '.join(item.key)})"
                    for item in duplicates
                ),
            )
        doomed: list[Where] = [users.live.among(users.section.id.column, [user.id for user in found])]
        belongings = Belongings(users, found, handover)
        rows = {users.live.name: len(found)} if found else {}
        steps = [f"delete {listed(found)}"] if found else []
        moved = handover.planned() if handover else {}
        if handover:
            steps += [
                f"give {counted(number, 'row')} of {table} to {handover.to.login}"
                for table, number in moved.items()
            ]
        for table, number in moved.items():
            rows[table] = rows.get(table, 0) + number
        beside = Beside(
            app, database_of(app), db, _gone(users, doomed, belongings, handover) if found else {}
        )
        touched = [*belongings.planned(), *_by_keys(users, doomed, belongings, handover), *beside.planned()]
        for one in touched:
            rows[one.table] = rows.get(one.table, 0) + one.rows
            steps.append(one.step)

        def work(db: Writable) -> UsersDeleted:
            if handover:
                handover.carry_out(db, moved)
            belongings.delete(db)
            beside.delete()
            exactly(db.delete(users.live.name, doomed), len(found), db)
            for user in found:
                audit.record(app, db, "users.delete", "users", user.id, {"username": user.login})
            return UsersDeleted(
                users=found,
                rows=rows,
                transferred=moved,
                duplicates={item.table: item.rows for item in duplicates},
                signed_in_for=users.section.cookie or None,
                left=left_alone(app, database_of(app)),
            )

        plan = Plan(
            title=f"Delete {listed(found)}", target=db.target, steps=steps, rows=rows, destructive=bool(found)
        )
        return Draft(plan, work)

    def along() -> Sequence[str]:
        users = UserTable(app, app.reader(database_of(app)))
        owned = [one.partition(".")[0] for one in users.section.owns]
        tables = [users.live.name, *(name for name in owned if name in users.db.tables())]
        return written(app, database_of(app), [one for name in tables for one in reachable(users.db, name)])

    return Change(app, database_of(app), "users delete", draft, along=along)


def _heir(users: UserTable, leaving: Sequence[User], named: str | Id) -> User:
    users.app.ability(users.section.transfer, "transfer of what is a user's")
    heir = users.one(named)
    if any(user.id == heir.id for user in leaving):
        raise UsageError(detail=f"{heir.login} is deleted, too, and can take nothing over")
    return heir


def _gone(
    users: UserTable, doomed: Sequence[Where], belongings: Belongings, handover: Handover | None
) -> dict[str, list[Where]]:
    """Return by table the conditions of all that goes, by the profile or by the live foreign keys."""
    settled = [*belongings.keys, *(handover.keys if handover else ())]
    found = dict[str, list[Where]]()
    theirs: dict[str, list[Where]] = {**belongings.gone, users.live.name: [AllOf(doomed)]}
    for table, where in theirs.items():
        for name, more in doomed_rows(users.db, table, [AnyOf(where)], before=settled).items():
            found.setdefault(name, []).extend(more)
    return found


def _by_keys(
    users: UserTable, doomed: Sequence[Where], belongings: Belongings, handover: Handover | None
) -> list[Touched]:
    """Return what the live foreign keys take along, of the users and of what is theirs."""
    settled = [*belongings.keys, *(handover.keys if handover else ())]
    found = list[Touched]()
    for table, where in belongings.gone.items():
        if users.db.count(table, [AnyOf(where)]):
            found += reach(users.db, table, [AnyOf(where)], before=settled)
    return [*found, *reach(users.db, users.live.name, doomed, before=settled)]
