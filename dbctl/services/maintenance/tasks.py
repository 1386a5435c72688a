"""Looking after databases: what changes no row, works outside transactions, and can be stopped and run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

from dbctl.engines.contract import Capability, Maintains, Measures, Prunes, Readable, Task, Upkeep
from dbctl.errors import (
    DatabaseUnsetError,
    DbctlError,
    DriverMissingError,
    Exit,
    NotSupportedError,
    PlanChangedError,
    SchemaLacksError,
)
from dbctl.model import Done, Plan, Row, Value
from dbctl.services.app import App, clock, configured

#: What can be done; the words of the command line.
Kind: TypeAlias = Upkeep

TITLES: dict[Kind, str] = {
    "vacuum": "Clear dead rows and free pages away",
    "analyze": "Look anew at what the tables hold",
    "optimize": "Look after what needs it",
    "reindex": "Make the indexes anew",
    "checkpoint": "Bring what stands in the log into the files",
    "wal": "Switch to a write-ahead log",
    "rollback-journal": "Switch to a rollback journal",
}


class Room(Value, frozen=True, kw_only=True):
    """What a table of versions takes."""

    fragments: int
    versions: int
    bytes: int


class TaskDone(Value, frozen=True, kw_only=True):
    """One statement, and what came of it."""

    target: str
    table: str | None  #: None: the whole database
    statement: str
    seconds: float
    error: str | None  #: the code of what kept it from being done
    before: Room | None = None  #: what only a table of versions has; None elsewhere
    after: Room | None = None


class Maintained(Done, frozen=True, kw_only=True):
    """Answer of ``maintain``."""

    tasks: Sequence[TaskDone]
    failed: Sequence[str]  #: what kept some from being done, in words
    left: Sequence[str]  #: what an interrupted one left, with the statement that takes it away

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return any(one.error is None for one in self.tasks)

    @property
    def remarks(self) -> Sequence[str]:
        return [*self.failed, *self.left]

    @property
    def exit_status(self) -> int:
        return Exit.PARTIAL if self.failed else Exit.OK

    def brief(self) -> Sequence[Row]:
        told = ("target", "statement", "seconds", "error")
        return [{word: getattr(one, word) for word in told} for one in self.tasks]


class Maintenance:
    """Maintenance of one kind: of the databases that are meant, or of some tables of one."""

    def __init__(
        self,
        app: App,
        kind: Kind,
        tables: Sequence[str] = (),
        *,
        advance: Callable[[float], None],
        older_than: timedelta | None = None,
    ) -> None:
        """Describe it.

        Args:
            app: the app.
            kind: what is to be done.
            tables: the tables that are meant; empty: all.
            advance: told how many statements were done since it was told last.
            older_than: for ``vacuum``: the age of versions that go, where the engine keeps some.

        Raises:
            ReadOnlyError: nobody but its owner writes the only database that is meant.
            DatabaseUnsetError: none is configured.
        """
        self.app, self.protected = app.name, app.protected
        self._opened, self._kind, self._tables, self._advance = app, kind, tables, advance
        self._older_than = older_than
        self._left_out: list[DbctlError] = []  #: what keeps databases from being opened here, beside others
        named = list(configured(app))
        self._names = [name for name in named if app.database(name).mode == "read-write"]
        if not self._names:
            app.writable((named or [app.main()])[0])
            raise DatabaseUnsetError(app=app.name, name=app.main())
        self.target = app.target(self._names[0]) if len(self._names) == 1 else app.name
        self.found = 0.0  #: statements that there are to do; known once it has begun

    def plan(self) -> Plan:
        """Return what would be done now."""
        drafted = self._drafted(self._opened.reader)
        self._check_clock(drafted)
        several = len(self._names) > 1
        steps = [
            f"{name}: {task.statement}" if several else task.statement
            for name, tasks in drafted.items()
            for task in tasks
        ]
        steps += [f"left out: {error}" for error in self._left_out]
        return Plan(title=TITLES[self._kind], target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> Maintained:
        """Do it, one statement after the other; one that fails does not keep the others from being done.

        Raises:
            DbctlError: what kept the first from being done, where all of them fail.
            PlanChangedError: what would be done is no longer what was seen.
            ClockDoubtedError: versions would go by their age, and the clock contradicts what the app recorded.
        """
        if seen is not None and self.plan().digest != seen:
            raise PlanChangedError(target=self.target)
        drafted = self._drafted(self._opened.reader)
        self._check_clock(drafted)
        self.found = float(sum(map(len, drafted.values())))
        done, errors, left = list[TaskDone](), list[DbctlError](), list[str]()
        for name, tasks in drafted.items():
            if not tasks:
                continue
            with self._opened.writer(name, f"maintain {self._kind}") as db:
                live = _maintains(db)
                for task in tasks:
                    told, error = _done(live, db.target, task)
                    done.append(told)
                    errors += [error] if error else []
                    self._advance(1)
                left += [f"{one.message}; {one.hint}" for one in live.leftovers()]
        if errors and len(errors) == len(done):
            errors[0].details = left
            raise errors[0]
        failed = [str(error) for error in (*errors, *self._left_out)]
        return Maintained(tasks=done, failed=failed, left=left)

    def _drafted(self, reader: Callable[[str], Readable]) -> dict[str, Sequence[Task]]:
        """Return what is to be done in each database that can be looked after so.

        Raises:
            SchemaLacksError: none of them has such a table.
            NotSupportedError: none of them can be looked after so.
        """
        drafted: dict[str, Sequence[Task]] = {}
        refused: list[DbctlError] = []
        self._left_out, found = [], set[str]()
        for name in self._names:
            try:
                db = reader(name)
            except DriverMissingError as error:  # it says nothing of the others
                self._left_out.append(error)
                continue
            found |= db.tables().keys()
            tables = [table for table in self._tables if table in db.tables()]
            if self._tables and not tables:
                continue
            try:
                drafted[name] = self._tasks(db, tables)
            except NotSupportedError as error:
                refused.append(error)
        if self._left_out and not (drafted or refused):
            raise self._left_out[0]
        if lacking := [table for table in self._tables if table not in found]:
            raise SchemaLacksError(target=self.target, what=f"table {lacking[0]}", purpose="--table")
        if refused and not drafted:
            raise refused[0]
        return drafted

    def _check_clock(self, drafted: Mapping[str, Sequence[Task]]) -> None:
        if any(task.older_than is not None for tasks in drafted.values() for task in tasks):
            clock.check(self._opened)

    def _tasks(self, db: Readable, tables: Sequence[str]) -> Sequence[Task]:
        if self._older_than is None:
            return _maintains(db).tasks(self._kind, tables)
        if Capability.VERSIONS not in db.capabilities or not isinstance(db, Prunes):
            raise NotSupportedError(
                what="--older-than", by=db.target, instead="It keeps no versions: leave it out."
            )
        return db.prune_tasks(tables, self._older_than)


def _maintains(db: Readable) -> Maintains:
    if Capability.MAINTAIN not in db.capabilities or not isinstance(db, Maintains):
        raise NotSupportedError(what="maintenance", by=db.target, instead="Its engine looks after itself.")
    return db


def _done(live: Maintains, target: str, task: Task) -> tuple[TaskDone, DbctlError | None]:
    before, began, failed = _room(live, task), time.monotonic(), None
    try:
        live.maintain(task)
    except DbctlError as error:
        failed = error
    told = TaskDone(
        target=target,
        table=task.table or None,
        statement=task.statement,
        seconds=round(time.monotonic() - began, 3),
        error=failed.code if failed else None,
        before=before,
        after=before and _room(live, task),
    )
    return told, failed


def _room(live: Maintains, task: Task) -> Room | None:
    # Elsewhere nothing of it is told, and measuring may wait for the very lock that keeps the task from being done.
    if not (task.table and isinstance(live, Prunes) and isinstance(live, Measures)):
        return None
    for one in live.measured(exact=False):
        if one.table == task.table and one.fragments is not None and one.versions is not None:
            return Room(fragments=one.fragments, versions=one.versions, bytes=one.bytes or 0)
    return None
