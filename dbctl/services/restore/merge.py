"""Rows of a backup brought into the tables that are there, by their primary key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from dbctl import signals
from dbctl.engines.contract import Capability, Condition, Readable, Table, Writable
from dbctl.engines.sql import Aside, LaysAside, Standing
from dbctl.errors import (
    AlreadyExistsError,
    BuiltInRoleError,
    NotSupportedError,
    TableMissingError,
    TableNotRestoredError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import Value, counted
from dbctl.profiles.model import Users
from dbctl.services.app import App, Live, exactly, hidden, hint, streams
from dbctl.services.backup import Manifest, Member, Repository
from dbctl.services.restore.source import members, want_copyable
from dbctl.services.rules import RowRules

PURPOSE = "restore apply --table"
#: What a rule raises over a row of a backup.
REFUSALS = (AlreadyExistsError, BuiltInRoleError, ValueInvalidError)
#: Rows of one table that may have to be compared with those that are there, each by its key.
MOST_DOUBTFUL = 100_000


class TableRestored(Value, frozen=True, kw_only=True):
    """One table that was brought back."""

    table: str  #: in the backup
    into: str  #: now
    inserted: int
    replaced: int
    same: int  #: rows of which the table has the very same
    skipped: int  #: rows of which it has another one, which stays
    stays: Sequence[str] = ()  #: columns that rows which are there keep as they are
    left_out: Sequence[str] = ()  #: columns of the backup that the table has not


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One table, as it is in the backup and now."""

    name: str
    compared: Sequence[str]  #: columns by which rows differ, and which are replaced
    stays: Sequence[str]
    left_out: Sequence[str]
    aside: Aside
    key: Sequence[str]
    judged: JudgedRows


class JudgedRows:
    """Rows of a backup on their way aside, of which those are collected that a rule may refuse."""

    def __init__(self, rules: RowRules, table: str, columns: Sequence[str], rows: Rows) -> None:
        self._rules, self._table, self._columns, self._rows = rules, table, columns, rows
        self._rules.prepare()
        self.doubtful: list[tuple[int, dict[str, object]]] = []  #: number in the backup, and the row

    def __iter__(self) -> Iterator[Sequence[object]]:
        for number, values in enumerate(self._rows, 1):
            if self._rules:
                row = dict(zip(self._columns, values, strict=True))
                if self._rules.protects or self._fault(row):
                    self.doubtful.append((number, row))
                    if len(self.doubtful) > MOST_DOUBTFUL:
                        raise UsageError(
                            detail=f"--table: {self._table} of the backup has too many rows to judge"
                        )
            yield values

    def _fault(self, row: dict[str, object]) -> bool:
        try:
            self._rules.check_added(row)
        except REFUSALS:
            return True
        return False


class Merge:
    """What becomes of the rows of some tables."""

    def __init__(self, app: App, database: str, wanted: Wanted, backup: str) -> None:
        self._app, self._database, self._wanted, self._backup = app, database, wanted, backup
        self._replaces = wanted.merge == "replace"

    def parts(self, source: Readable, db: Writable) -> list[Part]:
        """Lay the rows of the backup aside, those first to which others point.

        Raises:
            TableNotRestoredError: a table cannot take them.
        """
        return [self._part(source, db, name) for name in parents_first(db, self._wanted.tables)]

    def _part(self, source: Readable, db: Writable, name: str) -> Part:
        then, live = table_of(source, name), db.tables().get(name)
        if live is None or live.view:
            instead = (
                f"--as {name} makes one of it, without what belongs to it: indexes, keys to others, triggers."
            )
            raise self._refusal(name, "there is no such table now", instead)
        if name in self._sessions():
            reason = "they keep users signed in, and what was ended since would be valid again"
            raise self._refusal(
                name, reason, f"--as NEW shows them in a table of their own: --as {name}_then"
            )
        own = [one.name for one in live.columns.values() if not one.generated]
        columns = [one for one in own if one in then.columns]
        key = [one.name for one in live.columns.values() if one.key]
        as_new = f"--as NEW brings the rows into a table of their own: --as {name}_then"
        if not key:
            raise self._refusal(name, "it has no primary key to know rows by", as_new)
        if lacking := [one for one in key if one not in columns]:
            raise self._refusal(name, f"the backup has no {', '.join(lacking)}, which is of its key", as_new)
        if lacking := [one.name for one in live.columns.values() if one.required and one.name not in columns]:
            reason = f"every row wants a value for {', '.join(lacking)}, and the backup has none"
            raise self._refusal(name, reason, as_new)
        if void := [one for one in key if source.count(name, [Condition(one, "=", None)])]:
            reason = f"the backup has rows without {', '.join(void)}, which nothing tells from each other"
            raise self._refusal(name, reason, as_new)
        secret = hidden(self._app, self._database, db).get(name, [])
        rules = RowRules(self._app, self._database, Live(self._app.profile, db, name, PURPOSE))
        judged = JudgedRows(rules, name, columns, Rows(source, db, name, name, columns))
        aside = lays_aside(db).aside(name, key, columns, judged)
        return Part(
            name=name,
            compared=[one for one in columns if one not in key and one not in secret],
            stays=[one for one in own if one not in columns or (one in secret and one not in key)],
            left_out=[one for one in then.columns if one not in live.columns],
            aside=aside,
            key=key,
            judged=judged,
        )

    def _refusal(self, table: str, reason: str, instead: str) -> TableNotRestoredError:
        return TableNotRestoredError(
            table=table,
            target=self._app.target(self._database),
            id=self._backup,
            reason=reason,
            instead=instead,
        )

    def check(self, db: Readable, part: Part) -> None:
        """Refuse rows that the app does not take, of those that would be written; what the table holds already stays.

        Raises:
            TableNotRestoredError: with the number of the row in the backup.
        """
        columns = [*part.key, *part.compared]
        # as the tables are now: rows to which these point may have come in just before
        rules = RowRules(self._app, self._database, Live(self._app.profile, db, part.name, PURPOSE))
        for number, row in part.judged.doubtful:
            where = [Condition(name, "=", row[name]) for name in part.key]
            held = [
                dict(zip(columns, values, strict=True)) for values in db.select(part.name, columns, where)
            ]
            try:
                if not held:
                    rules.check_added(row)
                elif self._replaces:
                    after = {name: row[name] for name in part.compared}
                    rules.check_replaced(held[0], after)
            except REFUSALS as error:
                reason = f"row {number} of the backup: {error}"
                instead = f"--as NEW brings the rows into a table of their own: --as {part.name}_then"
                raise self._refusal(part.name, reason, instead) from error

    def steps(self, one: Part, standing: Standing) -> Iterator[str]:
        """Yield what becomes of the rows of one table, for a plan."""
        if standing.missing:
            yield f"insert {counted(standing.missing, 'row')} into {one.name}, which has none of that key"
        if standing.differing:
            what = "replace" if self._replaces else "leave"
            yield f"{what} {counted(standing.differing, 'row')} of {one.name}, of which the backup has another form"
        if standing.same:
            yield f"leave {counted(standing.same, 'row')} of {one.name}, of which the backup has the very same"
        if one.stays and standing.differing and self._replaces:
            yield f"leave {', '.join(one.stays)} of rows that are there as they are"
        if one.left_out:
            yield f"leave {', '.join(one.left_out)} of the backup out: {one.name} has no such column"

    def taken_in(self, db: Writable, one: Part) -> TableRestored:
        """Bring the rows of one table in; the transaction is open."""
        before = one.aside.standing(one.compared)
        replaced = 0
        if self._replaces and before.differing:
            replaced = one.aside.replace(one.compared)
            exactly(replaced, before.differing, db)
        inserted = one.aside.add() if before.missing else 0
        exactly(inserted, before.missing, db)
        if inserted:
            db.follow_keys(one.name)
        return TableRestored(
            table=one.name,
            into=one.name,
            inserted=inserted,
            replaced=replaced,
            same=before.same,
            skipped=before.differing - replaced,
            stays=one.stays,
            left_out=one.left_out,
        )

    def _sessions(self) -> set[str]:
        """Return the tables whose rows keep users signed in."""
        users = users_in(self._app, self._database)
        return {told.table.removesuffix("?") for told in users.signed_in} if users else set()


def users_in(app: App, database: str) -> Users | None:
    """Return what the profile says of users, where that database holds them."""
    told = app.profile.users
    return told if told and (told.database or app.main()) == database else None


#: ``missing``: rows whose key the table has not; ``replace``: those too, and the rows that differ.
Merging: TypeAlias = Literal["missing", "replace"]


class Wanted(Value, frozen=True, kw_only=True):
    """Which tables are meant, and what becomes of their rows."""

    tables: Sequence[str]
    new: str = ""  #: the name of a new table, for one
    merge: Merging | None = None


class Rows:
    """The rows of a table of the backup, as a table of the live database takes them."""

    def __init__(self, source: Readable, db: Readable, name: str, into: str, columns: Sequence[str]) -> None:
        self._source, self._name, self._columns, self.given = streams(source), name, columns, 0
        self._reads = [streams(db).of_json(into, one) for one in columns]

    def __iter__(self) -> Iterator[Sequence[object]]:
        with self._source.stream(self._name, self._columns) as answer:
            for batch in answer.batches:
                signals.check()
                for row in batch:
                    self.given += 1
                    yield self._taken(row)

    def _taken(self, row: Sequence[object]) -> list[object]:
        try:
            return [
                None if value is None else read(value) for read, value in zip(self._reads, row, strict=True)
            ]
        except ValueInvalidError as error:
            error.details = [f"row {self.given} of {self._name} in the backup"]
            raise


def member_of(app: App, repository: Repository, manifest: Manifest, wanted: Wanted) -> Member:
    """Return the file of a backup that holds the tables; raises as ``RestoringTables``."""
    if bool(wanted.new) == bool(wanted.merge):
        raise UsageError(
            detail="--table: what becomes of its rows? Either --as NEW, or --merge missing, or --merge replace"
        )
    if wanted.new and len(wanted.tables) > 1:
        raise UsageError(detail="--as names one new table; bring them back one by one")
    if len(set(wanted.tables)) < len(wanted.tables):
        raise UsageError(detail="--table gives the same table twice")
    held = {one.database: one for one in members(app, repository, manifest, part=True)}
    having = [one for one in held.values() if wanted.tables[0] in one.rows]
    if len(having) > 1:
        names = " or --db ".join(one.database for one in having)
        raise UsageError(detail=f"--table: say of which database (--db {names})")
    one = (having or list(held.values()))[0]
    want_copyable(one)
    for table in wanted.tables:
        if table not in one.rows:
            raise TableMissingError(
                name=table, target=f"backup {manifest.id}", near=hint(table, list(one.rows))
            )
    return one


def size(app: App, repository: Repository, manifest: Manifest, wanted: Wanted) -> int:
    """Return how many bytes are read, about; raises as ``RestoringTables``."""
    one = member_of(app, repository, manifest, wanted)
    return one.bytes + (one.size if wanted.merge == "replace" else 0)


def table_of(source: Readable, name: str) -> Table:
    found = source.tables().get(name)
    if found is None:
        raise TableMissingError(name=name, target=source.target, near="")
    return found


def parents_first(db: Readable, names: Sequence[str]) -> list[str]:
    """Return tables in an order in which those come first to which others point; in a circle, as they were named."""
    pointing: Mapping[str, set[str]] = {
        name: {one.table for one in db.references(name)} - {name} for name in names if name in db.tables()
    }
    left, ordered = list(names), list[str]()
    while left:
        free = next(
            (one for one in left if not any(one in pointing.get(other, ()) for other in left)), left[0]
        )
        ordered.append(free)
        left.remove(free)
    return ordered


def lays_aside(db: Writable) -> LaysAside:
    if Capability.ASIDE not in db.capabilities or not isinstance(db, LaysAside):
        raise NotSupportedError(
            what="bringing single tables back",
            by=db.target,
            instead="dbctl restore apply brings back all; of a copy beside (--to), dbctl data export and import take rows.",
        )
    return db
