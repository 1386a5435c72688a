"""Cleanup of expired rows: closed or deleted by the rules of the profile, in short transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from dbctl import progress
from dbctl.engines.contract.database import AllOf, Condition, Readable, Where
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import RuleMissingError, SchemaMismatchError, UsageError
from dbctl.model import ChangeResult, Closing, Effect, Page, Plan, Row, Struct, format_count, time_before
from dbctl.profiles.model.base import is_optional
from dbctl.profiles.model.cleanup import Cleanup, TimeOffset, expand_variants, validate_cleanup
from dbctl.services.app import clock
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.app.evidence.facts import refuse_unknown_times
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.deletion.cascade import add_dependent_rows, find_dependent_tables
from dbctl.services.sessions.cleanup_rule import (
    RuleOverlap,
    RuleResult,
    RuleRun,
    due_conditions,
    new_values,
    select_variant,
)
from dbctl.signals import Interrupted
from dbctl.units import parse_duration

#: A daily cleanup leaves no row that has been due for longer.
GRACE_PERIOD = timedelta(days=1)


class CleanupResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``sessions cleanup``."""

    is_timed = True

    rules: Sequence[RuleResult]

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        rules = sum(bool(result.changed) for result in self.rules)
        return Effect("cleaned up", "row", count=self.changed, counts={"rules": rules})

    @property
    def changed(self) -> int:
        """The number of changed rows of all rules."""
        return sum(result.changed for result in self.rules)

    def summary(self) -> Sequence[Row]:
        return [
            {name: getattr(result, name) for name in RuleResult.__struct_fields__} for result in self.rules
        ]


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
        self._named, self._older_than, self._at_once = bool(names), older_than, at_once
        self._runs = list[RuleRun]()
        self._rules = [
            rule
            for name, rule in rules_by_name.items()
            if name in names or not (names or rule.on_demand_only)
        ]
        for rule in self._rules:
            for _, reason in validate_cleanup(rule):  # the profile may not have been validated
                raise UsageError(detail=f"the rule {rule.name} of the profile {app.profile.name}: {reason}")
            _check_age(rule, self._age_of(rule))
        super().__init__(
            app, ", ".join(dict.fromkeys(app.target(app.resolve_database(rule)) for rule in self._rules))
        )

    @property
    def matched(self) -> int:
        """The number of rows that were due when their rule started, of all started rules."""
        return sum(run.matched for run in self._runs)

    def count_due(self, *, since: timedelta = timedelta(0)) -> DueRules:
        """Return how many rows of each rule have been due for at least ``since``; reads only.

        Raises:
            ProfileContradictionError: as for ``plan``.
        """
        items = list[DueRows]()
        for rule, db, live, where in self._open_tables(since):
            if matched := db.count(live.name, where):
                refuse_unknown_times(self._app, self._app.resolve_database(rule), db, rule)
            items.append(DueRows(rule=rule.name, matched=matched, older_than=self._age_of(rule)))
        return DueRules(items=items, total=len(items), column_names=DueRows.__struct_fields__)

    def find_overdue(self, database: str, *, within: timedelta) -> OverdueRules:
        """Return the rules of one database that have been due for longer than ``GRACE_PERIOD``.

        Rows are not counted: the first one is enough. ``within`` is the time limit of all checks.
        """
        rules, unknown = list[str](), list[str]()
        end = time.monotonic() + within.total_seconds()
        for rule, db, live, where in self._open_tables(GRACE_PERIOD, database):
            remaining = timedelta(seconds=max(0.0, end - time.monotonic()))
            exists = db.exists(live.name, where, timeout=remaining)
            if exists is None:
                unknown.append(rule.name)
            elif exists:
                rules.append(rule.name)
        return OverdueRules(rules=rules, unknown=unknown)

    def list_dependents(self) -> list[str]:
        """Return the tables whose rows foreign keys delete or change with those that the rules delete."""
        tables = dict[str, None]()
        for rule, db, live, _ in self._open_tables():
            if rule.delete:
                tables |= dict.fromkeys(find_dependent_tables(db, live.name)[1:])
        return list(tables)

    def plan(self) -> Plan:
        """Return the plan; reads only.

        Raises:
            ClockImplausibleError: rows are due, and the clock contradicts timestamps in the database.
            ProfileContradictionError: rows are due by a column without times that dbctl can read.
            Others: see ``guard_holders``.
        """
        steps, rows, overlap = [], dict[str, int](), RuleOverlap(self._app.core.users)
        deleted = dict[str, dict[str, list[Where]]]()
        for rule, db, live, where in self._open_tables():
            values = None if rule.delete else new_values(rule, live, self._app.profile.time)
            count = overlap.count_and_apply(db, live.name, where, values)
            if count:
                database = self._app.resolve_database(rule)
                refuse_unknown_times(self._app, database, db, rule)
                overlap.refuse_changes(self._app, database, db)
                suffix = (
                    f", and merge them into {', '.join(after_rule.into for after_rule in rule.after)}"
                    if rule.after
                    else ""
                )
                step = f"{'delete' if rule.delete else 'close'} {format_count(count, 'row')} of {live.name}{suffix}"
                steps.append(f"{rule.name}: {step}")
                rows[live.name] = rows.get(live.name, 0) + count
                if rule.delete:
                    tables = deleted.setdefault(database, {})
                    tables.setdefault(live.name, []).append(AllOf(where))
        if steps:
            clock.check(self._app)
        plan = self._create_plan("Clean up", steps, rows)
        for database, tables in deleted.items():
            plan = add_dependent_rows(plan, self._app.reader(database), tables)
        return plan

    def apply(self, confirmed: str | None = None) -> CleanupResult:  # noqa: ARG002 - cleanup requires no confirmation
        """Apply the rules. If the process is killed, complete batches are committed, and the next run does the rest.

        Raises:
            ClockImplausibleError: as for ``plan``; nothing was changed.
        """
        try:
            results = [
                result for rule in progress.list_parts(self._rules, "rule") if (result := self._run(rule))
            ]
        except (DbctlError, Interrupted) as error:
            committed = [
                f"{run.rule.name} ({format_count(run.changed, 'row')})" for run in self._runs if run.changed
            ]
            if committed:
                remedy = error.hint.replace("Nothing was changed.", "").strip()
                parts = [f"Committed before: {', '.join(committed)}.", remedy, "Run it again for the rest."]
                error.hint = " ".join(filter(None, parts))
            raise
        return CleanupResult(rules=results)

    def _run(self, rule: Cleanup) -> RuleResult | None:
        name, before = self._app.resolve_database(rule), self._due_before(rule)
        reader = self._app.reader(name)
        variant, live = self._resolve_rule(rule, reader)
        if live is None:
            return None
        matched = reader.count(live.name, due_conditions(variant, live, before))
        if not matched:  # a writer would be an operation of the audit log
            return RuleResult(rule=rule.name, matched=0, changed=0, batches=0, longest_lock=timedelta(0))
        refuse_unknown_times(self._app, name, reader, variant)
        if not self._runs:
            clock.check(self._app)
        with self._app.writer(name) as db:
            live = LiveTable(self._app.profile, db, live.name, f"the rule {rule.name}")
            age, at_once = self._age_of(rule), self._at_once
            run = RuleRun(self._app, variant, db, live, age, before=before, matched=matched, at_once=at_once)
            self._runs.append(run)
            return run.apply()

    def _open_tables(
        self, since: timedelta = timedelta(0), database: str = ""
    ) -> Iterator[tuple[Cleanup, Readable, LiveTable, Sequence[Condition]]]:
        for rule in self._rules:
            if database not in ("", self._app.resolve_database(rule)):
                continue
            db = self._app.reader(self._app.resolve_database(rule))
            variant, live = self._resolve_rule(rule, db)
            if live:
                yield variant, db, live, due_conditions(variant, live, self._due_before(rule) - since)

    def _resolve_rule(self, rule: Cleanup, db: Readable) -> tuple[Cleanup, LiveTable | None]:
        """Return the variant of a rule for the live schema, and its table, or None if an optional table is missing.

        Raises:
            SchemaMismatchError: the rule was selected by name, and its table or column is missing.
        """
        table = rule.table.removesuffix("?")
        live_table = db.tables().get(table)
        is_skipped = (live_table is None and table != rule.table) or (
            live_table is not None
            and is_optional(rule.age.column)
            and not find_column(live_table, rule.age.column)
        )
        if is_skipped and self._named:
            missing = (
                f"table {table}" if live_table is None else f"column {table}.{rule.age.column}".rstrip("?")
            )
            raise SchemaMismatchError(target=db.target, missing=missing, purpose=f"the rule {rule.name}")
        if is_skipped:
            return rule, None
        live = LiveTable(self._app.profile, db, table, f"the rule {rule.name}")
        return select_variant(rule, live), live

    def _age_of(self, rule: Cleanup) -> timedelta:
        return parse_duration(rule.age.older_than) if self._older_than is None else self._older_than

    def _due_before(self, rule: Cleanup) -> datetime:
        return self._time - self._age_of(rule)


def _check_age(rule: Cleanup, age: timedelta) -> None:
    """Refuse an age with which the rule would set a time in the future."""
    for value in [value for variant in expand_variants(rule) for value in variant.set.values()]:
        if isinstance(value, TimeOffset) and age < parse_duration(value.plus):
            raise UsageError(
                detail=f"--older-than: {rule.name} sets a time {value.plus} after {value.from_}, so it requires at least that age"
            )
