"""Cleanup of expired rows: closed or deleted by the rules of the profile, in short transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar

from msgspec import structs

from dbctl import progress
from dbctl.engines.contract.database import AllOf, Condition, Where
from dbctl.errors.backup import ClockImplausibleError
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.usage import RuleMissingError, SchemaMismatchError, UsageError
from dbctl.model import ChangeResult, Closing, Effect, Page, Plan, Row, Struct, format_count, time_before
from dbctl.profiles.model.cleanup import Cleanup, validate_cleanup
from dbctl.services.app import clock
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.app.evidence.facts import refuse_unknown_times
from dbctl.services.app.live_table import LiveTable
from dbctl.services.deletion.cascade import add_dependent_rows, find_affected_rows, find_dependent_tables
from dbctl.services.sessions.cleanup_rule import (
    RuleOverlap,
    RuleResult,
    RuleRun,
    due_conditions,
    find_absent,
    select_variant,
)
from dbctl.signals import Interrupted
from dbctl.units import parse_duration

T = TypeVar("T")
#: A daily cleanup leaves no row that has been due for longer.
GRACE_PERIOD = timedelta(days=1)


class CleanupResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``sessions cleanup``."""

    is_timed = True

    rules: Sequence[RuleResult]
    failed: Sequence[str] = ()  #: messages of the rules that failed

    @property
    def effect(self) -> Effect | None:
        counts = {"rules": sum(bool(result.changed) for result in self.rules), "failed": len(self.failed)}
        return Effect("cleaned up", "row", count=self.changed, counts=counts) if self.changed else None

    @property
    def remarks(self) -> Sequence[str]:
        return self.failed

    @property
    def exit_status(self) -> int:
        return Exit.PARTIAL if self.failed else Exit.OK

    @property
    def changed(self) -> int:
        """The number of changed rows of all rules."""
        return sum(result.changed for result in self.rules)

    def summary(self) -> Sequence[Row]:
        return [structs.asdict(result) for result in self.rules]


class DueRows(Struct, frozen=True, kw_only=True):
    """The number of rows that a rule would change."""

    rule: str
    matched: int
    older_than: timedelta


class DueRules(Page[DueRows], frozen=True, kw_only=True):
    """The rules, with the number of due rows of each."""

    @property
    def closing(self) -> Closing:
        due = sum(rule.matched for rule in self.items)
        return Closing(
            f"Checked {format_count(len(self.items), 'rule')}", [f"{format_count(due, 'row')} due"]
        )


class OverdueRules(Struct, frozen=True, kw_only=True):
    """Rules with rows that have been due for longer than ``GRACE_PERIOD``."""

    rules: Sequence[str]
    unknown: Sequence[str]  #: rules whose check exceeded the time limit


class CleanUp(Operation):
    """Apply the cleanup rules of an app, each in separate transactions."""

    def __init__(
        self,
        app: App,
        names: Sequence[str] = (),
        *,
        older_than: timedelta | None = None,
        at_once: bool = False,
    ) -> None:
        """Select the rules.

        By default these are all whose tables exist, except those that run only on demand. ``older_than`` replaces the age of the
        profile; ``at_once`` uses one transaction per rule, for a stopped app.

        Raises:
            RuleMissingError: the profile has no such rule.
            UsageError: the age is invalid for a rule.
        """
        rules_by_name = {rule.name: rule for rule in app.require_section(app.profile.cleanup, "cleanup")}
        for name in names:
            if name not in rules_by_name:
                raise RuleMissingError(
                    app=app.name, name=name, names=", ".join(rules_by_name), candidates=rules_by_name
                )
        if older_than is not None and not names:
            raise UsageError(detail="--older-than requires --rule NAME: each rule has its own age")
        # One time for all rules: a row that a rule sets to the current time is not due for the next rule.
        self._time = time_before(timedelta(0))
        self._named, self._at_once = bool(names), at_once
        self._runs, self._errors = list[RuleRun](), dict[str, DbctlError]()  # errors by rule
        self._rules = [
            _replace_age(rule, older_than)
            for name, rule in rules_by_name.items()
            if name in names or not (names or rule.on_demand_only)
        ]
        for rule in self._rules:
            for _, reason in validate_cleanup(rule):  # the profile may not have been validated
                place = f"of the profile {app.profile.name}" if older_than is None else "with --older-than"
                raise UsageError(detail=f"the rule {rule.name} {place}: {reason}")
        targets = dict.fromkeys(app.target(app.resolve_database(rule)) for rule in self._rules)
        super().__init__(app, ", ".join(targets))

    @property
    def matched(self) -> int:
        """The number of rows that were due when their rule started, of all started rules."""
        return sum(run.matched for run in self._runs)

    def count_due(self, *, since: timedelta = timedelta(0)) -> DueRules:
        """Return how many rows of each rule have been due for at least ``since``; reads only.

        Raises:
            ProfileContradictionError: rows are due by a column without times that dbctl can read.
        """
        items = list[DueRows]()
        for rule, live, where in self._open_tables(self._rules, since):
            if matched := live.db.count(live.name, where):
                refuse_unknown_times(self._app, self._app.resolve_database(rule), live.db, rule)
            age = parse_duration(rule.age.older_than)
            items.append(DueRows(rule=rule.name, matched=matched, older_than=age))
        return DueRules(items=items, total=len(items), column_names=DueRows.__struct_fields__)

    def find_overdue(self, database: str, *, within: timedelta) -> OverdueRules:
        """Return the rules of one database that have been due for longer than ``GRACE_PERIOD``; ``within`` limits all checks."""
        overdue, unknown = list[str](), list[str]()
        rules = [rule for rule in self._rules if self._app.resolve_database(rule) == database]
        end = time.monotonic() + within.total_seconds()
        for rule, live, where in self._open_tables(rules, GRACE_PERIOD):
            remaining = timedelta(seconds=max(0.0, end - time.monotonic()))
            exists = live.db.exists(live.name, where, timeout=remaining)
            if exists is None:
                unknown.append(rule.name)
            elif exists:
                overdue.append(rule.name)
        return OverdueRules(rules=overdue, unknown=unknown)

    def list_dependents(self) -> list[str]:
        """Return the tables whose rows foreign keys delete or change with those that the rules delete."""
        tables = dict[str, None]()
        for rule, live, _ in self._open_tables(self._rules):
            if rule.delete:
                tables |= dict.fromkeys(find_dependent_tables(live.db, live.name)[1:])
        return list(tables)

    def plan(self) -> Plan:
        """Return the plan, with the rules that would fail; reads only, and raises as ``apply``."""
        deleted = dict[str, dict[str, list[Where]]]()
        planned = self._collect(partial(self._plan_rule, RuleOverlap(self._app), deleted))
        steps, rows = list[str](), dict[str, int]()
        for rule, table, count in planned:
            merged = ", ".join(after_rule.into for after_rule in rule.after)
            step = f"{'delete' if rule.delete else 'close'} {format_count(count, 'row')} of {table}"
            steps.append(f"{rule.name}: {step}" + (f", and merge them into {merged}" if merged else ""))
            rows[table] = rows.get(table, 0) + count
        if steps:
            clock.check(self._app)
        failed = self._list_failed(is_changed=bool(steps))
        plan = self._create_plan("Clean up", [*steps, *(f"fails: {text}" for text in failed)], rows)
        for database, tables in deleted.items():
            plan = add_dependent_rows(plan, self._app.reader(database), tables)
        return structs.replace(plan, failed=failed)

    def _plan_rule(
        self, overlap: RuleOverlap, deleted: dict[str, dict[str, list[Where]]], rule: Cleanup
    ) -> Iterator[tuple[Cleanup, str, int]]:
        for variant, live, where in self._open_tables([rule]):
            tables = {**deleted.get(name := self._app.resolve_database(rule), {})}
            tables[live.name] = [*tables.get(live.name, ()), AllOf(where)]
            if rule.delete:
                find_affected_rows(live.db, tables)  # refuses rows to which others refer
            if count := overlap.count_and_apply(variant, live, where):
                deleted |= {name: tables} if rule.delete else {}
                yield rule, live.name, count

    def apply(self, confirmed: str | None = None) -> CleanupResult:  # noqa: ARG002 - cleanup requires no confirmation
        """Apply the rules; the failure of one does not prevent the others.

        If the process is killed, complete batches are committed, and the next run does the rest.

        Raises:
            ClockImplausibleError: rows are due, and the clock contradicts timestamps in the database; nothing was changed.
            DbctlError: a rule failed, and no other one changed rows.
        """
        try:
            results = self._collect(self._run)
        except Interrupted as error:
            committed = [
                f"{run.rule.name} ({format_count(run.changed, 'row')})" for run in self._runs if run.changed
            ]
            if committed:
                error.hint = f"Committed before: {', '.join(committed)}. Run it again for the rest."
            raise
        results += [run.result for run in self._runs if run.rule.name in self._errors]
        failed = self._list_failed(is_changed=any(result.changed for result in results))
        return CleanupResult(rules=results, failed=failed)

    def _collect(self, work: Callable[[Cleanup], Iterable[T]]) -> list[T]:
        """Return the results for all rules; a rule may fail, unless the clock is wrong for all."""
        results, self._errors = list[T](), {}
        for rule in progress.list_parts(self._rules, "rule"):
            try:
                results += work(rule)
            except ClockImplausibleError:
                raise
            except DbctlError as error:
                self._errors[rule.name] = error
        return results

    def _list_failed(self, *, is_changed: bool) -> list[str]:
        """Return the messages of the rules that failed; raises the first error if the others change nothing."""
        failed = [
            f"{name}: {error}. {error.hint.replace('Nothing was changed.', '').strip()}".strip()
            for name, error in self._errors.items()
        ]
        for error in () if is_changed else self._errors.values():
            error.hint = " ".join([error.hint, *failed[1:]])
            raise error
        return failed

    def _run(self, rule: Cleanup) -> Iterator[RuleResult]:
        name = self._app.resolve_database(rule)
        for variant, live, where in self._open_tables([rule]):
            matched = live.db.count(live.name, where)
            if not matched:  # a writer would be an operation of the audit log
                yield RuleResult(rule=rule.name)
                continue
            refuse_unknown_times(self._app, name, live.db, variant)
            if not self._runs:
                clock.check(self._app)
            with self._app.writer(name) as db:
                run = RuleRun(self._app, variant, db, live, where, matched, at_once=self._at_once)
                self._runs.append(run)
                run.apply()
                yield run.result

    def _open_tables(
        self, rules: Sequence[Cleanup], since: timedelta = timedelta(0)
    ) -> Iterator[tuple[Cleanup, LiveTable, Sequence[Condition]]]:
        """Yield the variants of rules for the live schema, with their tables and due rows; rules that lack an optional table or column are skipped.

        Raises:
            SchemaMismatchError: the rule was selected by name, and its table or column is missing.
        """
        for rule in rules:
            db, table = self._app.reader(self._app.resolve_database(rule)), rule.table.removesuffix("?")
            missing, purpose = f"table {table}", f"the rule {rule.name}"
            if rule.table == table or table in db.tables():
                live = LiveTable(self._app.profile, db, table, purpose)
                variant = rule if find_absent(rule, live.table) else select_variant(rule, live)
                missing = find_absent(variant, live.table)
            if missing and self._named:
                raise SchemaMismatchError(target=db.target, missing=missing, purpose=purpose)
            if not missing:
                before = self._time - parse_duration(rule.age.older_than) - since
                yield variant, live, due_conditions(variant, live, before)


def _replace_age(rule: Cleanup, age: timedelta | None) -> Cleanup:
    seconds = int(age.total_seconds()) if age else 0
    span = f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"  # a span has at most nine digits
    span = span if age else rule.age.older_than
    return structs.replace(rule, age=structs.replace(rule.age, older_than=span))
