"""One cleanup rule carried out on one open database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

from dbctl import signals
from dbctl.engines.contract import Condition, Later, Order, TimeForm, Where, Writable
from dbctl.engines.sql import ident
from dbctl.errors import SchemaLacksError
from dbctl.model import Value, before, now, read_span
from dbctl.profiles import TIMES
from dbctl.profiles.model import Cleanup, Moved, Recounted, shapes
from dbctl.services.app import App, Live, audit, exactly, find_column
from dbctl.services.sessions.batching import Batches

#: Keys that are read at a time; reading them keeps no writer out.
CHUNK = 50_000

#: The key of a row, and its value of ``together``.
Keyed: TypeAlias = tuple[object, object]


class RuleCleaned(Value, frozen=True, kw_only=True):
    """What one rule did."""

    rule: str
    matched: int  #: rows that were due when it began
    changed: int  #: rows that it closed or deleted
    batches: int  #: transactions that this took
    longest_lock: timedelta  #: how long the longest of them took, while others may have waited for it


class Correction(Value, frozen=True, kw_only=True):
    """What figures of a row are off by, as long as it is the row that was read."""

    table: str
    where: Sequence[Where]
    row: Mapping[str, object]  #: empty where there is none yet
    off: Mapping[str, int]


def fitted(rule: Cleanup, live: Live) -> Cleanup:
    """Return the rule as the first of its shapes has it whose columns the table has.

    Raises:
        SchemaLacksError: it has those of none.
    """
    for needs, shape in zip([one.needs for one in rule.shape], shapes(rule), strict=False):
        if all(find_column(live.table, name) for name in needs):
            return shape
    if rule.shape:
        what = " or ".join(", ".join(f"{live.name}.{name}" for name in one.needs) for one in rule.shape)
        raise SchemaLacksError(target=live.db.target, what=f"column {what}", purpose=f"the rule {rule.name}")
    return rule


def due(rule: Cleanup, live: Live, age: timedelta) -> list[Condition]:
    """Return the conditions of a row that is due: strictly older than ``age``."""
    return [*live.holding(rule.where), Condition(live.get(rule.age.column), "<", before(age))]


def values_of(rule: Cleanup, live: Live, form: TimeForm) -> dict[str, object]:
    """Return what a rule puts into the columns of its rows."""
    constants = {name: value for name, value in rule.set.items() if not isinstance(value, Moved)}
    moved = {
        live.get(name): Later(live.get(value.from_), read_span(value.plus), form)
        for name, value in rule.set.items()
        if isinstance(value, Moved)
    }
    return live.constants(constants) | moved


class Run:
    """A rule at work, in transactions of its own."""

    def __init__(
        self,
        app: App,
        rule: Cleanup,
        db: Writable,
        live: Live,
        age: timedelta,
        *,
        at_once: bool,
        advance: Callable[[int], None],
    ) -> None:
        self.rule = rule
        self.changed = 0  #: rows whose change is committed
        self._advance = advance
        self._app, self._db, self._live, self._age = app, db, live, age
        self._due, self._batches = due(rule, live, age), Batches(at_once=at_once)
        self.matched = db.count(live.name, self._due)  #: rows that were due when it began
        self._key = live.get(rule.key)
        self._recorded = False
        self._counted = set[object]()

    def result(self) -> RuleCleaned:
        """Do it and return what was done."""
        if self.matched and self._batches.at_once:
            with self._batches.timed(self.matched) as begun, self._db.transaction():
                begun()
                done = 0
                for rows in self._chunks():
                    done += self._change(rows, self._corrections(rows))
                    self._advance(len(rows))
            self.changed = done
        elif self.matched:
            self._in_batches()
        return RuleCleaned(
            rule=self.rule.name,
            matched=self.matched,
            changed=self.changed,
            batches=self._batches.number,
            longest_lock=timedelta(seconds=round(self._batches.longest, 6)),
        )

    def _in_batches(self) -> None:
        for rows in self._chunks():
            at = 0
            while at < len(rows):
                batch = rows[at : at + self._batches.size]
                if self._batches.number:
                    self._batches.pause()
                corrections = self._corrections(batch)
                # A signal that comes with the commit must not keep it from being counted.
                with signals.held():
                    with self._batches.timed(len(batch)) as begun, self._db.transaction():
                        begun()
                        done = self._change(batch, corrections)
                    self.changed += done
                signals.check()
                self._advance(len(batch))
                at += len(batch)

    def _chunks(self) -> Iterator[list[Keyed]]:
        """Yield the rows that are due, part by part, those of one ``together`` beside each other."""
        columns = [self._key, self._live.get(self.rule.together or self.rule.key)]
        behind: list[Where] = []
        while found := self._db.select(
            self._live.name, columns, [*behind, *self._due], order_by=[Order([self._key])], limit=CHUNK
        ):
            behind = [Condition(self._key, ">", found[-1][0])]
            rows = [(key, group) for key, group in found]
            if self.rule.together:
                rows.sort(key=lambda row: str(row[1]))
            yield rows

    def _change(self, rows: Sequence[Keyed], corrections: Sequence[Correction]) -> int:
        """Do the rule's work on those of ``rows`` that are still due (the app may have been faster); return how many."""
        rule, db, table = self.rule, self._db, self._live.name
        keys = [key for key, _ in rows]
        found = db.select(table, [self._key], [Condition(self._key, "in", keys), *self._due])
        picked = [key for (key,) in found]
        if not picked:
            return 0
        if not self._recorded:
            self._recorded = True
            told = {"rule": rule.name, "older_than": self._age.total_seconds()}
            audit.record(self._app, db, "sessions.cleanup", table, rule.name, told)
        where = [Condition(self._key, "in", picked)]
        standing = [one for one in corrections if self._stands(one)]
        done = (
            db.delete(table, where)
            if rule.delete
            else db.update(table, values_of(rule, self._live, self._app.profile.time), where)
        )
        exactly(done, len(picked), db)
        moment = TIMES[self._app.profile.time](now())
        for then in rule.then:
            given = {"picked": picked, "now": moment}
            db.merge(then.into, then.select, given, key=then.key, columns=then.merge)
        for one in standing:
            self._correct(one)
        return done

    # What the app counts anew takes too long for a transaction that others wait for ----------------------------------

    def _corrections(self, rows: Sequence[Keyed]) -> list[Correction]:
        """Count before the transaction, once for each ``together``; return what is off, which hardly anything ever is.

        Whoever changes a row of figures before the transaction has counted for it, as the app does whenever a row
        that counts is added: such a row is left alone.
        """
        if not self.rule.recount:
            return []
        first = {group: key for key, group in rows if group not in self._counted}
        self._counted.update(first)
        keys = list(first.values())
        return [one for told in self.rule.recount for one in self._off(told, keys)] if keys else []

    def _off(self, told: Recounted, keys: Sequence[object]) -> Iterator[Correction]:
        table = Live(self._app.profile, self._db, told.table, f"the rule {self.rule.name}")
        columns = list(table.table.columns)
        count_names = [f"q{at}" for at in range(len(told.key) + len(told.columns))]
        link = " and ".join(f"t.{ident(name)} = q{at}" for at, name in enumerate(told.key))
        # One statement, so that the row and what is counted for it are of one moment.
        sql = (
            f"with q ({', '.join(count_names)}) as ({told.select})"  # noqa: S608 - the profile's own, names are quoted
            f" select {', '.join([*count_names, *(f't.{ident(name)}' for name in columns)])}"
            f" from q left join {ident(table.name)} t on {link}"
        )
        for found in self._db.query(sql, {"picked": keys}):
            counted, row = (
                found[: len(count_names)],
                dict(zip(columns, found[len(count_names) :], strict=True)),
            )
            where = [Condition(name, "=", value) for name, value in zip(told.key, counted, strict=False)]
            numbers = zip(told.columns, counted[len(told.key) :], strict=True)
            off = {name: _number(number) - _number(row[name]) for name, number in numbers}
            if any(off.values()):
                there = row[told.key[0]] is not None
                yield Correction(table=table.name, where=where, row=row if there else {}, off=off)

    def _stands(self, one: Correction) -> bool:
        columns = list(self._db.tables()[one.table].columns)
        rows = self._db.select(one.table, columns, one.where)
        return [dict(zip(columns, row, strict=True)) for row in rows] == ([one.row] if one.row else [])

    def _correct(self, one: Correction) -> None:
        for row in self._db.select(one.table, list(one.off), one.where):
            kept = dict(zip(one.off, row, strict=True))
            values = {name: _number(kept[name]) + off for name, off in one.off.items()}
            self._db.update(one.table, values, one.where)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
