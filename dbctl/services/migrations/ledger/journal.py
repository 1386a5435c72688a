"""The journal of a migration that is not one transaction: which of its statements have run, told by the database itself.

A row is committed before a statement begins and again when it has ended; all rows of a migration go in the transaction
that writes the ledger. So what a kill leaves behind tells how far it came, and the next run goes on there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.engines.contract import Condition, Migrates, Order, Readable, Where, Writable
from dbctl.errors import MigrationStepMissingError
from dbctl.model import Value, now
from dbctl.services.app import ledger_detection

Way: TypeAlias = Literal["up", "down"]

TABLE = ledger_detection.JOURNAL
#: Every engine takes it as it is. Times are text, in UTC.
CREATE = f"""create table if not exists {TABLE} (
  migration varchar(255) not null,
  way varchar(4) not null,
  number integer not null,
  sha256 char(64) not null,
  began_at varchar(32) not null,
  ended_at varchar(32),
  failed_at varchar(32),
  primary key (migration, way, number)
);"""
_COLUMNS = ("migration", "way", "number", "sha256", "ended_at", "failed_at")


class Step(Value, frozen=True, kw_only=True):
    """One statement that was begun."""

    number: int  #: its place in the section, from 1
    sha256: str  #: of its text, hexadecimal
    ended: bool
    failed: bool  #: it is known that it did nothing


class Unfinished(Value, frozen=True, kw_only=True):
    """A migration of which some statements were begun, and whose end the ledger does not tell."""

    name: str
    way: Way
    steps: Sequence[Step]  #: in order

    @property
    def ended(self) -> int:
        """How many statements have run: the first so many."""
        return sum(step.ended for step in self.steps)

    @property
    def unknown(self) -> Step | None:
        """The statement of which nobody can tell whether it has run."""
        return next((step for step in self.steps if not (step.ended or step.failed)), None)

    def told(self, all_: int = 0) -> str:
        """Return how far it came, of so many statements: ``statements 1–3 of 5 are applied``."""
        done = f"{self.ended}" if self.ended == 1 else f"1–{self.ended}"
        of = f" of {all_}" if all_ else ""
        verb = "has run" if self.way == "down" else "is applied"
        verbs = "have run" if self.way == "down" else "are applied"
        what = f"statement {done}{of} {verb}" if self.ended == 1 else f"statements {done}{of} {verbs}"
        found = (what if self.ended else "no statement has run") + (", back" if self.way == "down" else "")
        if self.unknown:
            found += f"; statement {self.unknown.number} was begun and has not ended"
        return found


def digest(sql: str) -> str:
    """Return the SHA-256 of a statement."""
    return hashlib.sha256(sql.encode(errors="surrogatepass")).hexdigest()


def unfinished(db: Readable) -> dict[str, Unfinished]:
    """Return the migrations that are half done, by name."""
    if TABLE not in db.tables():
        return {}
    found: dict[tuple[str, Way], list[Step]] = {}
    ordered = [Order(columns=["migration"]), Order(columns=["way"]), Order(columns=["number"])]
    for name, way, number, sha256, ended, failed in db.select(TABLE, _COLUMNS, order_by=ordered):
        step = Step(
            number=int(str(number)), sha256=str(sha256), ended=ended is not None, failed=failed is not None
        )
        found.setdefault((str(name), "down" if way == "down" else "up"), []).append(step)
    return {name: Unfinished(name=name, way=way, steps=steps) for (name, way), steps in found.items()}


class Journal:
    """The journal of one way of one migration, in a database that is open for writing."""

    def __init__(self, db: Writable, name: str, way: Way) -> None:
        self._db, self._name, self._way = db, name, way

    def open(self, *, afresh: bool = True) -> None:
        """Make its table where it is missing, inside ``step_by_step`` of its caller; ``afresh``: old rows do not count."""
        if TABLE not in self._db.tables() and isinstance(self._db, Migrates):
            self._db.run_statement(CREATE)
        if afresh:
            with self._db.transaction():
                forget(self._db, self._name)

    def begin(self, number: int, sql: str, *, again: bool = False) -> None:
        """Write, for good, that a statement begins; ``again``: it failed before."""
        values: Mapping[str, object] = {
            "migration": self._name,
            "way": self._way,
            "number": number,
            "sha256": digest(sql),
            "began_at": _moment(),
        }
        with self._db.transaction():
            if again:
                self._db.delete(TABLE, self._row(number))
            self._db.insert(TABLE, values)

    def end(self, number: int) -> None:
        """Write that it has run."""
        self._mark(number, "ended_at")

    def fail(self, number: int) -> None:
        """Write that it failed, and so did nothing."""
        self._mark(number, "failed_at")

    def _mark(self, number: int, column: str) -> None:
        with self._db.transaction():
            self._db.update(TABLE, {column: _moment()}, self._row(number))

    def _row(self, number: int) -> list[Where]:
        told = {"migration": self._name, "way": self._way, "number": number}
        return [Condition(column, "=", value) for column, value in told.items()]


def close(db: Writable) -> None:
    """Drop the table where it holds nothing, so that an app which looks over its schema finds nothing of dbctl's."""
    if isinstance(db, Migrates) and TABLE in db.tables() and not db.count(TABLE):
        with db.step_by_step():
            db.run_statement(f"drop table {TABLE};")


def forget(db: Writable, name: str) -> None:
    """Remove what is written of a migration, inside a transaction; where nothing is, do nothing."""
    if TABLE in db.tables():
        db.delete(TABLE, [Condition("migration", "=", name)])


def resolve_statement(db: Writable, name: str, *, done: bool) -> Step:
    """Record, in place of the run that was killed, whether the statement that it had begun was carried out.

    Args:
        db: the database, whose lock of dbctl's writers the caller holds.
        name: the migration.
        done: whether somebody looked and found it done; else the next run begins with it.

    Returns:
        The statement.

    Raises:
        MigrationStepMissingError: of that migration no statement is in doubt.
    """
    found = unfinished(db).get(name)
    if found is None or found.unknown is None:
        raise MigrationStepMissingError(target=db.target, name=name)
    journal = Journal(db, name, found.way)
    (journal.end if done else journal.fail)(found.unknown.number)
    return found.unknown


def _moment() -> str:
    return now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
