"""The journal of a migration that runs without one transaction: a table that records which statements have run.

A row is committed before a statement begins and updated when it has ended. The transaction that writes the ledger deletes
all rows of the migration. After a crash, the rows show the progress, and the next run continues there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Literal, TypeAlias

from dbctl.engines.contract.database import Condition, Order, Readable, Where, Writable
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.migrations import MigrationStepMissingError
from dbctl.model import Struct, now
from dbctl.services.app import ledger_detection

Direction: TypeAlias = Literal["up", "down"]

TABLE = ledger_detection.JOURNAL
#: The same statement for every engine. Times are text, in UTC. A server whose rows have the format COMPACT indexes at most 767 bytes of a column.
CREATE = f"""create table if not exists {TABLE} (
  migration varchar(190) not null,
  way varchar(4) not null,
  number integer not null,
  sha256 char(64) not null,
  began_at varchar(32) not null,
  ended_at varchar(32),
  failed_at varchar(32),
  primary key (migration, way, number)
);"""
_COLUMNS = ("migration", "way", "number", "sha256", "ended_at", "failed_at")


#: Words for the progress of a partial migration: one statement, several, none.
_PROGRESS: Mapping[Direction, tuple[str, str, str]] = {
    "up": ("is applied", "are applied", "no statement has run"),
    "down": (
        "of the down script has run",
        "of the down script have run",
        "no statement of the down script has run",
    ),
}


class StatementOutcome(StrEnum):
    """What the user reports about the statement at which a run was killed: whether it has run."""

    DONE = "done"
    UNDONE = "undone"


class Step(Struct, frozen=True, kw_only=True):
    """One statement that has begun."""

    number: int  #: position in the section, from 1
    sha256: str  #: of the statement, hexadecimal
    ended: bool
    failed: bool  #: it failed and had no effect


class PartialMigration(Struct, frozen=True, kw_only=True):
    """A migration whose statements have run only in part, according to the journal."""

    name: str
    direction: Direction
    steps: Sequence[Step]  #: in order

    @property
    def ended_count(self) -> int:
        """The number of statements that have run; they are the first ones."""
        return sum(step.ended for step in self.steps)

    @property
    def unknown_step(self) -> Step | None:
        """The statement for which it is unknown whether it has run, or None."""
        return next((step for step in self.steps if not (step.ended or step.failed)), None)

    def describe(self, statement_count: int = 0) -> str:
        """Return the progress, for example ``statements 1–3 of 5 are applied``; ``statement_count``: 0 if unknown."""
        singular, plural, nothing = _PROGRESS[self.direction]
        total = f" of {statement_count}" if statement_count else ""
        text = f"statements 1–{self.ended_count}{total} {plural}" if self.ended_count else nothing
        if self.ended_count == 1:
            text = f"statement 1{total} {singular}"
        if self.unknown_step:
            text += f"; statement {self.unknown_step.number} began but did not end"
        return text


def hash_statement(sql: str) -> str:
    """Return the SHA-256 of a statement, hexadecimal."""
    return hashlib.sha256(sql.encode(errors="surrogatepass")).hexdigest()


def read_partial_migrations(db: Readable) -> dict[str, PartialMigration]:
    """Return the partial migrations, by name."""
    if TABLE not in db.tables():
        return {}
    steps_by_migration: dict[tuple[str, Direction], list[Step]] = {}
    ordered = [Order(columns=["migration"]), Order(columns=["way"]), Order(columns=["number"])]
    try:
        rows = list(db.select(TABLE, _COLUMNS, order_by=ordered))
    except QueryFailedError as error:
        if not error.is_table_missing:
            raise
        return {}  # another run has dropped it since the tables were listed
    for name, direction, number, sha256, ended, failed in rows:
        step = Step(
            number=int(str(number)), sha256=str(sha256), ended=ended is not None, failed=failed is not None
        )
        steps_by_migration.setdefault((str(name), "down" if direction == "down" else "up"), []).append(step)
    return {
        name: PartialMigration(name=name, direction=direction, steps=steps)
        for (name, direction), steps in steps_by_migration.items()
    }


class Journal:
    """The journal of one migration in one direction, in a database open for writing."""

    def __init__(self, db: Writable, name: str, direction: Direction) -> None:
        self._db, self._name, self._direction = db, name, direction

    def open(self, *, reset: bool = True) -> None:
        """Create the table if it is missing; ``reset`` deletes old rows. The caller is ``outside_transaction``."""
        if self._db.scripts:  # the cached tables may be older than a drop by another run
            self._db.scripts.run_statement(CREATE)
        if reset:
            with self._own_transaction():
                delete_steps(self._db, self._name)

    def begin(self, number: int, sql: str, *, again: bool = False) -> None:
        """Record and commit that a statement begins; ``again``: it has failed before."""
        values: Mapping[str, object] = {
            "migration": self._name,
            "way": self._direction,
            "number": number,
            "sha256": hash_statement(sql),
            "began_at": _timestamp(),
        }
        with self._own_transaction():
            if again:
                self._db.delete(TABLE, self._row_conditions(number))
            self._db.insert(TABLE, values)

    def end(self, number: int, *, failed: bool = False) -> None:
        """Record that a statement has run, or that it has ``failed`` and had no effect."""
        column = "failed_at" if failed else "ended_at"
        with self._own_transaction():
            self._db.update(TABLE, {column: _timestamp()}, self._row_conditions(number))

    @contextmanager
    def _own_transaction(self) -> Iterator[None]:
        """A transaction in which a schema or a role that the migration has set does not hide the table."""
        with self._db.transaction():
            if self._db.scripts:
                self._db.scripts.use_own_settings()
            yield

    def _row_conditions(self, number: int) -> list[Where]:
        values = {"migration": self._name, "way": self._direction, "number": number}
        return [Condition(column, "=", value) for column, value in values.items()]


def drop_if_empty(db: Writable) -> None:
    """Drop the table if it is empty, because apps may verify their schema."""
    if db.scripts and TABLE in db.tables() and _is_empty(db):
        with db.scripts.outside_transaction():
            db.scripts.run_statement(f"drop table if exists {TABLE};")


def _is_empty(db: Readable) -> bool:
    """Return whether the table has no rows; also if another run has dropped it since the tables were listed."""
    try:
        return not db.count(TABLE)
    except QueryFailedError as error:
        if not error.is_table_missing:
            raise
        return True


def delete_steps(db: Writable, name: str) -> None:
    """Delete the rows of a migration, if any, inside the transaction of the caller."""
    if TABLE in db.tables():
        db.delete(TABLE, [Condition("migration", "=", name)])


def resolve_statement(db: Writable, name: str, *, done: bool) -> Step:
    """Record whether the statement at which a run was killed has run; if it is not ``done``, the next run begins with it.

    The caller holds the write lock of dbctl.

    Returns:
        The statement.

    Raises:
        MigrationStepMissingError: the migration has no statement in an unknown state.
    """
    partial = read_partial_migrations(db).get(name)
    if partial is None or partial.unknown_step is None:
        raise MigrationStepMissingError(target=db.target, name=name)
    Journal(db, name, partial.direction).end(partial.unknown_step.number, failed=not done)
    return partial.unknown_step


def _timestamp() -> str:
    return now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
