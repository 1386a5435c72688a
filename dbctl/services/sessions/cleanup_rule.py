"""Application of one cleanup rule to one open database, in batches; and its number of rows after the previous rules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

from msgspec import structs

from dbctl import progress, signals
from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    Merge,
    Not,
    Order,
    ShiftedTime,
    Table,
    Where,
    Writable,
)
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import ConcurrentChangeError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import Struct, TimeForm, now
from dbctl.profiles.codecs import TIMES
from dbctl.profiles.model.base import is_optional, list_names
from dbctl.profiles.model.cleanup import Cleanup, RecountRule, TimeOffset, expand_variants
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count, retry_conflicts
from dbctl.services.app.evidence.facts import refuse_unknown_times
from dbctl.services.app.live_table import LiveTable, find_column, where_before
from dbctl.services.app.row_writes import delete_exactly
from dbctl.services.app.validation import meets_condition
from dbctl.services.deletion.cascade import plan_rows
from dbctl.services.users.last_admin import guard_holders, is_relevant, refuse_planned
from dbctl.units import parse_duration

#: Seconds that a transaction aims to hold the write lock.
TARGET_SECONDS = 0.02
#: The pause after a transaction, relative to its duration, and the minimum in seconds. A connection that waits for SQLite polls
#: after 1, 2, 5, 10 and 15 ms, so one that starts to wait during a transaction of 20 ms polls within the pause.
PAUSE_FACTOR, MIN_PAUSE_SECONDS = 0.5, 0.015
#: If a smaller batch reduces the rows per second below this factor, the previous size is restored.
MIN_RATE_FACTOR = 0.7
#: The number of batches for which a restored size is not reduced again; limited, because one batch may be slow by chance.
PATIENCE = 20
INITIAL_SIZE, MIN_SIZE, MAX_SIZE = 100, 10, 10_000


class BatchSizer:
    """The size of the next batch, computed from the lock durations of the previous ones."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once  #: no pause and no size limit: the app is stopped
        self.size = INITIAL_SIZE
        self.count = 0
        self.longest_lock = 0.0  #: seconds
        self._lock_duration = 0.0
        self._patience = 0  #: the number of batches for which the size is not reduced
        #: size and rows per second before the last reduction
        self._before_shrinking: tuple[int, float] | None = None

    @contextmanager
    def measure(self, rows: int) -> Iterator[Callable[[], None]]:
        """Measure the transaction inside; calling the yielded function restarts the measurement."""
        start = time.monotonic()

        def restart_clock() -> None:
            nonlocal start
            start = time.monotonic()

        yield restart_clock
        self._lock_duration = max(time.monotonic() - start, 1e-6)
        self.count += 1
        self.longest_lock = max(self.longest_lock, self._lock_duration)
        self._adapt(rows, self._lock_duration)

    def pause(self) -> None:
        """Sleep, so that other writers get the lock."""
        if not self.at_once:
            time.sleep(max(self._lock_duration * PAUSE_FACTOR, MIN_PAUSE_SECONDS))

    def _adapt(self, rows: int, duration: float) -> None:
        rate = rows / duration
        shrunk, self._before_shrinking = self._before_shrinking, None
        self._patience = max(0, self._patience - 1)
        if shrunk and rate < shrunk[1] * MIN_RATE_FACTOR:
            self.size, self._patience = shrunk[0], PATIENCE
            return
        size = round(self.size * min(2.0, max(0.5, TARGET_SECONDS / duration)))
        size = min(MAX_SIZE, max(self.size if self._patience else MIN_SIZE, size))
        if size < self.size:
            self._before_shrinking = (self.size, rate)
        # A partial last batch does not show whether a larger one is fast.
        if size < self.size or rows >= self.size:
            self.size = size


#: The number of keys per page; reading them blocks no writer.
KEYS_PER_PAGE = 50_000

#: The key of a row, and its value in the column ``same_transaction``.
RowKey: TypeAlias = tuple[object, object]


class RuleResult(Struct, frozen=True, kw_only=True):
    """The result of one rule."""

    rule: str
    matched: int = 0  #: rows that were due at the start
    changed: int = 0  #: closed or deleted rows
    batches: int = 0  #: transactions
    longest_lock: timedelta = timedelta(0)  #: the duration of the longest transaction


class Correction(Struct, frozen=True, kw_only=True):
    """The difference between the stored and the recounted values of one row."""

    table: str
    where: Sequence[Where]
    row: Mapping[str, object]  #: as it was read; empty if the row does not exist
    differences: Mapping[str, int]


def select_variant(rule: Cleanup, live: LiveTable) -> Cleanup:
    """Return the rule with the variant whose columns the table has; raises as ``LiveTable.select_variant``."""
    variant = live.select_variant(rule.variant, lambda variant: variant.needs, f"the rule {rule.name}")
    return expand_variants(rule)[rule.variant.index(variant)] if variant else rule


def find_absent(rule: Cleanup, table: Table) -> str:
    """Return the optional column without which a rule is not applied, because it would change more rows; empty: the table has all."""
    for column in (rule.age.column, *rule.where):
        if is_optional(column) and not find_column(table, column):
            return f"column {table.name}.{' or '.join(list_names(column))}".replace("?", "")
    return ""


def due_conditions(rule: Cleanup, live: LiveTable, before: datetime) -> list[Condition]:
    """Return the conditions of a row that is due: with a time before ``before``."""
    return [*live.conditions(rule.where), *where_before(live.column(rule.age.column), before)]


def new_values(rule: Cleanup, live: LiveTable, form: TimeForm) -> dict[str, object]:
    """Return the new values of the rows of a rule, by column.

    Raises:
        SchemaMismatchError: the table has none of the columns.
    """
    constants = {name: value for name, value in rule.set.items() if not isinstance(value, TimeOffset)}
    moved = {
        live.column(name): ShiftedTime(live.column(value.from_), parse_duration(value.plus), form)
        for name, value in rule.set.items()
        if isinstance(value, TimeOffset)
    }
    values = live.encode_constants(constants) | moved
    if not values:  # all of the columns are optional
        missing = f"column {' or '.join(f'{live.name}.{name}' for name in rule.set)}".replace("?", "")
        raise SchemaMismatchError(target=live.db.target, missing=missing, purpose=f"the rule {rule.name}")
    return values


class RuleRun:
    def __init__(
        self,
        app: App,
        rule: Cleanup,
        db: Writable,
        live: LiveTable,
        due: Sequence[Condition],
        matched: int,
        *,
        at_once: bool,
    ) -> None:
        self.rule, self.matched = rule, matched  #: rows that were due at the start
        self.changed = 0  #: rows with a committed change
        self._app, self._db, self._due, self._batches = app, db, due, BatchSizer(at_once=at_once)
        self._live = LiveTable(app.profile, db, live.name, f"the rule {rule.name}")
        db.require_transactional(live.name)
        self._key = live.column(rule.key)
        self._recorded = False
        self._checked_groups = set[object]()

    def apply(self) -> None:
        if self._batches.at_once:
            with self._transaction(self.matched):
                changed = 0
                for rows in self._read_pages():
                    changed += self._change(rows, self._find_corrections(rows))
                    progress.advance(len(rows))
            self.changed = changed
        else:
            self._apply_in_batches()

    @property
    def result(self) -> RuleResult:
        return RuleResult(
            rule=self.rule.name,
            matched=self.matched,
            changed=self.changed,
            batches=self._batches.count,
            longest_lock=timedelta(seconds=round(self._batches.longest_lock, 6)),
        )

    def _apply_in_batches(self) -> None:
        for rows in self._read_pages():
            start = 0
            while start < len(rows):
                batch = rows[start : start + self._batches.size]
                if self._batches.count:
                    self._batches.pause()
                corrections = self._find_corrections(batch)
                # A signal during the commit must not prevent counting its rows.
                with signals.defer_signals():
                    self.changed += retry_conflicts(partial(self._change_batch, batch, corrections))
                signals.raise_if_interrupted()
                progress.advance(len(batch))
                start += len(batch)

    def _change_batch(self, batch: Sequence[RowKey], corrections: Sequence[Correction]) -> int:
        was_recorded = self._recorded
        try:
            with self._transaction(len(batch)):
                return self._change(batch, corrections)
        except ConcurrentChangeError:  # the server has rolled back everything
            self._recorded = was_recorded
            self._checked_groups.difference_update(group for _, group in batch)
            raise

    @contextmanager
    def _transaction(self, rows: int) -> Iterator[None]:
        """Begin a measured transaction, which may not remove the last admin."""
        with self._batches.measure(rows) as restart_clock, self._db.transaction():
            restart_clock()
            app, users, tables = self._app, self._app.core.users, [self._live.name]
            # The cleanup of other tables must not fail because the profile does not match the users.
            is_guarded = users and is_relevant(users, self._db, tables)
            database = app.resolve_database(self.rule)
            with guard_holders(app, database, self._db, tables) if is_guarded else nullcontext():
                yield

    def _read_pages(self) -> Iterator[list[RowKey]]:
        """Yield pages of due rows; rows with the same ``same_transaction`` value are adjacent."""
        columns = [self._key, self._live.column(self.rule.same_transaction or self.rule.key)]
        after_last: list[Where] = []
        while page := self._db.select(
            self._live.name,
            columns,
            [*after_last, *self._due],
            order_by=[Order([self._key])],
            limit=KEYS_PER_PAGE,
        ):
            after_last = [Condition(self._key, ">", page[-1][0])]
            rows = [(key, group) for key, group in page]
            if self.rule.same_transaction:
                rows.sort(key=lambda row: str(row[1]))
            yield rows

    def _change(self, rows: Sequence[RowKey], corrections: Sequence[Correction]) -> int:
        """Change those of ``rows`` that are still due, and return their number."""
        rule, db, table = self.rule, self._db, self._live.name
        where = [Condition(self._key, "in", [key for key, _ in rows]), *self._due]
        keys_due = [key for (key,) in db.select(table, [self._key], where)]
        if not keys_due:
            return 0
        if not self._recorded:
            self._recorded = True
            details = {"rule": rule.name, "older_than": parse_duration(rule.age.older_than).total_seconds()}
            audit.record(self._app, db, "sessions.cleanup", table, rule.name, details)
        changed = [Condition(self._key, "in", keys_due)]
        unchanged = [correction for correction in corrections if self._is_unchanged(correction)]
        if rule.delete:
            delete_exactly(db, table, changed, len(keys_due))
        else:
            values = new_values(rule, self._live, self._app.profile.time)
            require_row_count(db.update(table, values, changed), len(keys_due), db)
        bound = {"picked": keys_due, "now": TIMES[self._app.profile.time](now())}
        for after in rule.after:
            merge = Merge(
                table=after.into, select=after.select, parameters=bound, key=after.key, columns=after.merge
            )
            db.merge(merge)
        for correction in unchanged:
            self._correct(correction)
        return len(keys_due)

    # Corrections of statistics; a recount is too slow for a transaction for which other writers wait -----------------

    def _find_corrections(self, rows: Sequence[RowKey]) -> list[Correction]:
        """Recount before the transaction, once per value of ``same_transaction``, and return the differences.

        A row of statistics that changes before the transaction is not corrected: the app updates it itself.
        """
        if not self.rule.recount:
            return []
        new_groups = {group: key for key, group in rows if group not in self._checked_groups}
        self._checked_groups.update(new_groups)
        keys = list(new_groups.values())
        rules = self.rule.recount if keys else ()
        return [correction for rule in rules for correction in self._compare_recount(rule, keys)]

    def _compare_recount(self, rule: RecountRule, keys: Sequence[object]) -> Iterator[Correction]:
        table = LiveTable(self._app.profile, self._db, rule.table, f"the rule {self.rule.name}")
        columns = list(table.table.columns)
        count_names = [f"q{index}" for index in range(len(rule.key) + len(rule.columns))]
        link = " and ".join(f"t.{ident(name)} = q{index}" for index, name in enumerate(rule.key))
        # One statement, so that the row and its recount belong to the same snapshot.
        sql = (
            f"with q ({', '.join(count_names)}) as ({rule.select})"
            f" select {', '.join([*count_names, *(f't.{ident(name)}' for name in columns)])}"
            f" from q left join {ident(table.name)} t on {link}"
        )
        for values in self._db.query(sql, {"picked": keys}):
            expected_key = values[: len(count_names)]
            row = dict(zip(columns, values[len(count_names) :], strict=True))
            where = [Condition(name, "=", value) for name, value in zip(rule.key, expected_key, strict=False)]
            expected = zip(rule.columns, expected_key[len(rule.key) :], strict=True)
            differences = {name: _to_int(number) - _to_int(row[name]) for name, number in expected}
            if any(differences.values()):
                exists = row[rule.key[0]] is not None
                yield Correction(
                    table=table.name, where=where, row=row if exists else {}, differences=differences
                )

    def _is_unchanged(self, correction: Correction) -> bool:
        columns = list(self._db.tables()[correction.table].columns)
        rows = self._db.select(correction.table, columns, correction.where)
        return [dict(zip(columns, row, strict=True)) for row in rows] == (
            [correction.row] if correction.row else []
        )

    def _correct(self, correction: Correction) -> None:
        for row in self._db.select(correction.table, list(correction.differences), correction.where):
            differences = correction.differences.items()
            values = {
                name: _to_int(value) + difference
                for (name, difference), value in zip(differences, row, strict=True)
            }
            self._db.update(correction.table, values, correction.where)


def _to_int(value: object) -> int:
    return value if isinstance(value, int) else 0


class _Rows(Struct, frozen=True):
    """Rows that the previous rules changed in the same way."""

    where: Sequence[Where]  #: conditions on their current values
    changed: Mapping[str, object]  #: the new values of columns


class RuleOverlap:
    """Conditions of the rows of each table, after the previous rules, of which a refused one changes nothing."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._rows: dict[str, list[_Rows]] = defaultdict(lambda: [_Rows((), {})])
        self._changes: dict[str, list[PlannedRows]] = defaultdict(list)

    def count_and_apply(self, rule: Cleanup, live: LiveTable, due: Sequence[Condition]) -> int:
        """Count the rows that are ``due`` by a rule, and apply the rule to them; raises as ``RuleRun.apply``."""
        db, table, place = live.db, live.name, f"{live.db.target}/{live.name}"
        values = None if rule.delete else new_values(rule, live, self._app.profile.time)
        count, remaining, applied = 0, list[_Rows](), list[Where]()
        for rows in self._rows[place]:
            conditions = _before(due, rows.changed)
            if conditions is None:
                remaining.append(rows)
                continue
            applied.append(AllOf([*rows.where, *conditions]))
            count += db.count(table, applied[-1:])
            remaining.append(_Rows([*rows.where, Not(AllOf(conditions))], rows.changed))
            if values is not None:
                remaining.append(_Rows([*rows.where, *conditions], {**rows.changed, **values}))
        if count:
            database, users = self._app.resolve_database(rule), self._app.core.users
            refuse_unknown_times(self._app, database, db, rule)
            db.require_transactional(table)
            if users and is_relevant(users, db, [table]):
                where, changes = [AnyOf(applied)], self._changes[db.target]
                updates = [] if values is None else [PlannedRows(table=table, where=where, values=values)]
                planned = [*changes, *(updates or plan_rows(db, table, where))]
                refuse_planned(self._app, database, db, planned)
                self._changes[db.target] = planned
        self._rows[place] = remaining
        return count


def _before(due: Sequence[Condition], changed: Mapping[str, object]) -> list[Condition] | None:
    """Return the conditions on current values of rows that will meet ``due`` after a change; None: no row will."""
    conditions = []
    for condition in due:
        if condition.column not in changed:
            conditions.append(condition)
            continue
        value = changed[condition.column]
        if isinstance(value, ShiftedTime) and isinstance(condition.value, datetime):
            conditions.append(
                structs.replace(condition, column=value.column, value=condition.value - value.offset)
            )
        elif isinstance(value, ShiftedTime) or not meets_condition(value, condition):
            return None
    return conditions
