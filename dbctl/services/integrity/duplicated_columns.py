"""Rows of one database that repeat rows of another, compared with them: both are read once, in memory for a part of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from dbctl import signals
from dbctl.engines.contract import Capability, Readable, Streams
from dbctl.errors import NotSupportedError
from dbctl.profiles.model import CrossLink
from dbctl.services.app import App, Live

if TYPE_CHECKING:
    from dbctl.engines.contract import Vectors

#: Rows of one side that are held at a time; of larger tables a part is looked at in each of several passes.
HELD = 250_000
#: Rows of a table with vectors that come at a time.
BATCH = 5_000
#: Of each kind, so many are remembered for an example.
EXAMPLES = 5


class Repeats:
    """A link whose rows repeat rows of another database, with its columns as the live schemas have them."""

    def __init__(self, app: App, database: str, told: CrossLink) -> None:
        """Look its columns up.

        Raises:
            SchemaLacksError: one of the live schemas lacks what the link needs.
        """
        self.told, self.here, self.there = told, app.reader(database), app.reader(told.to)
        self.table, _, name = told.among[0].rpartition(".")
        here = Live(app.profile, self.here, told.table, told.name)
        there = Live(app.profile, self.there, self.table, told.name)
        self.key, self.named = here.get(told.column), there.get(name)
        pairs = [(here.find(mine), there.find(theirs)) for mine, theirs in told.repeats.items()]
        self.columns = {mine: theirs for mine, theirs in pairs if mine and theirs}

    def compared(self, *, every: bool = False) -> Comparison:
        """Compare both sides; ``every`` keeps all that is wanting or loose, not examples alone."""
        found = Comparison(every=every)
        found.rows, found.others = self.here.count(self.told.table), self.there.count(self.table)
        passes = -(-max(found.rows, found.others, 1) // HELD)
        for part in range(passes):
            self._compare(found, part, passes)
        return found

    def _compare(self, found: Comparison, part: int, passes: int) -> None:
        mine = dict[object, tuple[int, ...]]()
        times = Counter[object]()
        for key, values in _rows(self.here, self.told.table, [self.key, *self.columns], part, passes):
            if key is None or key in self.told.placeholders:
                found.placeholders.add(key)
            elif key in mine:
                times[key] += 1
                found.twice.add(key)
            else:
                mine[key] = tuple(map(hash, values))
        theirs = [self.named, *self.columns.values()]
        for key, values in _rows(self.there, self.table, theirs, part, passes):
            held = mine.pop(key, None)
            if held is None:
                found.wanting.add(key)
                continue
            for column, one, other in zip(self.columns, held, values, strict=True):
                if one != hash(other):
                    found.differing.setdefault(column, Several(found.every)).add(key)
        for key in mine:
            found.loose.add(key)
            found.loose_rows += 1 + times[key]


def _rows(
    db: Readable, table: str, columns: Sequence[str], part: int, passes: int
) -> Iterator[tuple[object, Sequence[object]]]:
    """Yield key and values of the rows that belong to one of several passes."""
    with batches(db, table, columns) as some:
        for batch in some:
            signals.check()
            for key, *values in batch:
                if passes == 1 or hash(key) % passes == part:
                    yield key, values


class Several:
    """How many, and the first of them."""

    def __init__(self, every: bool) -> None:  # noqa: FBT001 - of Comparison
        self.number, self.examples, self._every = 0, list[object](), every

    def add(self, one: object) -> None:
        """Count one more."""
        self.number += 1
        if self._every or len(self.examples) < EXAMPLES:
            self.examples.append(one)


class Comparison:
    """What comparing both sides has told."""

    def __init__(self, *, every: bool) -> None:
        self.every = every
        self.rows = self.others = 0  #: of the table that repeats, and of the other one
        self.loose, self.wanting = (
            Several(every),
            Several(every),
        )  #: what names nothing; rows that nothing names
        self.loose_rows = 0
        self.twice, self.placeholders = (
            Several(every),
            Several(every),
        )  #: rows beside a first one; of no meaning
        self.differing: dict[str, Several] = {}  #: by column


@contextmanager
def batches(
    db: Readable, table: str, columns: Sequence[str]
) -> Iterator[Iterator[Sequence[tuple[object, ...]]]]:
    """Give rows as they come, in whichever way the engine gives them.

    Raises:
        NotSupportedError: it gives none.
    """
    if Capability.VECTORS in db.capabilities:
        yield cast("Vectors", db).vector_stream(table, columns, batch=BATCH)
    elif Capability.STREAM in db.capabilities and isinstance(db, Streams):
        with db.stream(table, columns) as answer:
            yield answer.batches
    else:
        raise NotSupportedError(
            what="comparing its rows", by=db.target, instead="Its engine gives out no rows."
        )
