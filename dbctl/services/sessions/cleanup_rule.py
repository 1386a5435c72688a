"""Application of one cleanup rule to one open database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

from dbctl import signals
from dbctl.engines.contract.database import Condition, Merge, Order, ShiftedTime, TimeForm, Where, Writable
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import ConcurrentChangeError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import Struct, now
from dbctl.profiles.codecs import TIMES
from dbctl.profiles.model.cleanup import Cleanup, RecountRule, TimeOffset, expand_variants
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count, retry_conflicts
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.sessions.batching import BatchSizer
from dbctl.units import parse_duration

#: The number of keys per page; reading them blocks no writer.
KEYS_PER_PAGE = 50_000

#: The key of a row, and its value in the column ``same_transaction``.
RowKey: TypeAlias = tuple[object, object]


class RuleResult(Struct, frozen=True, kw_only=True):
    """The result of one rule."""

    rule: str
    matched: int  #: rows that were due at the start
    changed: int  #: closed or deleted rows
    batches: int  #: transactions
    longest_lock: timedelta  #: the duration of the longest transaction


class Correction(Struct, frozen=True, kw_only=True):
    """The difference between the stored and the recounted values of one row."""

    table: str
    where: Sequence[Where]
    row: Mapping[str, object]  #: as it was read; empty if the row does not exist
    differences: Mapping[str, int]


def select_variant(rule: Cleanup, live: LiveTable) -> Cleanup:
    """Return the first variant of the rule whose columns the table has.

    Raises:
        SchemaMismatchError: the table has the columns of no variant.
    """
    for needs, expanded_rule in zip(
        [variant.needs for variant in rule.variant], expand_variants(rule), strict=False
    ):
        if all(find_column(live.table, name) for name in needs):
            return expanded_rule
    if rule.variant:
        missing = " or ".join(
            ", ".join(f"{live.name}.{name}" for name in variant.needs) for variant in rule.variant
        )
        raise SchemaMismatchError(
            target=live.db.target, missing=f"column {missing}", purpose=f"the rule {rule.name}"
        )
    return rule


def due_conditions(rule: Cleanup, live: LiveTable, before: datetime) -> list[Condition]:
    """Return the conditions of a row that is due: with a time before ``before``."""
    return [*live.conditions(rule.where), Condition(live.column(rule.age.column), "<", before)]


def new_values(rule: Cleanup, live: LiveTable, form: TimeForm) -> dict[str, object]:
    """Return the values that a rule sets."""
    constants = {name: value for name, value in rule.set.items() if not isinstance(value, TimeOffset)}
    moved = {
        live.column(name): ShiftedTime(live.column(value.from_), parse_duration(value.plus), form)
        for name, value in rule.set.items()
        if isinstance(value, TimeOffset)
    }
    return live.encode_constants(constants) | moved


class RuleRun:
    """One run of a rule."""

    def __init__(
        self,
        app: App,
        rule: Cleanup,
        db: Writable,
        live: LiveTable,
        age: timedelta,
        *,
        before: datetime,
        at_once: bool,
        advance: Callable[[int], None],
    ) -> None:
        self.rule = rule
        self.changed = 0  #: rows with a committed change
        self._advance = advance
        self._app, self._db, self._live, self._age = app, db, live, age
        self._due, self._batches = due_conditions(rule, live, before), BatchSizer(at_once=at_once)
        self.matched = db.count(live.name, self._due)  #: rows that were due at the start
        self._key = live.column(rule.key)
        self._recorded = False
        self._checked_groups = set[object]()

    def apply(self) -> RuleResult:
        """Apply the rule and return the result."""
        if self.matched and self._batches.at_once:
            with self._batches.measure(self.matched) as restart_clock, self._db.transaction():
                restart_clock()
                changed = 0
                for rows in self._read_pages():
                    changed += self._change(rows, self._find_corrections(rows))
                    self._advance(len(rows))
            self.changed = changed
        elif self.matched:
            self._apply_in_batches()
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
                self._advance(len(batch))
                start += len(batch)

    def _change_batch(self, batch: Sequence[RowKey], corrections: Sequence[Correction]) -> int:
        was_recorded = self._recorded
        try:
            with self._batches.measure(len(batch)) as restart_clock, self._db.transaction():
                restart_clock()
                return self._change(batch, corrections)
        except ConcurrentChangeError:  # the server has rolled back everything
            self._recorded = was_recorded
            self._checked_groups.difference_update(group for _, group in batch)
            raise

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
        keys = [key for key, _ in rows]
        due_keys = db.select(table, [self._key], [Condition(self._key, "in", keys), *self._due])
        keys_due = [key for (key,) in due_keys]
        if not keys_due:
            return 0
        if not self._recorded:
            self._recorded = True
            details = {"rule": rule.name, "older_than": self._age.total_seconds()}
            audit.record(self._app, db, "sessions.cleanup", table, rule.name, details)
        where = [Condition(self._key, "in", keys_due)]
        unchanged = [correction for correction in corrections if self._is_unchanged(correction)]
        changed = (
            db.delete(table, where)
            if rule.delete
            else db.update(table, new_values(rule, self._live, self._app.profile.time), where)
        )
        require_row_count(changed, len(keys_due), db)
        timestamp = TIMES[self._app.profile.time](now())
        for after_rule in rule.after:
            merge = Merge(
                table=after_rule.into,
                select=after_rule.select,
                parameters={"picked": keys_due, "now": timestamp},
                key=after_rule.key,
                columns=after_rule.merge,
            )
            db.merge(merge)
        for correction in unchanged:
            self._correct(correction)
        return changed

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
        return (
            [correction for rule in self.rule.recount for correction in self._compare_recount(rule, keys)]
            if keys
            else []
        )

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
            expected_key, row = (
                values[: len(count_names)],
                dict(zip(columns, values[len(count_names) :], strict=True)),
            )
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
            current = dict(zip(correction.differences, row, strict=True))
            values = {
                name: _to_int(current[name]) + difference
                for name, difference in correction.differences.items()
            }
            self._db.update(correction.table, values, correction.where)


def _to_int(value: object) -> int:
    return value if isinstance(value, int) else 0
