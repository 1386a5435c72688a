"""Rows that repeat those of another database brought in line with them; what is wanting is listed, for the app to make anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Condition, Not, Readable, Where, Writable
from dbctl.errors import UsageError
from dbctl.model import Done, Plan, Row, counted
from dbctl.profiles.model import CrossLink
from dbctl.services.app import App, Change, Draft, Live, cut, find_column
from dbctl.services.integrity.duplicated_columns import Comparison, Repeats

#: Keys in one condition.
BATCH = 2_000
#: Keys of rows that are wanting which an answer lists; it counts all of them.
LISTED = 10_000


class Repaired(Done, frozen=True, kw_only=True):
    """Answer of ``integrity repair``."""

    renamed: int  #: rows that had kept what a row of the other database was called before
    mended: int  #: columns of rows that differed from what they repeat
    deleted: int  #: rows that repeated nothing, where that was asked for
    wanting: int  #: rows of the other database without one here, which only the app can make
    keys: Sequence[object] = ()  #: theirs, the first ten thousand
    rewritten: int = 0  #: times that got the form of the others in their column

    @property
    def tells(self) -> bool:
        return bool(self.wanting)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.renamed or self.mended or self.deleted or self.rewritten)

    def brief(self) -> Row:
        told: Row = {word: getattr(self, word) for word in ("renamed", "mended", "deleted", "wanting")}
        if self.rewritten:
            told = {**told, "rewritten": self.rewritten}
        return {**told, "keys": self.keys} if self.keys else told


def repair(app: App, *, orphans: bool = False) -> Change[Repaired]:
    """Bring rows that repeat those of another database in line with them.

    Args:
        app: the app.
        orphans: whether rows that repeat nothing are deleted, too. Where an app keeps rows elsewhere, these are no mistake.

    Raises:
        AbilityMissingError: the app has no such rows.
        UsageError: it has them in several databases, and none is named.
    """
    links = [one for one in app.profile.link if one.repeats or one.formerly]
    app.ability(links, "rows that repeat others")
    names = list(dict.fromkeys(one.database for one in links if app.only in ("", one.database)))
    if len(names) != 1:
        known = ", ".join(dict.fromkeys(one.database for one in links))
        raise UsageError(detail=f"name the database whose rows repeat others with --db: {known}")

    def draft(db: Readable) -> Draft[Repaired]:
        work = _Work(app, db, [one for one in links if one.database == names[0]], orphans=orphans)
        plan = Plan(
            title="Bring repeated rows in line",
            target=db.target,
            steps=work.steps(),
            rows=work.rows(),
            destructive=bool(work.gone),
        )
        return Draft(plan, work.carry_out)

    return Change(app, names[0], "integrity repair", draft)


class _Work:
    """What is to be done to the rows of one database."""

    def __init__(self, app: App, db: Readable, links: Sequence[CrossLink], *, orphans: bool) -> None:
        self._app, self._db = app, db
        #: table, column, what it holds, what it gets, and of how many rows
        self._renamed: list[tuple[str, str, object, object, int]] = []
        #: by table and column: by what it gets, the keys of the rows; and how many rows these are
        self._mended: dict[tuple[str, str, str], dict[object, list[object]]] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}
        #: by table and key column: values of rows that go
        self.gone: dict[tuple[str, str], list[object]] = {}
        self._going: dict[tuple[str, str], int] = {}
        self._wanting, self._keys = 0, list[object]()
        links = [one for one in links if one.table in db.tables() or not one.optional]
        for link in links:
            if link.formerly:
                self._rename(link)
        for link in links:
            if link.repeats or link.every:
                self._mend(link, orphans=orphans)

    # Looking -----------------------------------------------------------------------------------------------

    def _rename(self, link: CrossLink) -> None:
        there = self._app.reader(link.to)
        table, _, name = link.formerly.rpartition(".")
        former, key = find_column(there.tables().get(table), name), link.among[0].rpartition(".")[2]
        if former is None:
            return
        column = Live(self._app.profile, self._db, link.table, link.name).get(link.column)
        rows = there.select(table, [former, key], [Condition(former, "!=", None)])
        before = {row[0]: row[1] for row in rows}
        known = {one for (one,) in there.select(table, [key], [Condition(key, "in", list(before))])}
        for old, number in self._db.tally(link.table, column).items():
            if old in before and old not in known:
                self._renamed.append((link.table, column, old, before[old], number))

    def _mend(self, link: CrossLink, *, orphans: bool) -> None:
        pair = Repeats(self._app, link.database, link)
        seen = pair.compared(every=True)
        mendable = {name: of for name, of in pair.columns.items() if name not in link.derived}
        keys = {key for name in mendable if name in seen.differing for key in seen.differing[name].examples}
        if keys:
            self._compare(pair, mendable, list(keys))
        if link.every:
            self._wanting += seen.wanting.number
            self._keys += seen.wanting.examples[: LISTED - len(self._keys)]
        if orphans:
            self._loose(pair, seen)

    def _compare(self, pair: Repeats, mendable: dict[str, str], keys: Sequence[object]) -> None:
        renamed = {(table, column): set[object]() for table, column, *_ in self._renamed}
        for table, column, old, _, _ in self._renamed:
            renamed[table, column].add(old)
        table = pair.told.table
        for some in _parts(keys):
            wanted = {
                key: values
                for key, *values in pair.there.select(
                    pair.table, [pair.named, *mendable.values()], [Condition(pair.named, "in", some)]
                )
            }
            for key, *values in self._db.select(
                table, [pair.key, *mendable], [Condition(pair.key, "in", some)]
            ):
                for column, held, right in zip(mendable, values, wanted.get(key, values), strict=True):
                    if held == right or held in renamed.get((table, column), ()):
                        continue
                    place = (table, pair.key, column)
                    of = self._mended.setdefault(place, defaultdict(list))[right]
                    if key not in of[-1:]:
                        of.append(key)
                    self._numbers[place] = self._numbers.get(place, 0) + 1

    def _loose(self, pair: Repeats, seen: Comparison) -> None:
        values = list(dict.fromkeys([*seen.loose.examples, *seen.placeholders.examples]))
        if values:
            place = (pair.told.table, pair.key)
            self.gone[place] = values
            self._going[place] = seen.loose_rows + seen.placeholders.number

    # Telling and doing -------------------------------------------------------------------------------------

    def steps(self) -> list[str]:
        """Return what is done, for the plan."""
        told = [
            f"change {column} of {counted(number, 'row')} of {table} from {cut(str(old))} to {cut(str(new))}"
            for table, column, old, new, number in self._renamed
        ]
        told += [
            f"change {column} of {counted(number, 'row')} of {table} to what they repeat"
            for (table, _, column), number in self._numbers.items()
        ]
        return told + [
            f"delete {counted(number, 'row')} of {table} that repeat nothing"
            for (table, _), number in self._going.items()
        ]

    def rows(self) -> dict[str, int]:
        """Return how many rows of each table are touched."""
        found: dict[str, int] = {}
        each = [(table, number) for table, *_, number in self._renamed]
        each += [(table, number) for (table, *_), number in [*self._numbers.items(), *self._going.items()]]
        for table, number in each:
            found[table] = found.get(table, 0) + number
        return found

    def carry_out(self, db: Writable) -> Repaired:
        """Do it."""
        renamed = sum(
            db.update(table, {column: new}, [Condition(column, "=", old)])
            for table, column, old, new, _ in self._renamed
        )
        mended = sum(
            db.update(
                table, {column: right}, [Condition(key, "in", some), Not(Condition(column, "=", right))]
            )
            for (table, key, column), of in self._mended.items()
            for right, keys in of.items()
            for some in _parts(keys)
        )
        deleted = sum(
            db.delete(table, where)
            for (table, key), values in self.gone.items()
            for where in _each(key, values)
        )
        return Repaired(
            renamed=renamed, mended=mended, deleted=deleted, wanting=self._wanting, keys=self._keys
        )


def _parts(values: Sequence[object]) -> Iterator[list[object]]:
    for at in range(0, len(values), BATCH):
        yield list(values[at : at + BATCH])


def _each(key: str, values: Sequence[object]) -> Iterator[list[Where]]:
    """Yield the conditions of rows with these keys, some at a time."""
    if None in values:
        yield [Condition(key, "=", None)]
    for some in _parts([one for one in values if one is not None]):
        yield [Condition(key, "in", some)]
