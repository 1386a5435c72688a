"""One row of any table, changed or deleted, by the rules that the app has for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from dbctl.engines.contract import Readable, Where, Writable
from dbctl.errors import OwnCommandError, UsageError, ValueInvalidError
from dbctl.model import Done, Plan, Row, Secret, Value, now
from dbctl.services.app import (
    MASK,
    TIMES,
    App,
    Change,
    Draft,
    UserSelector,
    UserTable,
    audit,
    cut,
    exactly,
    find_column,
)
from dbctl.services.data.table import DataTable, database_of, key_of
from dbctl.services.deletion import Beside, doomed_rows, left_alone, reach, reachable, written
from dbctl.services.rules import Others, RowRules, guard, same_stored
from dbctl.services.search import name_repair
from dbctl.services.users import UsersChanged, Wanted, change_of, delete_users

R = TypeVar("R")


class RowChanged(Done, frozen=True, kw_only=True):
    """Answer of ``data set``."""

    table: str
    key: Row
    before: Row  #: of the columns that were changed
    after: Row
    changed: bool
    ended_sessions: int = 0

    def brief(self) -> Row:
        return {
            "key": self.key,
            "before": self.before,
            "after": self.after,
            "ended_sessions": self.ended_sessions,
        }


class RowDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``data delete``."""

    table: str
    key: Row
    rows: Mapping[str, int]  #: that went, or were cut loose, by table
    left: Sequence[str] = ()  #: what stays elsewhere, in words

    @property
    def remarks(self) -> Sequence[str]:
        return self.left


def set_row(
    app: App,
    name: str,
    key: Sequence[str],
    given: Mapping[str, str],
    nulls: Sequence[str],
    *,
    secrets: Mapping[str, Secret],
) -> Change[RowChanged]:
    """Change columns of one row; those of ``nulls`` become NULL, and those of ``secrets`` hold secrets.

    Raises (when planned and when applied):
        RowAbsentError: there is no such row.
        ValueInvalidError: a column does not take its value.
        MoveRefusedError: the profile knows no such move.
        BuiltInRoleError: a built-in role would get or lose a permission.
        LastAdminError: no active admin would be left.
        OwnCommandError: another command keeps the rules for it.
    """

    def draft(db: Readable) -> Draft[RowChanged]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_own_command(table, {*given, *nulls, *secrets})
        before = table.one(key)
        fields, values = read_changes(table, given, nulls, secrets)
        people = _of_user(table, before, fields) if fields else None
        RowRules(app, table.database, table.live).check_changed(before, values | _role_key(table, given))
        others = Others(app, table.database, table.live, table.at(key), before, values)
        return _set(table, key, before, values, people, others)

    return Change(app, database_of(app), "data set", draft)


def delete_row(app: App, name: str, key: Sequence[str]) -> Change[RowDeleted]:
    """Delete one row, with all that the live foreign keys take along.

    Raises (when planned and when applied):
        RowAbsentError: there is no such row.
        ConstraintError: rows point to it that neither go along nor let go.
        BuiltInRoleError: a built-in role would lose a permission.
        LastAdminError: no active admin would be left.
        OwnCommandError: another command keeps the rules for it.
    """

    def draft(db: Readable) -> Draft[RowDeleted]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_roles(table)
        row = table.one(key)
        shown = " ".join(cut(one) for one in key)
        title = f"Delete {name} {shown}"
        if is_users_table(table):
            return _deleted_user(table, row, title)
        RowRules(app, table.database, table.live).check_removed(row)
        stored = key_of(table, row)

        def answer(rows: Mapping[str, int], left: Sequence[str]) -> RowDeleted:
            return RowDeleted(table=name, key=stored, rows=rows, left=left)

        doomed = Doomed(
            where=table.at(key), number=1, title=title, step=f"delete {name} {shown}", entry=" ".join(key)
        )
        return draft_deletion(table, doomed, answer)

    return Change(app, database_of(app), "data delete", draft, along=lambda: databases_along(app, name))


class Doomed(Value, frozen=True, kw_only=True):
    """Rows of one table that are about to be deleted."""

    where: Sequence[Where]
    number: int
    title: str  #: of the plan
    step: str  #: what happens to them, for the plan
    entry: str  #: which rows, for the app's own record


def draft_deletion(
    table: DataTable, doomed: Doomed, answer: Callable[[Mapping[str, int], Sequence[str]], R]
) -> Draft[R]:
    """Return plan and work of a deletion, with all that the live foreign keys and the profile's links take along.

    Args:
        table: where the rows are.
        doomed: the rows.
        answer: makes the answer of the numbers of rows by table, and of what stays elsewhere.

    Raises:
        ConstraintError: rows point there that neither go along nor let go.
    """
    app, db, name = table.app, table.db, table.name
    rows, steps = {name: doomed.number}, [doomed.step]
    beside = Beside(app, table.database, db, doomed_rows(db, name, doomed.where))
    for touched in [*reach(db, name, doomed.where), *beside.planned()]:
        rows[touched.table] = rows.get(touched.table, 0) + touched.rows
        steps.append(touched.step)

    def work(db: Writable) -> R:
        with guard(app, table.database, db), name_repair(app.profile.search, name, db):
            exactly(db.delete(name, doomed.where), doomed.number, db)
        audit.record(app, db, "data.delete", name, doomed.entry, {"rows": rows})
        beside.delete()
        left = left_alone(app, table.database) if databases_along(app, name) or app.only else []
        return answer(rows, left)

    plan = Plan(title=doomed.title, target=db.target, steps=steps, rows=rows, destructive=True)
    return Draft(plan, work)


def databases_along(app: App, name: str) -> Sequence[str]:
    """Return the other databases that a deletion of rows of a table writes."""
    db = app.reader(database_of(app))
    return written(app, database_of(app), reachable(db, name)) if name in db.tables() else []


def refuse_roles(table: DataTable) -> None:
    """Refuse to delete rows of the table of roles.

    Raises:
        OwnCommandError: it is that table.
    """
    roles = table.app.profile.roles
    if roles and _is_here(table.app, table) and table.name == roles.table:
        raise OwnCommandError(what=f"deleting a row of {table.name}", command="roles delete")


# Within --------------------------------------------------------------------------------------------------------


def _set(
    table: DataTable,
    key: Sequence[str],
    before: Row,
    values: dict[str, object],
    people: _People | None,
    others: Others,
) -> Draft[RowChanged]:
    values = {name: value for name, value in values.items() if not same_stored(before[name], value)}
    touched = [*values, *(people.columns if people else ())]
    steps = [
        f"change {name} from {quote_value(table, name, before[name])} to {quote_value(table, name, value)}"
        for name, value in values.items()
    ]
    changed_rows = (1 if steps else 0) + others.rows
    steps += others.steps()
    stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
    if stamp and stamp not in values and not set(values) <= others.columns:
        values[stamp] = table.live.encode(stamp, now())

    def work(db: Writable) -> RowChanged:
        done = people.draft.work(db) if people else None
        others.take(db)
        if values:
            with guard(table.app, table.database, db), name_repair(table.app.profile.search, table.name, db):
                exactly(db.update(table.name, values, table.at(key)), 1, db)
            changes = {
                name: [table.shown(name, before[name]), table.shown(name, values[name])]
                for name in values
                if name != stamp
            }
            audit.record(table.app, db, "data.set", table.name, " ".join(key), {"changed": changes})
        after = table.one(key)
        changed = [*touched, *([stamp] if stamp and stamp in values else [])]
        return RowChanged(
            table=table.name,
            key=key_of(table, before),
            before={name: table.shown(name, before[name]) for name in changed},
            after={name: table.shown(name, after[name]) for name in changed},
            changed=bool(steps or (people and not people.draft.plan.empty)),
            ended_sessions=done.ended_sessions if done else 0,
        )

    rows = {table.name: changed_rows} if steps else {}
    if people:
        steps = [*people.draft.plan.steps, *steps]
        rows = {**people.draft.plan.rows, **rows}
    title = f"Set {', '.join(touched or others.taken) or 'nothing'} of {table.name} {' '.join(cut(one) for one in key)}"
    return Draft(Plan(title=title, target=table.db.target, steps=steps, rows=rows), work)


class _People:
    """The part of a change that the rules for users are about."""

    def __init__(self, columns: Sequence[str], draft: Draft[UsersChanged]) -> None:
        self.columns, self.draft = columns, draft


def read_changes(
    table: DataTable,
    given: Mapping[str, str],
    nulls: Sequence[str],
    secrets: Mapping[str, Secret] = MappingProxyType({}),
) -> tuple[dict[str, str], dict[str, object]]:
    """Return what is to change: fields of users, as typed, and columns with what is stored."""
    twice = [name for name in nulls if name in given or name in secrets]
    if twice or not (given or nulls or secrets):
        raise UsageError(
            detail=f"{twice[0]} is given a value and NULL"
            if twice
            else "nothing says what to set: COLUMN=VALUE"
        )
    fields = {}
    values: dict[str, object] = {}
    mapped = user_fields(table)
    for name in [*given, *nulls]:
        _refuse_what_is_not_set(table, name, null=name in nulls)
        if name in mapped and name in given:
            fields[name] = given[name]
        elif name in given:
            values[name] = table.typed(name, given[name])
        elif not table.column(name).nullable:
            raise ValueInvalidError(what=name, value="NULL", reason="the column has to have a value")
        else:
            values[name] = None
    for name, secret in secrets.items():
        _refuse_what_is_not_set(table, name, secret=True)
        if name not in table.hidden:
            raise UsageError(detail=f"{table.name}.{name} holds no secrets: write {name}=VALUE")
        values[name] = table.typed(name, secret.reveal())
    return fields, values


def _refuse_what_is_not_set(table: DataTable, name: str, *, null: bool = False, secret: bool = False) -> None:
    told, users = table.column(name), table.app.profile.users
    if told.generated:
        raise UsageError(detail=f"{table.name}.{name} is made of other columns, and nobody writes it")
    if name in table.key:
        raise UsageError(detail=f"{table.name}.{name} is part of the key, by which others find the row")
    if users and is_users_table(table):
        if users.password and name == users.password.column:
            raise OwnCommandError(what=f"{table.name}.{name}", command="users set-password")
        role = UserTable(table.app, table.db).role
        if null and name in {role, find_column(table.live.table, users.fields.get("active"))}:
            raise OwnCommandError(what=f"{table.name}.{name}", command="users set-role, or users deactivate,")
    if name in table.hidden and not (null or secret):
        reason = f"a secret never stands in a command; --secret {name} reads it, --null {name} removes it"
        raise ValueInvalidError(what=f"{table.name}.{name}", value=MASK, reason=reason)


def refuse_own_command(table: DataTable, columns: Collection[str]) -> None:
    for told in table.app.profile.settings:
        here = told.table == table.name and (told.database or table.app.main()) == table.database
        if here and (not told.object or find_column(table.live.table, told.fields["value"]) in columns):
            command = "settings set --user LOGIN" if told.scope == "user" else "settings set"
            raise OwnCommandError(what=f"setting a row of {table.name}", command=command)
    roles = table.app.profile.roles
    if roles and _is_here(table.app, table) and roles.table == table.name:
        raise OwnCommandError(what=f"setting a row of {table.name}", command="roles update")


def _is_here(app: App, table: DataTable) -> bool:
    """Whether the table is in the database of users and roles."""
    users = app.profile.users
    return ((users.database if users else "") or app.main()) == table.database


def is_users_table(table: DataTable) -> bool:
    users = table.app.profile.users
    return users is not None and users.table == table.name and _is_here(table.app, table)


def user_fields(table: DataTable) -> dict[str, str]:
    """Return the columns of users for which the app has rules, and dbctl's word for each."""
    if not is_users_table(table):
        return {}
    users = UserTable(table.app, table.db)
    words = {column: word for word, column in users.fields.items() if word not in TIMES}
    return words | ({users.role: "role"} if users.role else {})


def _role_key(table: DataTable, given: Mapping[str, str]) -> dict[str, object]:
    """Return the role that a user is to have, as the row holds it: it may be a state that has moves."""
    users = UserTable(table.app, table.db) if is_users_table(table) else None
    if users is None or users.role is None or users.role not in given:
        return {}
    names = {str(key): name for key, name in users.roles().items()}
    return {users.role: users.role_key(names.get(given[users.role], given[users.role]))}


def _of_user(table: DataTable, row: Row, given: Mapping[str, str]) -> _People:
    users = UserTable(table.app, table.db)
    found = users.find(UserSelector(ids=[str(row[users.id])]))
    words = user_fields(table)
    fields = {words[name]: text for name, text in given.items()}
    if "role" in fields:  # a row holds its key, and people know its name
        names = {str(key): name for key, name in users.roles().items()}
        fields["role"] = names.get(fields["role"], fields["role"])
    drafted = change_of(users, found, Wanted(fields=fields), "", "users.update")
    return _People(list(given), drafted)


def _deleted_user(table: DataTable, row: Row, title: str) -> Draft[RowDeleted]:
    users = UserTable(table.app, table.db)
    drafted = delete_users(table.app, UserSelector(ids=[str(row[users.id])])).draft(table.db)

    def work(db: Writable) -> RowDeleted:
        done = drafted.work(db)
        return RowDeleted(table=table.name, key=key_of(table, row), rows=done.rows, left=done.left)

    plan = drafted.plan
    return Draft(
        Plan(title=title, target=plan.target, steps=plan.steps, rows=plan.rows, destructive=True), work
    )


def quote_value(table: DataTable, name: str, value: object) -> str:
    return "NULL" if value is None else repr(cut(str(table.shown(name, value))))
