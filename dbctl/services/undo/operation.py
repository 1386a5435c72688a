"""``undo``: restore the rows of an operation of the audit log, if nothing has changed them since."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import groupby
from operator import itemgetter

from dbctl.engines.contract.database import Readable, Table, Writable, require_supported
from dbctl.errors.base import Remedy
from dbctl.errors.operations import UndoAppError, UndoConflictError, UndoDatabaseError, UndoSecretsError
from dbctl.model import ChangeResult, Effect, Plan, Secret, format_count
from dbctl.profiles.model.base import list_names
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, PreparedChange
from dbctl.services.app.live_table import LiveTable, find_column, list_uncovered
from dbctl.services.data.table import sort_by_references
from dbctl.services.deletion.cascade import GuardedInvariants, count_affected_rows
from dbctl.services.events.changes.records import (
    OperationDetails,
    RowImage,
    TableChange,
    digest_table,
    is_rounded,
)
from dbctl.services.rules.rows import guard_constraints
from dbctl.services.undo.order import InsertOrder, UnorderableRowsError, sort_inserts
from dbctl.services.undo.refusal import REMEDY, refuse
from dbctl.services.undo.tables import TableUndo, Values
from dbctl.services.users.create import hash_password
from dbctl.services.users.passwords import Passwords
from dbctl.services.users.sign_in_state import ChangedRows, SignInChanges

PASSWORD_REMARK = Remedy("{users} restored without the password; set one with: `users set-password LOGIN`")
MAX_CONFLICTS = 20


class Undone(ChangeResult, frozen=True, kw_only=True):
    """Result of ``undo``."""

    operation: int
    rows: Mapping[str, int]  #: restored rows by table, or those of the dropped table
    dropped: str = ""  #: the table that the operation had created
    ended_sessions: int = 0
    differing: Mapping[str, Sequence[str]] = {}  #: columns that the database itself changed again, by table
    without_password: int = 0  #: restored users without the password that they had
    #: what else was not restored, such as secrets, as ``columns of table`` and ``N rows of table``
    omitted: Sequence[str] = ()

    @property
    def effect(self) -> Effect | None:
        counts = {f"rows of {table}": count for table, count in self.rows.items()}
        return Effect(
            "undid",
            "operation",
            [str(self.operation)],
            details=[f"table {self.dropped} dropped"] if self.dropped else (),
            counts={**counts, "sessions ended": self.ended_sessions},
        )

    @property
    def remarks(self) -> Sequence[str]:
        remarks = [
            f"the database changed {', '.join(columns)} of {table} again; these values are not restored"
            for table, columns in self.differing.items()
        ]
        if self.without_password:
            users = format_count(self.without_password, "user")
            remarks.append(PASSWORD_REMARK.write(facts={"users": users}))
        if self.omitted:
            remarks.append(f"not restored: {'; '.join(self.omitted)}")
        return remarks


def undo_operation(
    app: App, operation: OperationDetails, *, is_moved: bool = False, without_secrets: bool = False
) -> Change[Undone]:
    """Revert an operation in one transaction per database, with ``is_moved`` also if the databases have other addresses now.

    ``without_secrets``: also if deleted rows had secrets, which the log lacks; users are always restored without them.

    Raises (when planned and when applied):
        UndoAppError: it changed another app.
        UndoDatabaseError: it changed another database. Apps of two configurations often have the same name.
        UndoImpossibleError: the log has no rows of it, or only secrets.
        UndoConflictError: rows have changed since, or other rows refer to rows that it inserted.
        UndoSecretsError: it deleted rows with secrets.
    """
    if operation.app != app.name:
        raise UndoAppError(number=operation.operation, expected=operation.app, app=app.name)
    for name, expected in operation.addresses.items():
        if (
            not is_moved
            and name in app.configured.databases
            and (actual := app.find_address(name)) != expected
        ):
            raise UndoDatabaseError(
                number=operation.operation, expected=expected, actual=actual, target=app.target(name)
            )
    if not operation.changes:
        raise refuse(operation, "the log has no rows of it")
    if any(change.created for change in operation.changes):
        return _undo_creation(app, operation)
    for change in operation.changes:
        if change.images is None:
            raise refuse(operation, f"rows of {change.table} are not in the log: {change.reason}")
        if rounded := _find_rounded(change):
            reason = (
                f"an older version of dbctl recorded it, and rounded numbers of {change.table}: {rounded}"
            )
            raise refuse(operation, reason)
    databases = list(dict.fromkeys(change.database for change in operation.changes))
    return Change(
        app,
        databases[0],
        lambda db: RevertRows(app, operation, databases, db, without_secrets=without_secrets),
        cascade_databases=lambda: databases[1:],
    )


def _undo_creation(app: App, operation: OperationDetails) -> Change[Undone]:
    """Revert an operation that created one table, and changed nothing else: drop the table; raises as ``undo_operation``."""
    (change,) = operation.changes

    def draft(db: Readable) -> PreparedChange[Undone]:
        name, recorder = change.table, app.recorder
        if name not in db.tables():
            raise refuse(operation, f"the table {name} does not exist")
        if recorder is None or digest_table(db, name, recorder.read_key()) != change.created:
            error = UndoConflictError(number=operation.operation, rows=f"the table {name}")
            error.details = [f"{name} has other rows or columns than the operation left"]
            raise error
        if references := [reference.table for reference in db.references(name)]:
            raise refuse(operation, f"{', '.join(references)} refer to the table {name}")
        rows = db.count(name)
        plan = Plan(
            title=_describe_undo(operation),
            target=db.target,
            steps=[f"drop the table {name} with its {format_count(rows, 'row')}"],
            rows={name: rows},
            destructive=True,
        )
        return PreparedChange(plan, lambda writer: _drop_table(app, operation, writer, name))

    return Change(app, change.database, draft)


def _drop_table(app: App, operation: OperationDetails, db: Writable, name: str) -> Undone:
    if recorder := app.recorder:
        recorder.undoes = operation.operation
    rows = db.count(name)
    audit.note_dropped_table(db, name, rows)
    require_supported(db, db.staging, "dropping a table", REMEDY).drop_table(name)
    details = {"operation": operation.operation, "command": operation.command}
    audit.record(app, db, "undo", "operation", operation.operation, details)
    return Undone(operation=operation.operation, rows={name: rows}, dropped=name)


def _describe_undo(operation: OperationDetails) -> str:
    time = f"{operation.time:%Y-%m-%d %H:%M} UTC"
    return f"Undo operation {operation.operation}: {operation.command} of {time}"


def _find_rounded(change: TableChange) -> str:
    """Return the columns of which the log has rounded numbers; empty: none."""
    if change.exact:
        return ""
    rows = [row for image in change.images or () for row in (image.key, image.before, image.after) if row]
    return ", ".join(dict.fromkeys(name for row in rows for name, value in row.items() if is_rounded(value)))


def _has_columns(table: Table, image: RowImage, times: Collection[str]) -> bool:
    """Return whether a table has the key and all columns of a recorded row, not all of them, except ``times``, generated now.

    A deleted row needs a value of each column that is required now.
    """
    names = {**(image.before or {}), **(image.after or {})}.keys()
    return (
        set(image.key) == set(table.primary_key)
        and not (image.after is None and list_uncovered(table, {*image.key, *names}))
        and names <= table.columns.keys()
        and not all(table.columns[name].is_generated for name in names - set(times) or names)
    )


class RevertRows:
    """The rows to restore in all databases of an operation."""

    def __init__(
        self,
        app: App,
        operation: OperationDetails,
        databases: Sequence[str],
        db: Readable,
        *,
        without_secrets: bool,
    ) -> None:
        """Compare the rows with the log; raises as ``undo_operation``."""
        self._app, self._operation = app, operation
        self._readers = {name: db if name == databases[0] else _open(app, name) for name in databases}
        self._tables = {
            name: [self._create(name, change) for change in operation.changes if change.database == name]
            for name in databases
        }
        self._passwords = self._find_new_passwords()
        incomplete = self._drop_incomplete_rows()
        for name, tables in self._tables.items():
            _drop_orphans(self._readers[name], tables)
        self._orders = {name: self._sort_inserts(name) for name in databases}
        self._refuse_conflicts()
        self._restored = {
            self._qualify(name, table.table): len(table.rows)
            for name, tables in self._tables.items()
            for table in tables
            if table.rows
        }
        self.plan = self._create_plan(db)
        if not self._restored:
            reason = "it changed only secrets, sign-ins or times of changes, which are not restored"
            if incomplete:
                reason = f"the log lacks secrets of the deleted rows: {', '.join(incomplete)}"
            raise refuse(operation, reason)
        if not without_secrets:
            self._refuse_exposure()

    def _create(self, name: str, change: TableChange) -> TableUndo:
        db, table = self._readers[name], change.table
        live = db.tables().get(table)
        images = change.images or ()
        if live is None:
            raise refuse(self._operation, f"the table {table} does not exist")
        times = self._find_times(name, live)
        if not all(_has_columns(live, image, times) for image in images):
            raise refuse(self._operation, f"the table {table} has another schema now")
        befores = [image.before for image in images]
        if len(self._operation.changes) == 1 and all(row and row.keys() <= times for row in befores):
            times = set()  # it changed nothing else, as `data set` of such a column
        recorder = self._app.recorder
        return TableUndo(
            db,
            table,
            images,
            read_key=cache(recorder.read_key) if recorder else bytes,
            sign_ins=SignInChanges.list_rows(self._app, name, live),
            sign_in_columns=SignInChanges.list_columns(self._app, name, live),
            times=times,
            exact=change.exact,
        )

    def _sort_inserts(self, name: str) -> InsertOrder:
        try:
            return sort_inserts(self._readers[name], self._tables[name])
        except UnorderableRowsError as error:
            raise refuse(self._operation, str(error)) from error

    def _find_times(self, name: str, live: Table) -> set[str]:
        """Return the columns of a table with the time of its last change."""
        profile = self._app.profile
        names = [self._app.database(name).updated_at]
        names += [
            section.fields.get("updated_at")
            for section in (profile.users, profile.roles, *profile.settings)
            if section
        ]
        return {column for item in names if (column := find_column(live, item))}

    def _drop_incomplete_rows(self) -> list[str]:
        """Do not restore deleted rows that cannot exist without a secret; return the columns that they lack.

        A default, such as an empty text, is no value of a setting or a token. A user can exist without a secret that has a default.
        """
        users = {table.table for table in self._list_users()}
        columns = list[str]()
        for table in self._list_tables():
            if table.table in self._passwords:
                continue
            names = table.list_missing_columns() if table.table in users else table.list_omitted_columns()
            names = [*names, *self._list_setting_values(table.table)]
            columns += [f"{table.table}.{name}" for name in table.drop_incomplete(names)]
        return columns

    def _list_setting_values(self, table: str) -> Iterator[str]:
        """Yield the columns with the value of a setting, without which its row is no setting."""
        for section in self._app.profile.settings:
            if section.table.removesuffix("?") == table and not (section.row or section.object):
                yield from (name.removesuffix("?") for name in list_names(section.fields["value"]))

    def _find_new_passwords(self) -> set[str]:
        """Return the table of users, if deleted users lack only their password, and the app has no NULL for that.

        A default of the column, such as an empty text, is no password that the app writes.
        """
        columns = self._list_password_columns()
        return {
            table.table
            for table in self._list_users()
            if set(table.list_missing_columns()) <= columns
            and not columns.isdisjoint(table.list_omitted_columns())
        }

    def _list_password_columns(self) -> set[str]:
        users = self._app.profile.users
        names = users.password.columns if users and users.password else ()
        return {column for name in names for column in list_names(name)}

    def _list_users(self) -> Iterator[TableUndo]:
        users = self._app.profile.users
        return (table for table in self._list_tables() if users and table.table == users.table)

    def _list_tables(self) -> Iterator[TableUndo]:
        for tables in self._tables.values():
            yield from tables

    def _refuse_conflicts(self) -> None:
        lines = [line for table in self._list_tables() for line in table.list_conflicts()]
        for name, tables in self._tables.items():
            by_name = {table.table: table for table in tables}
            lines += [
                f"{format_count(rows, 'row')} of {name}.{other} refer to new rows of {table.table}"
                for table in tables
                for other, rows in table.count_referring(by_name)
            ]
        if lines:
            error = UndoConflictError(number=self._operation.operation, rows=format_count(len(lines), "row"))
            error.details = lines[:MAX_CONFLICTS]
            raise error

    def _refuse_exposure(self) -> None:
        """Refuse to insert rows without a secret that they had: in some apps, such rows are open to others.

        A user cannot sign in without a password.
        """
        users = {table.table for table in self._list_users()}
        secrets = [
            f"{table.table}.{name}"
            for table in self._list_tables()
            if table.table not in users
            for name in table.list_lost_secrets()
        ]
        if secrets:
            raise UndoSecretsError(number=self._operation.operation, columns=", ".join(secrets))

    def _create_plan(self, db: Readable) -> Plan:
        operation = self._operation
        steps = [step for table in self._list_tables() for step in table.list_steps()]
        if self._passwords:
            steps.append("set a random password for restored users: the log has no password hashes")
        rows = Counter(self._restored)
        for name, tables in self._tables.items():
            changes = self._list_changes(name)
            ended, counts = SignInChanges.plan(self._app, self._readers[name], name, changes)
            steps += ended
            rows.update({self._qualify(name, table): count for table, count in counts.items()})
            by_name = {table.table: table for table in tables}
            following = [item for table in tables for item in table.find_following(by_name)]
            steps += [item.step for item in following]
            followed = count_affected_rows(self._readers[name], following)
            rows.update({self._qualify(name, table): count for table, count in followed.items()})
        return Plan(
            title=_describe_undo(operation), target=db.target, steps=steps, rows=rows, destructive=True
        )

    def _list_changes(self, database: str) -> ChangedRows:
        return {table.table: list(table.list_changes()) for table in self._tables[database]}

    def _qualify(self, database: str, table: str) -> str:
        return f"{database}.{table}" if len(self._tables) > 1 else table

    def apply(self, db: Writable) -> Undone:
        """Restore the rows, and end the sessions of users whose role or state changed."""
        app, differing = self._app, dict[str, Sequence[str]]()
        if recorder := app.recorder:
            recorder.undoes = self._operation.operation
        sign_ins = SignInChanges(app, {name: self._list_changes(name) for name in self._tables})
        with ExitStack() as guards:
            for name, tables in self._tables.items():
                writer = app.writers[name]
                columns = {table.table: list(writer.tables()[table.table].columns) for table in tables}
                guards.enter_context(guard_constraints(app, name, writer, columns))
                invariants = GuardedInvariants(app, writer, name)
                self._restore(writer, name)
                differing |= {table.table: names for table in tables if (names := table.settle(writer))}
                invariants.refuse_applied()
        ended = sign_ins.end_sessions(app)
        details = {"operation": self._operation.operation, "command": self._operation.command}
        audit.record(app, db, "undo", "operation", self._operation.operation, details)
        passwords, users = self._list_password_columns(), list(self._list_users())
        without_password = sum(
            row.inserts and not passwords.isdisjoint(row.omitted) for table in users for row in table.rows
        )
        omitted = [
            text
            for table in self._list_tables()
            for text in table.list_omissions(passwords if table in users else ())
        ]
        return Undone(
            operation=self._operation.operation,
            rows=self._restored,
            ended_sessions=ended,
            differing=differing,
            without_password=without_password,
            omitted=omitted,
        )

    def _restore(self, writer: Writable, database: str) -> None:
        order, by_name = self._orders[database], {table.table: table for table in self._tables[database]}
        # with the ignored actions, a row can be deleted before those that refer to it
        names = sort_by_references(
            writer, by_name, is_ignored=lambda reference: reference.on_delete in ("CASCADE", "SET NULL")
        )
        tables = [by_name[name] for name in names]
        writer.defer_references()  # of circles
        for table in reversed(tables):
            table.delete_rows(writer)
        for table, group in groupby(order.rows, key=itemgetter(0)):
            add = partial(self._create_password, table) if table.table in self._passwords else dict
            table.insert_rows(writer, [row for _, row in group], add, order.postponed.get(table.table, ()))
        for table, row in order.rows:
            table.update_columns(writer, row, order.postponed.get(table.table, ()))
        for table in tables:
            table.update_rows(writer)

    def _create_password(self, table: TableUndo) -> Values:
        """Return the columns of a random password."""
        users = self._app.profile.users
        live = LiveTable(
            self._app.profile, self._readers[self._app.resolve_database(users)], table.table, "users"
        )
        hashed = hash_password(self._app, Secret(secrets.token_urlsafe(24)))
        return Passwords(self._app, live).split(hashed)


def _open(app: App, name: str) -> Readable:
    """Return the writer of a database inside the change, and its reader otherwise."""
    try:
        return app.writers[name]
    except KeyError:
        return app.reader(name)


def _drop_orphans(db: Readable, tables: Sequence[TableUndo]) -> None:
    """Restore no references to deleted rows that are not restored, such as ended sessions."""
    by_name, is_changed = {table.table: table for table in tables}, True
    while is_changed:
        is_changed = False
        for table in tables:
            for reference in db.references(table.table):
                other = by_name.get(reference.table)
                if other and other.drop_orphans(reference, table.list_lost(reference.to)):
                    is_changed = True
