"""A change: the same code plans it, and applies it in one transaction."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar, runtime_checkable

import msgspec

from dbctl import signals
from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Readable, Table, Where, Writable
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import (
    CascadeUnreachableError,
    ConcurrentChangeError,
    ConstraintError,
    DatabaseMissingError,
    NotADatabaseError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.usage import DriverMissingError, PlanChangedError
from dbctl.model import Plan, format_count
from dbctl.services.app.app import App
from dbctl.services.app.evidence.facts import refuse_contradictions

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
#: Replaces the digest of a plan if the user was not asked: a plan that destroys data is not applied.
UNASKED = ""
#: The step of a plan that changes only secrets and sign-ins.
UNDO_IMPOSSIBLE = "undo will be impossible: the log has no secrets"
COMMITTED = Remedy(
    "The change is committed in {target}, and perhaps in other databases. List its rows with: `audit list`"
)
#: A transaction that conflicts with concurrent ones is repeated until so many attempts and seconds have passed.
MIN_ATTEMPTS, RETRY_TIME = 5, 2


def retry_conflicts(run_transaction: Callable[[], T], hint: str = "") -> T:
    """Run a whole transaction, again if the server rolled it back because of a concurrent one.

    Raises:
        ConcurrentChangeError: every attempt conflicted; nothing was changed. ``hint`` replaces its hint.
    """
    end = time.monotonic() + RETRY_TIME
    attempts = 1
    while True:
        try:
            return run_transaction()
        except ConcurrentChangeError as error:
            if attempts >= MIN_ATTEMPTS and time.monotonic() > end:
                error.hint = hint or error.hint
                raise
        signals.raise_if_interrupted()
        attempts += 1


class Prepared(Protocol[R_co]):
    """A change for one state of a database; creating it reads the database and checks every invariant."""

    @property
    def plan(self) -> Plan: ...

    def apply(self, db: Writable, /) -> R_co: ...


@runtime_checkable
class DeletesRows(Protocol):
    """A prepared change that deletes rows."""

    @property
    def deleted_rows(self) -> Mapping[str, Sequence[Where]]:
        """The rows by table: those that meet any of its conditions."""


@runtime_checkable
class ChecksPlan(Protocol):
    """A prepared change whose plan also refuses what the database, or a guard, refuses when it is applied."""

    def check_plan(self) -> None: ...


class PreparedChange(msgspec.Struct, Generic[R], frozen=True):
    """A prepared change whose function is part of another object."""

    plan: Plan
    apply: Callable[[Writable], R]


def require_row_count(actual: int, expected: int, db: Writable) -> None:
    """Refuse a write that affected another number of rows than planned: a trigger can skip rows silently, and a key may not be unique.

    Raises:
        ConstraintError: the numbers differ; the caller must roll back the transaction.
    """
    if actual != expected:
        reason = (
            f"{actual} of {format_count(expected, 'row')} were written; a trigger may have skipped rows"
            if actual < expected
            else f"{format_count(actual, 'row')} would be written instead of {expected}; several may have the same key"
        )
        raise ConstraintError(target=db.target, reason=reason)


@contextmanager
def required_for_cascade(app: App, database: str, changed: str) -> Iterator[None]:
    """Translate a failure to open ``database``, which a change of ``changed`` also writes.

    Raises:
        CascadeUnreachableError: the database cannot be opened.
    """
    try:
        yield
    except (DatabaseMissingError, DriverMissingError, NotADatabaseError, UnreachableError) as error:
        raise CascadeUnreachableError(
            target=app.target(database), reason=str(error), to=changed, hint=error.hint
        ) from error


class Operation(ABC):
    """What a command does to an app: it is planned, confirmed, and planned again when it is applied."""

    def __init__(self, app: App, target: str = "") -> None:
        """Set the app, and what the operation changes; default: the app."""
        self.app, self.protected, self.target = app.name, app.protected, target or app.name
        self._app = app

    @abstractmethod
    def plan(self) -> Plan:
        """Return the effects of ``apply``; writes nothing, and raises the errors that are detected in advance."""

    @abstractmethod
    def apply(self, confirmed: str | None = None) -> object:
        """Perform the operation; ``confirmed`` is the digest of the plan that the user confirmed, if required."""

    def _require_confirmed(self, confirmed: str | None, plan: Callable[[], Plan] | None = None) -> None:
        """Plan again; ``plan`` replaces the method of this name.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was changed.
        """
        if confirmed is not None and (plan or self.plan)().digest != confirmed:
            raise PlanChangedError(target=self.target)

    def _create_plan(
        self, title: str, steps: Sequence[str], rows: Mapping[str, int] = {}, *, destructive: bool = False
    ) -> Plan:
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=destructive)


class Change(Operation, Generic[R]):
    """A change of one database by a writing command.

    ``draft`` runs once on a reader for ``plan``, and again inside the transaction for ``apply``, so the plan describes the
    work, and the invariants hold when the work is committed.
    """

    def __init__(
        self,
        app: App,
        database: str,
        draft: Callable[[Readable], Prepared[R]],
        *,
        prepare: Callable[[], None] | None = None,
        cascade_databases: Callable[[], Sequence[str]] = tuple,
        expendable_tables: Callable[[], Collection[str]] | None = None,
        changed_table: str = "",
        conflict_hint: str = "",
    ) -> None:
        """Describe a change of one database.

        Args:
            app: the app.
            database: the changed database.
            draft: prepares the change for the current state of the database.
            prepare: slow work before the transaction, such as hashing.
            cascade_databases: returns the other databases that the change writes. Their transactions end after the
                transaction of ``database``, so a failure rolls back all of them. After a crash between the commits, or a
                failed one, the other databases may lack the change.
            expendable_tables: returns the tables from which it may delete rows without a question, such as sessions: it
                destroys data only if rows of other tables refer to them. None: the command declares whether it may destroy data.
            changed_table: with ``expendable_tables``, the table of which it may change columns to which foreign keys refer.
            conflict_hint: the hint if every attempt conflicts with concurrent changes.
        """
        super().__init__(app, app.target(database))
        self.draft = draft
        self._database, self._prepare = database, prepare
        self._cascade_databases, self._expendable_tables = cascade_databases, expendable_tables
        self._changed_table, self._conflict_hint = changed_table, conflict_hint
        #: the writes of settings of the last draft, as a proof names them
        self._writes: Sequence[str] = ()

    def may_destroy(self) -> bool:
        """Whether the plan may require a confirmation; otherwise no plan is needed before the lock."""
        if self._expendable_tables is None:
            return self._app.declared_write.may_destroy
        names, changed = {*self._expendable_tables()}, {self._changed_table} - {""}
        if not (names or changed):
            return False
        database = self._app.reader(self._database)
        tables = database.tables().keys()
        return any(database.references(name) for name in names & tables) or any(
            key.on_update not in ("NO ACTION", "RESTRICT")
            for name in changed & tables
            for key in database.references(name)
        )

    def plan(self) -> Plan:
        """Return the plan for the current state; writes nothing, and needs no write privileges.

        Raises:
            ProfileContradictionError: the data contradicts what the profile declares.
            NotSupportedError: as ``Readable.require_transactional``.
            ConstraintError: the database would refuse a key, if the change ``ChecksPlan``.
            ReadOnlyError: the profile declares the database as read-only.
        """
        database = self._app.reader(self._database)
        refuse_contradictions(self._app, self._database, database, self._app.declared_write.facts)
        prepared = self.draft(database)
        if isinstance(prepared, ChecksPlan):
            prepared.check_plan()
        for table in prepared.plan.rows:
            database.require_transactional(table)
        if self._app.database(self._database).mode == "read-only":  # a copy or a replica may be planned for
            self._app.require_writable(self._database)
        return self._announce(prepared, database)

    def describe_proof(self) -> str:
        """Return whether the command is proven, for its plan; empty: the profile has no proofs, or none of such commands."""
        if not self._app.core.proven:
            return ""
        from dbctl.services.app import proofs

        command = self._app.spec.name
        known = command in proofs.COMMANDS
        return proofs.find_proof(self._app, command, self._writes).describe() if known else ""

    def _announce(self, prepared: Prepared[R], database: Readable) -> Plan:
        """Return the plan with what ``undo`` will not restore: rows that the audit log only counts, and secrets of deleted rows."""
        plan, recorder = prepared.plan, self._app.recorder
        if recorder is None or plan.is_empty or not self._app.declared_write.undo:
            return plan
        tables = database.tables()
        from dbctl.services.audit.capture import describe_unrecorded

        reasons = {
            name: describe_unrecorded(
                tables[name], rows, recorder.settings, deletes=bool(plan.deleted.get(name))
            )
            for name, rows in plan.rows.items()
            if rows and name in tables
        }
        steps = [
            f"undo will be impossible: rows of {name} are not in the log: {reason}"
            for name, reason in reasons.items()
            if reason
        ]
        steps += [
            f"undo will be impossible if one of the rows of {name} has NULL in the primary key"
            for name, reason in reasons.items()
            if not reason and _has_null_keys(database, tables[name])
        ]
        secrets = {
            name: self._list_secrets(database, name)
            for name, rows in plan.deleted.items()
            if rows and name in tables and not reasons.get(name)
        }
        sign_ins = set[str]()
        if isinstance(prepared, DeletesRows):
            from dbctl.services.app.secrets import find_setting_secrets

            deleted = {name: where for name, where in prepared.deleted_rows.items() if name in secrets}
            sign_ins = _list_sign_ins(self._app, self._database, database, deleted)
            for name, where in deleted.items():
                if columns := secrets[name]:
                    rows = [AnyOf(where)]
                    secrets[name] = find_setting_secrets(
                        self._app, self._database, database, name, rows, columns
                    )
        steps += [
            f"undo will not restore the secrets of {name}: {', '.join(columns)}"
            for name, columns in secrets.items()
            if columns and name not in sign_ins
        ]
        if sign_ins and all(name in sign_ins for name, rows in plan.rows.items() if rows):
            steps.append(f"undo will be impossible: it restores no rows of {', '.join(sorted(sign_ins))}")
        else:
            steps += _describe_lost_rows(self._app, self._database, database, secrets, sign_ins)
        return msgspec.structs.replace(plan, steps=[*plan.steps, *steps]) if steps else plan

    def _list_secrets(self, database: Readable, table: str) -> Sequence[str]:
        """Return the columns of deleted rows of a table that the audit log lacks."""
        from dbctl.services.app.secrets import find_table_secrets

        return find_table_secrets(self._app, self._database, database, table)

    def apply(self, confirmed: str | None = None) -> R:
        """Apply the change in one transaction.

        Args:
            confirmed: digest of the plan that the user confirmed; None if a plan that destroys data needs no confirmation;
                ``UNASKED``.

        Raises:
            PlanChangedError: the plan has changed since the confirmation, or destroys data and the user was not asked;
                nothing was changed.
        """
        if self._prepare:
            self._prepare()
        is_committed = False
        try:
            with ExitStack() as deferred, ExitStack() as others, ExitStack() as writer:
                try:
                    database = writer.enter_context(self._app.writer(self._database))
                except ReadOnlyError:
                    if confirmed == UNASKED:  # perhaps without a plan, whose errors are the first ones
                        self.plan()
                    raise
                cascade_databases = self._cascade_databases()
                for name in cascade_databases:
                    with required_for_cascade(self._app, name, self._database):
                        # a reader that prevents its commit would leave the change in the databases before it
                        other = others.enter_context(self._app.writer(name, exclusive=True))
                        others.enter_context(other.transaction())
                if cascade_databases:  # the changes of the other databases would remain in their transactions
                    result = self._apply_once(database, confirmed, deferred, commits_others=True)
                    is_committed = True
                    return result
                apply_once = partial(self._apply_once, database, confirmed, deferred)
                return retry_conflicts(apply_once, self._conflict_hint)
        except DbctlError as error:
            if is_committed:
                rest = error.hint.removeprefix("Nothing was changed.")
                error.hint = COMMITTED.write(self.app, {"target": self.target}) + rest
            raise

    def _apply_once(
        self, database: Writable, confirmed: str | None, deferred: ExitStack, *, commits_others: bool = False
    ) -> R:
        with database.transaction():
            prepared = self.draft(database)
            if confirmed == UNASKED:
                if prepared.plan.destructive and not prepared.plan.is_empty:
                    raise PlanChangedError(target=self.target)
            else:
                self._require_confirmed(confirmed, lambda: self._announce(prepared, database))
            result = prepared.apply(database)
            if commits_others:  # a signal during this commit would roll back those of the other databases
                signals.commit_point()
            # a signal after the commit would hide it
            deferred.enter_context(signals.critical_result(is_deferred=True))
            return result


def _has_null_keys(database: Readable, table: Table) -> bool:
    """Whether rows have NULL in their primary key, as SQLite permits."""
    columns = [column for column in table.primary_key if table.columns[column].nullable]
    return (
        bool(columns)
        and database.count(table.name, [AnyOf([Condition(column, "=", None) for column in columns])]) > 0
    )


def _list_sign_ins(app: App, name: str, db: Readable, deleted: Mapping[str, Sequence[Where]]) -> set[str]:
    """Return the tables all of whose ``deleted`` rows are sign-ins or second factors, of which ``undo`` restores none."""
    users = app.core.users
    if users is None or app.resolve_database(users) != name:
        return set()
    from dbctl.services.app.live_table import LiveTable

    places = [(section.table, section.only) for section in users.signed_in]
    places += [(factor.table, factor.only) for factor in users.second_factor if not factor.on_reset]
    tables = set[str]()
    for table, where in deleted.items():
        live = LiveTable(app.core, db, table, "sign-ins")
        kinds = [
            # as for undo, a column that the table lacks may have any value
            AllOf(live.conditions({key: only[key] for key in only if key in live.table.columns}))
            for place, only in places
            if place.removesuffix("?") == table
        ]
        if kinds and not db.count(table, [AnyOf(where), Not(AnyOf(kinds))]):
            tables.add(table)
    return tables


def _describe_lost_rows(
    app: App, name: str, database: Readable, secrets: Mapping[str, Sequence[str]], sign_ins: Collection[str]
) -> Iterator[str]:
    """Yield steps about deleted rows that ``undo`` will not restore.

    ``secrets`` has the secret columns of each table with deleted rows whose images are recorded; ``sign_ins`` is in ``_list_sign_ins``.
    """
    users, tables = app.core.users, database.tables()
    if users is not None and app.resolve_database(users) != name:
        users = None
    yield from (f"undo will not restore the rows of {table}" for table in sorted(sign_ins))
    lost = {table.table.removesuffix("?") for table in users.signed_in} & secrets.keys() if users else set()
    lost |= {*sign_ins}
    # a setting without its value is none
    settings = {section.table.removesuffix("?") for section in app.core.settings}
    for table, columns in secrets.items():
        if table in lost or (users and table == users.table):
            continue
        if required := [column for column in columns if not tables[table].columns[column].nullable]:
            yield f"undo will not restore the rows of {table}, which require {', '.join(required)}"
            lost.add(table)
        elif columns and table not in settings:
            yield f"undo will require --without-secrets if deleted rows of {table} had such secrets"
    pending = sorted(lost)
    for parent in pending:  # the list grows during the loop
        for reference in database.references(parent):
            child = reference.table
            if reference.on_delete == "CASCADE" and child in secrets and child not in lost:
                yield f"undo will not restore the rows of {child} that refer to rows of {parent}"
                lost.add(child)
                pending.append(child)
