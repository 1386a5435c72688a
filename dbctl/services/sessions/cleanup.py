"""Rows that have had their day: closed or deleted by the profile's rules, so gently that the app never waits long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from dbctl.engines.contract import Condition, Readable
from dbctl.errors import DbctlError, RuleMissingError, SchemaLacksError, UsageError
from dbctl.model import Done, Page, Plan, Row, Value, counted, read_span
from dbctl.profiles.model import Cleanup, Moved, mistakes, shapes
from dbctl.services.app import App, Live, clock, find_column, may_lack
from dbctl.services.sessions.cleanup_rule import RuleCleaned, Run, due, fitted, values_of
from dbctl.services.sessions.rule_overlap import Overlap
from dbctl.signals import Interrupted

#: Who cleans up every day leaves nothing that has been due for longer.
GRACE = timedelta(days=1)


class Cleaned(Done, frozen=True, kw_only=True):
    """Answer of ``sessions cleanup``."""

    rules: Sequence[RuleCleaned]

    @property
    def changed(self) -> int:
        """Rows over all rules."""
        return sum(one.changed for one in self.rules)

    def brief(self) -> Sequence[Row]:
        return [{name: getattr(one, name) for name in RuleCleaned.__struct_fields__} for one in self.rules]


class Due(Value, frozen=True, kw_only=True):
    """Rows for which a rule is due."""

    rule: str
    matched: int
    older_than: timedelta


class Late(Value, frozen=True, kw_only=True):
    """Rules that have been due for longer than ``GRACE``."""

    rules: Sequence[str]
    unclear: Sequence[str]  #: rules of which that would have taken long to tell


class CleanupWork:
    """What ``sessions cleanup`` is about to do, rule by rule, each in transactions of its own."""

    def __init__(
        self,
        app: App,
        names: Sequence[str] = (),
        *,
        older_than: timedelta | None = None,
        at_once: bool = False,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Choose the rules.

        Args:
            app: the app.
            names: rules; none means all of which the live database has the tables, but for those that want to be asked for.
            older_than: in place of the profile's own age.
            at_once: one transaction a rule, for when nobody else uses the database.
            advance: is told of rows as they are dealt with; ``found`` tells of how many.

        Raises:
            RuleMissingError: the profile has no such rule.
            UsageError: the age is none that a rule can have.
        """
        known = {rule.name: rule for rule in app.ability(app.profile.cleanup, "cleanup")}
        for name in names:
            if name not in known:
                raise RuleMissingError(app=app.name, name=name, names=", ".join(known))
        if older_than is not None and not names:
            raise UsageError(detail="--older-than needs --rule NAME: each rule has an age of its own")
        self.app, self.protected, self._opened = app.name, app.protected, app
        self._named, self._older_than, self._at_once = bool(names), older_than, at_once
        self._advance, self._runs = advance, list[Run]()
        self._rules = [rule for name, rule in known.items() if name in names or not (names or rule.asked)]
        for rule in self._rules:
            for _, reason in mistakes(rule):  # a profile that nobody has checked
                raise UsageError(detail=f"the rule {rule.name} of the profile {app.profile.name}: {reason}")
            _check_age(rule, self._age(rule))
        self.target = ", ".join(dict.fromkeys(app.target(_database(app, rule)) for rule in self._rules))

    @property
    def found(self) -> int:
        """Rows that were due when their rule began, over the rules that have."""
        return sum(run.matched for run in self._runs)

    def due(self, *, since: timedelta = timedelta(0)) -> Page[Due]:
        """Return how many rows each rule would take now, and would have taken ``since`` so long; reads only."""
        items = [
            Due(rule=rule.name, matched=db.count(live.name, where), older_than=self._age(rule))
            for rule, db, live, where in self._readable(since)
        ]
        return Page(items=items, total=len(items), names=Due.__struct_fields__)

    def late(self, database: str, *, within: timedelta) -> Late:
        """Return which rules on one database have been due for longer than ``GRACE``, as far as that is told in time.

        One row is enough, and an index leads to it: rows are not counted.
        """
        rules, unclear = list[str](), list[str]()
        end = time.monotonic() + within.total_seconds()
        for rule, db, live, where in self._readable(GRACE, database):
            left = timedelta(seconds=max(0.0, end - time.monotonic()))
            found = db.has(live.name, where, within=left)
            if found is None:
                unclear.append(rule.name)
            elif found:
                rules.append(rule.name)
        return Late(rules=rules, unclear=unclear)

    def plan(self) -> Plan:
        """Return what would be done now; reads only.

        Raises:
            ClockDoubtedError: something would be done, and the clock contradicts what the app recorded.
        """
        steps, rows, overlap = [], dict[str, int](), Overlap()
        for rule, db, live, where in self._readable():
            values = None if rule.delete else values_of(rule, live, self._opened.profile.time)
            count = overlap.take(db, live.name, where, values)
            if count:
                more = (
                    f", and bring them into {', '.join(then.into for then in rule.then)}" if rule.then else ""
                )
                what = f"{'delete' if rule.delete else 'close'} {counted(count, 'row')} of {live.name}{more}"
                steps.append(f"{rule.name}: {what}")
                rows[live.name] = rows.get(live.name, 0) + count
        if steps:
            clock.check(self._opened)
        return Plan(title="Clean up", target=self.target, steps=steps, rows=rows)

    def apply(self, seen: str | None = None) -> Cleaned:  # noqa: ARG002 - no question is asked, so nothing was agreed to
        """Carry the rules out. Killed at any moment, it leaves whole batches; run again, it does the rest.

        Raises:
            ClockDoubtedError: as ``plan``; nothing was changed.
        """
        try:
            done = [result for rule in self._rules if (result := self._run(rule))]
        except (DbctlError, Interrupted) as error:
            kept = [f"{run.rule.name} ({counted(run.changed, 'row')})" for run in self._runs if run.changed]
            if (
                kept
            ):  # whatever failed, or stopped it, does not know of these and says that nothing was changed
                error.hint = f"Done before, and staying so: {', '.join(kept)}. Run it again for the rest."
            raise
        return Cleaned(rules=done)

    def _run(self, rule: Cleanup) -> RuleCleaned | None:
        with self._opened.writer(_database(self._opened, rule), "sessions cleanup") as db:
            told, live = self._live(rule, db)
            if live is None:
                return None
            run = Run(
                self._opened, told, db, live, self._age(rule), at_once=self._at_once, advance=self._advance
            )
            if run.matched and not any(earlier.matched for earlier in self._runs):
                clock.check(self._opened)
            self._runs.append(run)
            return run.result()

    def _readable(
        self, since: timedelta = timedelta(0), database: str = ""
    ) -> Iterator[tuple[Cleanup, Readable, Live, Sequence[Condition]]]:
        for rule in self._rules:
            if database not in ("", _database(self._opened, rule)):
                continue
            db = self._opened.reader(_database(self._opened, rule))
            told, live = self._live(rule, db)
            if live:
                yield told, db, live, due(told, live, self._age(rule) + since)

    def _live(self, rule: Cleanup, db: Readable) -> tuple[Cleanup, Live | None]:
        """Return a rule as the live schema has it, and its table.

        That is None where it may be missing and is, unless the rule was asked for by name.
        """
        table = rule.table.removesuffix("?")
        found = db.tables().get(table)
        spare = (found is None and table != rule.table) or (
            found is not None and may_lack(rule.age.column) and not find_column(found, rule.age.column)
        )
        if spare and self._named:
            what = f"table {table}" if found is None else f"column {table}.{rule.age.column}".rstrip("?")
            raise SchemaLacksError(target=db.target, what=what, purpose=f"the rule {rule.name}")
        if spare:
            return rule, None
        live = Live(self._opened.profile, db, table, f"the rule {rule.name}")
        return fitted(rule, live), live

    def _age(self, rule: Cleanup) -> timedelta:
        return read_span(rule.age.older_than) if self._older_than is None else self._older_than


def _database(app: App, rule: Cleanup) -> str:
    return rule.database or app.main()


def _check_age(rule: Cleanup, age: timedelta) -> None:
    """Refuse an age at which a time that is set would lie ahead."""
    for value in [value for one in shapes(rule) for value in one.set.values()]:
        if isinstance(value, Moved) and age < read_span(value.plus):
            raise UsageError(
                detail=f"--older-than: {rule.name} sets a time {value.plus} after {value.from_}, so it takes no rows younger than that"
            )
