"""Rows that should not be, as the profile tells of them: secrets that everybody can know, and states that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract import Condition, Not, Readable, Where
from dbctl.model import Secret, Value, before, counted, read_span
from dbctl.profiles import EPOCH, HASHES, TIMES
from dbctl.profiles.model import Flaw, FlawShape, KnownSecret
from dbctl.services.app import App, Live, has

#: A row whose secret is hashed is tried at most so often: one try takes as long as a sign-in.
TRIED = 20
#: A stored hash that is dearer than this is not tried: a hostile database could keep dbctl busy for days.
DEAREST = 14
EXAMPLES = 5


class Question(Value, frozen=True, kw_only=True):
    """How a database is asked for rows that should not be."""

    sql: str
    parameters: Mapping[str, object]


class Suspicion(Value, frozen=True, kw_only=True):
    """What was found."""

    message: str
    rows: int


def known(app: App, db: Readable, told: KnownSecret) -> Suspicion | None:
    """Return which rows have a secret that everybody can know; the secret itself is never told."""
    table = told.table.removesuffix("?")
    if table not in db.tables() and table != told.table:
        return None
    live = Live(app.profile, db, table, f"looking for {told.name}")
    where: list[Where] = [*live.holding(told.where)]
    key, column = live.get(told.key), live.get(told.column)
    if told.codec is None:
        rows = db.select(table, [key], [*where, Condition(column, "=", told.value)], limit=EXAMPLES + 1)
        keys = [str(row[0]) for row in rows]
    else:
        keys = list(_fitting(db, told, table, (key, column), where))
    if not keys:
        return None
    listed = ", ".join(keys[:EXAMPLES]) + (" …" if len(keys) > EXAMPLES else "")
    message = f"{table} ({key} {listed}) has the secret that everybody can know ({told.name})"
    return Suspicion(message=message, rows=len(keys))


def _fitting(
    db: Readable, told: KnownSecret, table: str, columns: tuple[str, str], where: list[Where]
) -> Iterator[str]:
    codec = HASHES[told.codec or "bcrypt"]
    for key, stored in db.select(table, list(columns), where, limit=TRIED):
        if codec.cost(str(stored)) <= DEAREST and codec.fits(Secret(told.value), str(stored)):
            yield str(key)


def question(app: App, told: Flaw, db: Readable) -> Question | None:
    """Return how rows that should not be are asked for; None where the database keeps no such rows."""
    shape = _shape(told, db)
    if shape is None or not shape.sql:
        return None
    given = {"since": TIMES[app.profile.time](before(read_span(told.since)))} if told.since else {}
    return Question(sql=shape.sql.strip(), parameters=given)


def flawed(app: App, db: Readable, told: Flaw) -> Suspicion | None:
    """Return which rows there are of a kind that should not be."""
    shape = _shape(told, db)
    if shape and shape.times:
        return _timeless(db, told, shape.times)
    asked = question(app, told, db)
    if asked is None:
        return None
    sql = f"select q.*, count(*) over () from ({asked.sql}) q limit {EXAMPLES}"  # noqa: S608 - the profile's own
    rows = db.query(sql, asked.parameters)
    if not rows:
        return None
    total = int(str(rows[0][-1]))
    listed = ", ".join(_written(row[0]) for row in rows) + (" …" if total > len(rows) else "")
    return Suspicion(message=f"{counted(total, 'row')}: {told.name} ({listed})", rows=total)


def _shape(told: Flaw, db: Readable) -> FlawShape | None:
    return next((one for one in told.shape if has(db, one.needs)), None)


def _timeless(db: Readable, told: Flaw, places: Sequence[str]) -> Suspicion | None:
    """Return the rows that hold something which is read as no time."""
    counts, examples = dict[str, int](), list[str]()
    for place in places:
        table, _, column = place.partition(".")
        where: list[Where] = [
            Condition(column, "!=", None),
            Not(Condition(column, ">=", EPOCH)),
            Not(Condition(column, "<", EPOCH)),
        ]
        if number := db.count(table, where):
            counts[place] = number
            examples += [_written(row[0]) for row in db.select(table, [column], where, limit=EXAMPLES)]
    if not counts:
        return None
    listed = ", ".join(f"{place}: {number}" for place, number in counts.items())
    shown = ", ".join(dict.fromkeys(examples[:EXAMPLES]))
    total = sum(counts.values())
    return Suspicion(message=f"{counted(total, 'row')}: {told.name} ({listed}; {shown})", rows=total)


def _written(value: object) -> str:
    """Return a value with bytes that are no text spelled out."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
