"""Rows that have had their day: closed or deleted by the profile's rules, so gently that the app never waits long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from dbctl.engines.base import Condition, Later, Order, Readable, Where, Writable
from dbctl.errors import DbctlError, RuleMissingError, SchemaLacksError, UsageError
from dbctl.model import Done, Page, Plan, Row, Value, counted, now, read_span
from dbctl.profiles.cleanup_model import Cleanup, Moved
from dbctl.profiles.codecs import TIMES
from dbctl.services import audit
from dbctl.services.apps import App
from dbctl.services.change import exactly
from dbctl.services.cleanup_batches import Batches
from dbctl.services.live import Live, find_column, may_lack

#: Keys that are read at a time; reading them keeps no writer out.
CHUNK = 50_000
#: Who cleans up every day leaves nothing that has been due for longer.
GRACE = timedelta(days=1)


class RuleCleaned(Value, frozen=True, kw_only=True):
    """What one rule did."""

    rule: str
    matched: int  #: rows that were due when it began
    changed: int  #: rows that it closed or deleted
    batches: int  #: transactions that this took
    longest_lock: timedelta  #: the longest that one of them kept other writers waiting


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
    ) -> None:
        """Choose the rules.

        Args:
            app: the app.
            names: rules; none means all of which the live database has the tables.
            older_than: in place of the profile's own age.
            at_once: one transaction a rule, for when nobody else uses the database.

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
        self._rules = [rule for name, rule in known.items() if name in names or not names]
        for rule in self._rules:
            _check_age(rule, self._age(rule))
        self.target = ", ".join(dict.fromkeys(app.target(_database(app, rule)) for rule in self._rules))

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
        """Return what would be done now; reads only."""
        steps, rows = [], dict[str, int]()
        for rule, db, live, where in self._readable():
            count = db.count(live.name, where)
            if count:
                more = (
                    f", and bring them into {', '.join(then.into for then in rule.then)}" if rule.then else ""
                )
                what = f"{'delete' if rule.delete else 'close'} {counted(count, 'row')} of {live.name}{more}"
                steps.append(f"{rule.name}: {what}")
                rows[live.name] = rows.get(live.name, 0) + count
        return Plan(title="Clean up", target=self.target, steps=steps, rows=rows)

    def apply(self, seen: str | None = None) -> Cleaned:  # noqa: ARG002 - no question is asked, so nothing was agreed to
        """Carry the rules out. Killed at any moment, it leaves whole batches; run again, it does the rest."""
        runs: list[_Run] = []
        try:
            done = [result for rule in self._rules if (result := self._run(rule, runs))]
        except DbctlError as error:
            kept = [f"{run.rule.name} ({counted(run.changed, 'row')})" for run in runs if run.changed]
            if kept:  # whatever failed says that nothing was changed, and does not know of these
                error.hint = f"Done before, and staying so: {', '.join(kept)}. Run it again for the rest."
            raise
        return Cleaned(rules=done)

    def _run(self, rule: Cleanup, runs: list[_Run]) -> RuleCleaned | None:
        with self._opened.writer(_database(self._opened, rule), "sessions cleanup") as db:
            live = self._live(rule, db)
            if live is None:
                return None
            runs.append(_Run(self._opened, rule, db, live, self._age(rule), at_once=self._at_once))
            return runs[-1].result()

    def _readable(
        self, since: timedelta = timedelta(0), database: str = ""
    ) -> Iterator[tuple[Cleanup, Readable, Live, Sequence[Where]]]:
        for rule in self._rules:
            if database not in ("", _database(self._opened, rule)):
                continue
            db = self._opened.reader(_database(self._opened, rule))
            live = self._live(rule, db)
            if live:
                yield rule, db, live, _due(rule, live, self._age(rule) + since)

    def _live(self, rule: Cleanup, db: Readable) -> Live | None:
        """Return the table of a rule; None where it may be missing and is, unless the rule was asked for by name."""
        table = rule.table.removesuffix("?")
        found = db.tables().get(table)
        spare = (found is None and table != rule.table) or (
            found is not None and may_lack(rule.age.column) and not find_column(found, rule.age.column)
        )
        if spare and self._named:
            what = f"table {table}" if found is None else f"column {table}.{rule.age.column}".rstrip("?")
            raise SchemaLacksError(target=db.target, what=what, purpose=f"the rule {rule.name}")
        return None if spare else Live(self._opened.profile, db, table, f"the rule {rule.name}")

    def _age(self, rule: Cleanup) -> timedelta:
        return read_span(rule.age.older_than) if self._older_than is None else self._older_than


class _Run:
    """One rule on one open database."""

    def __init__(
        self, app: App, rule: Cleanup, db: Writable, live: Live, age: timedelta, *, at_once: bool
    ) -> None:
        self.rule, self.changed = rule, 0  #: rows whose change is committed
        self._app, self._db, self._live, self._age = app, db, live, age
        self._due, self._batches = _due(rule, live, age), Batches(at_once=at_once)
        self._key = live.get(rule.key)
        self._recorded = False

    def result(self) -> RuleCleaned:
        matched = self._db.count(self._live.name, self._due)
        if matched and self._batches.at_once:
            with self._batches.timed(matched) as begun, self._db.transaction():
                begun()
                done = sum(self._change(keys) for keys in self._chunks())
            self.changed = done
        elif matched:
            self._in_batches()
        return RuleCleaned(
            rule=self.rule.name,
            matched=matched,
            changed=self.changed,
            batches=self._batches.number,
            longest_lock=timedelta(seconds=round(self._batches.longest, 6)),
        )

    def _in_batches(self) -> None:
        for keys in self._chunks():
            at = 0
            while at < len(keys):
                batch = keys[at : at + self._batches.size]
                if at or self._batches.number:
                    self._batches.pause()
                with self._batches.timed(len(batch)) as begun, self._db.transaction():
                    begun()
                    done = self._change(batch)
                self.changed += done
                at += len(batch)

    def _chunks(self) -> Iterator[list[object]]:
        """Yield the keys of the rows that are due, part by part, those of one ``together`` beside each other."""
        columns = [self._key, self._live.get(self.rule.together or self.rule.key)]
        behind: list[Where] = []
        while rows := self._db.select(
            self._live.name, columns, [*behind, *self._due], order_by=[Order([self._key])], limit=CHUNK
        ):
            behind = [Condition(self._key, ">", rows[-1][0])]
            if self.rule.together:
                rows.sort(key=lambda row: str(row[1]))
            yield [key for key, _ in rows]

    def _change(self, keys: Sequence[object]) -> int:
        """Do the rule's work on those of ``keys`` that are still due (the app may have been faster); return how many."""
        rule, db, table = self.rule, self._db, self._live.name
        found = db.select(table, [self._key], [Condition(self._key, "in", keys), *self._due])
        picked = [key for (key,) in found]
        if not picked:
            return 0
        if not self._recorded:
            self._recorded = True
            told = {"rule": rule.name, "older_than": self._age.total_seconds()}
            audit.record(self._app, db, "sessions.cleanup", table, rule.name, told)
        where = [Condition(self._key, "in", picked)]
        done = db.delete(table, where) if rule.delete else db.update(table, self._values(), where)
        exactly(done, len(picked), db)
        moment = TIMES[self._app.profile.time](now())
        for then in rule.then:
            given = {"picked": picked, "now": moment}
            db.merge(then.into, then.select, given, key=then.key, columns=then.merge)
        return done

    def _values(self) -> dict[str, object]:
        form = self._app.profile.time
        constants = {name: value for name, value in self.rule.set.items() if not isinstance(value, Moved)}
        moved = {
            self._live.get(name): Later(self._live.get(value.from_), read_span(value.plus), form)
            for name, value in self.rule.set.items()
            if isinstance(value, Moved)
        }
        return self._live.constants(constants) | moved


def _database(app: App, rule: Cleanup) -> str:
    return rule.database or app.main()


def _due(rule: Cleanup, live: Live, age: timedelta) -> list[Where]:
    """Return the conditions of a row that is due: strictly older than ``age``."""
    where: list[Where] = [
        Condition(column, "=", value) for column, value in live.constants(rule.where).items()
    ]
    return [*where, Condition(live.get(rule.age.column), "<", now() - age)]


def _check_age(rule: Cleanup, age: timedelta) -> None:
    """Refuse an age at which a time that is set would lie ahead."""
    for value in rule.set.values():
        if isinstance(value, Moved) and age < read_span(value.plus):
            raise UsageError(
                detail=f"--older-than: {rule.name} sets a time {value.plus} after {value.from_}, so it takes no rows younger than that"
            )
