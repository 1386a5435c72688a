"""The work of one migration, up or down: as one transaction with its row in the ledger, or statement by statement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol, cast

from dbctl.engines.contract import Capability, Migrates, Writable
from dbctl.errors import (
    IN_DOUBT,
    BusyError,
    ConstraintError,
    DbctlError,
    MigrationFailedError,
    MigrationHalfDoneError,
    MigrationInDoubtError,
    MigrationStepsChangedError,
    MigrationUnknownError,
    NotSupportedError,
    QueryFailedError,
    RowsLostError,
    SchemaLacksError,
    ValueInvalidError,
)
from dbctl.model import Value
from dbctl.services.migrations import row_loss
from dbctl.services.migrations.files import MigrationFile, Steps
from dbctl.services.migrations.ledger import Journal, Ledger, Track, Unfinished, Way, journal
from dbctl.services.migrations.row_loss import Loss
from dbctl.signals import Interrupted

#: Failures that a migration itself is to blame for, whatever else this run has done.
OF_A_STATEMENT = (QueryFailedError, ConstraintError, ValueInvalidError, SchemaLacksError)
#: Where a failure leaves open whether the migration was made.
COMMITTING = " when it was to be committed"
#: Names that a message lists before it counts the rest.
LISTED = 5
#: Seconds between two tries for a lock that was not to be had, in which those who queue get their turn.
PAUSE = 0.2
#: Letters of a statement that a message shows.
SHOWN = 80


class Migrating(Writable, Migrates, Protocol):
    """A database that may be written, and that runs scripts."""


class Ran(Value, frozen=True, kw_only=True):
    """What running one migration led to."""

    lasted: timedelta
    lost: Mapping[str, int]  #: rows that are gone, by table, where they were counted


def migrating(db: Writable) -> Migrating:
    """Return the database as one that runs scripts.

    Raises:
        NotSupportedError: its engine cannot.
    """
    if Capability.MIGRATE not in db.capabilities or not isinstance(db, Migrates):
        raise NotSupportedError(what="running migrations", by=db.target, instead="Nothing was changed.")
    return cast("Migrating", db)


def listed(names: Sequence[str]) -> str:
    """Return names for a message."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def refuse_doubt(track: Track, file: MigrationFile, steps: Steps, half: Unfinished) -> None:
    """Refuse to go on with a migration of which it is not clear where.

    Raises:
        MigrationUnknownError: whether its last statement has run is not known.
        MigrationStepsChangedError: what has run is not what its file says now.
    """
    for step in half.steps:
        known = steps.statements[step.number - 1][1] if step.number <= len(steps.statements) else ""
        if step.ended and journal.digest(known) != step.sha256:
            raise MigrationStepsChangedError(target=track.target, name=file.name, number=step.number)
    if step_in_doubt := half.unknown:
        number = step_in_doubt.number
        sql = steps.statements[number - 1][1] if number <= len(steps.statements) else ""
        shown = (
            " ".join(sql.split())[:SHOWN]
            if journal.digest(sql) == step_in_doubt.sha256
            else "it is no longer in the file"
        )
        raise MigrationUnknownError(target=track.target, name=file.name, number=number, sql=shown)


class Work:
    """One way of one migration, and how it goes."""

    def __init__(
        self,
        track: Track,
        db: Migrating,
        ledger: Ledger,
        file: MigrationFile,
        steps: Steps,
        *,
        way: Way = "up",
        guarded: bool = True,
        losing: bool = False,
        kept: bool = True,
        half: Unfinished | None = None,
        before: Sequence[str] = (),
        rest: Sequence[str] = (),
    ) -> None:
        """Describe it.

        Args:
            track: the migrations that it is one of.
            db: the database.
            ledger: where it is recorded.
            file: the migration.
            steps: the way that is run.
            way: which that is.
            guarded: whether rows may only go where the file says so; a way down is there to take them away.
            losing: whether somebody has said that it may take rows away, whatever its file says.
            kept: whether what is no transaction is written down, step by step.
            half: how far it came before.
            before: the names of those that this run has been through, for messages.
            rest: the names of those that it has not.
        """
        self._track, self._db, self._ledger, self._file = track, db, ledger, file
        self._statements, self._steps, self._way = steps.statements, steps, way
        self._guarded = guarded and way == "up"
        self._may_lose = steps.section.loses_rows or losing
        self._effects = steps.effects
        counts = self._guarded or way == "down"  # what a way down takes away is told, and not refused
        self._counts = counts and any(one.may_take_rows for one in self._effects)
        self._journal = Journal(db, file.name, way) if kept else None
        self._half = half
        self._before, self._rest = before, rest
        self._stays = not db.takes_schema_back or steps.section.outside or half is not None
        self._place = ""  #: where it is, in words
        self._done = half.ended if half else 0  #: how many statements stay, whatever comes

    def run(self) -> Ran | None:
        """Do it; None where somebody else has done it meanwhile.

        Raises:
            MigrationFailedError: it failed, and was rolled back whole.
            MigrationHalfDoneError: it failed, and what it had done stays.
            MigrationInDoubtError: its end was not confirmed, so that nobody knows whether it was made.
            RowsLostError: it takes rows away, and does not say so.
            MigrationOneWayError: it would take the ledger away.
        """
        try:
            return self._stepwise() if self._stays else self._whole()
        except RowsLostError:
            raise
        except DbctlError as error:
            self._blame(error)
            raise
        except Interrupted as stopped:
            if self._done:
                of = f"{self._done} of {len(self._statements)} statements of {self._file.name}"
                stopped.hint = (
                    f"The first {of} stay; it is not recorded. dbctl migrate status shows how far it came."
                )
            raise

    # As one transaction -----------------------------------------------------------------------------------------

    def _whole(self) -> Ran | None:
        began = time.monotonic()
        for attempt in range(self._db.lock_tries, 0, -1):
            try:
                with self._db.schema_transaction(brief=True):
                    return self._in_transaction()
            except BusyError as error:
                if attempt == 1:
                    waited = (
                        f"{max(time.monotonic() - began, 0):.1f}"
                        if self._db.lock_tries > 1
                        else error.facts["waited"]
                    )
                    raise BusyError(
                        target=self._db.target, holder=error.facts["holder"], waited=waited
                    ) from error
            time.sleep(PAUSE)
        raise AssertionError  # the last try has answered, or raised

    def _in_transaction(self) -> Ran | None:
        if self._is_done():
            return None
        began = time.monotonic()
        before = self._counted()
        for number, (line, sql) in enumerate(self._statements, 1):
            self._place = f" in statement {number} (line {line})"
            self._db.run_statement(sql)
        losses = self._lost(before)
        if losses and self._guarded and not self._may_lose:
            raise self._refusal(losses, "It was rolled back whole.")
        return self._recorded(began, losses)

    def _recorded(self, began: float, losses: Sequence[Loss]) -> Ran:
        """Write the row of the ledger, or remove it, as the last part of the transaction."""
        self._place = " when it was to be recorded"
        lasted = time.monotonic() - began
        table = self._ledger.live.name
        if table not in self._db.tables():
            raise QueryFailedError(target=self._db.target, reason=f"it takes the ledger ({table}) away")
        journal.forget(self._db, self._file.name)
        if self._way == "up":
            self._db.insert(table, self._ledger.row(self._file, lasted))
        else:
            self._ledger.forget(self._db, self._ledger.applied(self._file))
        self._place = COMMITTING
        milliseconds = timedelta(milliseconds=round(lasted * 1000))
        return Ran(lasted=milliseconds, lost={one.table: one.rows for one in losses})

    # Statement by statement -------------------------------------------------------------------------------------

    def _stepwise(self) -> Ran | None:
        began = time.monotonic()
        with self._db.step_by_step():
            if self._is_done():
                return None
            self._refuse_losses()
            before = self._counted()
            if self._journal:
                self._journal.open(afresh=self._half is None)
            for number, (line, sql) in enumerate(self._statements, 1):
                self._place = f" in statement {number} (line {line})"
                if self._half is None or number > self._half.ended:
                    self._step(number, sql)
                elif self._effects[number - 1].session:
                    self._db.run_statement(sql)  # it ended with the session that it was said in
            losses = self._lost(before)
            with self._db.transaction():
                return self._recorded(began, losses)

    def _step(self, number: int, sql: str) -> None:
        again = self._half is not None and any(
            one.failed and one.number == number for one in self._half.steps
        )
        for clearing in self._db.left_by(sql) if again else ():
            self._db.run_statement(clearing)
        if self._journal:
            self._journal.begin(number, sql, again=again)
        try:
            self._db.run_statement(sql)
        except (*OF_A_STATEMENT, BusyError):  # the server told, so that nothing is in doubt
            if self._journal:
                self._journal.fail(number)
            raise
        self._done = number
        if self._journal:
            self._journal.end(number)

    def _refuse_losses(self) -> None:
        """Refuse what nothing would bring back, judged by its words."""
        if not self._guarded or self._may_lose:
            return
        if losses := row_loss.at_risk(self._db, self._effects[self._done :]):
            raise self._refusal(
                losses, "None of its statements was run." if not self._done else "Nothing was run."
            )

    # Both -------------------------------------------------------------------------------------------------------

    def _is_done(self) -> bool:
        """Whether the ledger says already what it is to say in the end."""
        recorded = bool(self._db.count(self._ledger.live.name, self._ledger.applied(self._file)))
        return recorded == (self._way == "up")

    def _counted(self) -> Mapping[str, int]:
        return row_loss.rows_of(self._db, self._track.ledgers) if self._counts else {}

    def _lost(self, before: Mapping[str, int]) -> Sequence[Loss]:
        if not before:
            return ()
        found = row_loss.lost(before, self._counted())
        if self._stays:  # each statement was a transaction of its own
            return found
        return [one for one in found if one.after is None or self._db.may_have_taken(one.table)]

    def _refusal(self, losses: Sequence[Loss], undone: str) -> RowsLostError:
        return RowsLostError(
            target=self._db.target,
            name=self._file.name,
            losses=row_loss.told(losses),
            place="",
            reason=f"it takes rows away: {row_loss.told(losses)}",
            undone=undone,
            applied=listed(self._before) or "none",
            pending=listed(self._rest) or "none",
        )

    def _blame(self, error: DbctlError) -> None:
        """Raise what failed as a failure of the migration, where it is one."""
        blamed = isinstance(error, OF_A_STATEMENT)
        doubtful = isinstance(error, IN_DOUBT) and self._place == COMMITTING
        if not (blamed or doubtful or self._before or self._done):
            return
        reason = (
            error.facts.get("reason", error) if blamed else str(error).removeprefix(f"{self._db.target}: ")
        )
        facts: dict[str, object] = {
            "target": self._db.target,
            "name": self._file.name,
            "place": self._place,
            "reason": reason,
            "known": self._ledger.cure(str(error.facts.get("reason", error))),
            "applied": listed(self._before) or "none",
            "pending": listed(self._rest) or "none",
        }
        if doubtful:
            raise MigrationInDoubtError(**facts) from error
        left = self._left_behind() if blamed else ""
        if self._done or left:
            of = len(self._statements)
            done = f"statement{'s 1–' if self._done > 1 else ' '}{self._done} of {of} ran"
            told = done if self._done else f"none of its {of} statements ran to its end"
            raise MigrationHalfDoneError(done=told, way=self._way, left=left, **facts) from error
        raise MigrationFailedError(**facts) from error

    def _left_behind(self) -> str:
        """Say what a failed statement left that is of no use, and forget the journal of what did nothing."""
        number = self._done + 1
        if not (self._journal and self._stays) or number > len(self._statements):
            return ""
        if journal.TABLE not in self._db.tables():
            return ""
        clearing = self._db.left_by(self._statements[number - 1][1])
        if not (self._done or clearing):
            with self._db.transaction():
                journal.forget(self._db, self._file.name)
        return f" What it left is cleared away first: {' '.join(clearing)}" if clearing else ""
