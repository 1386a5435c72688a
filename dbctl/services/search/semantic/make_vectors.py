"""Vectors that are missing: the configured embedder makes them of the texts that the app stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dbctl import signals
from dbctl.embedders import Embedder, registry
from dbctl.engines.contract import Behind, Condition, Where
from dbctl.errors import EmbedderFailedError, Exit, PlanChangedError, UsageError
from dbctl.files import silent
from dbctl.model import Done, Plan, Value, counted
from dbctl.services.app import App
from dbctl.services.search.semantic.search import Meaning, warn_of_model
from dbctl.services.search.semantic.store_vector import VectorSource

#: Rows that are looked at together, and vectors that are written in one transaction.
LOOKED, WRITTEN = 2_000, 50
#: Failures of the embedder, one after the other, that end the work.
FAILURES = 3
#: Keys of failures that an answer lists; it counts all of them.
LISTED = 1_000

Row = Mapping[str, object]


class VectorsMade(Done, frozen=True, kw_only=True):
    """Answer of ``search vectors make``."""

    made: int
    left: int  #: rows without a vector that remain, those of failures included
    without_text: int  #: rows that have no text to make a vector of
    failed: Sequence[str] = ()  #: keys of rows of which the embedder made no vector

    @property
    def changed(self) -> bool:
        """Whether any vector was made."""
        return bool(self.made)

    @property
    def exit_status(self) -> int:
        return Exit.PARTIAL if self.failed else Exit.OK


class Missing(Value, frozen=True, kw_only=True):
    """Rows without a vector."""

    keys: Sequence[str]  #: as many as were asked for, by key
    number: int  #: all of them
    without_text: int


class VectorMaking:
    """Vectors that are about to be made: a plan, and work that writes a few in each transaction."""

    def __init__(
        self, app: App, *, filters: Mapping[str, str], limit: int, advance: Callable[[float], None] = silent
    ) -> None:
        """Describe the work.

        Args:
            app: the app.
            filters: a user or a chat whose rows alone count.
            limit: how many vectors may be made.
            advance: told of each vector.

        Raises:
            AbilityMissingError: the profile tells of no vectors.
            EmbedderUnsetError: the configuration names no embedder.
        """
        told = app.ability(app.profile.semantic, "search by meaning")
        self._opened, self._filters, self._limit, self._advance = app, filters, limit, advance
        self._database = told.database
        self._embedder: Embedder = registry.of(app.configured, model=told.model)
        self.app, self.protected, self.target = app.name, app.protected, app.target(told.database)
        self.total = 0  #: vectors that are to be made, for the display of progress

    def plan(self) -> Plan:
        """Return what would be done; the embedder is not asked."""
        source = self._source()
        return self._plan(source, self._missing(source))

    def apply(self, seen: str | None = None) -> VectorsMade:
        """Make the vectors; what was written stays where the embedder fails, and the next run goes on from there.

        Raises:
            PlanChangedError: other rows lack a vector than a person agreed to.
            EmbedderUnreachableError, EmbedderBusyError, EmbedderRefusedError: as the embedder does.
            EmbedderFailedError: it made no vector several times in a row.
            VectorInvalidError: it made a vector of another length.
        """
        source = self._source()
        missing = self._missing(source)
        if seen is not None and self._plan(source, missing).digest != seen:
            raise PlanChangedError(target=self.target)
        self.total = len(missing.keys)
        made, failed = 0, list[str]()
        failures = 0
        for at in range(0, len(missing.keys), WRITTEN):
            source = self._source()  # writing closed what was open for reading
            rows, vectors = source.read(missing.keys[at : at + WRITTEN]), dict[str, Sequence[float]]()
            try:
                for key, row in rows.items():
                    signals.check()
                    try:
                        vectors[key] = self._vector(source.meaning, key, str(row[source.meaning.told.text]))
                        failures = 0
                    except EmbedderFailedError:
                        failed.append(key)
                        failures += 1
                        if failures == FAILURES:
                            raise
                    self._advance(1)
            finally:
                made += self._write(rows, vectors)
        return VectorsMade(
            made=made,
            left=missing.number - made,
            without_text=missing.without_text,
            failed=failed[:LISTED],
        )

    # Within ------------------------------------------------------------------------------------------------

    def _source(self) -> VectorSource:
        return VectorSource(Meaning(self._opened))

    def _plan(self, source: VectorSource, missing: Missing) -> Plan:
        number, told = len(missing.keys), source.meaning.told
        what = f"{counted(number, 'row')} of {source.rows.table}"
        steps = [
            f"send the text of {what} to {self._embedder.place}, which makes a vector of each",
            *(f"attention: {remark}" for remark in warn_of_model(source.meaning)),
            f"add {counted(number, 'row')} to {told.table}",
        ]
        left = missing.number - number
        if left:
            steps.append(f"leave {counted(left, 'row')} without a vector; --limit allows more")
        return Plan(
            title=f"Make {counted(number, 'missing vector')} of {told.table}",
            target=self.target,
            steps=steps if number else [],
            rows={told.table: number} if number else {},
            destructive=bool(number and warn_of_model(source.meaning)),
        )

    def _missing(self, source: VectorSource) -> Missing:
        """Return the rows without a vector; memory holds as many keys as vectors may be made."""
        keys, number, without_text = list[str](), 0, 0
        for batch in self._batches(source):
            meaning = source.meaning
            named = [key for key, _ in batch]
            found = meaning.db.select(meaning.told.table, [meaning.id], [Condition(meaning.id, "in", named)])
            held = {row[0] for row in found}
            for key, text in batch:
                if key in held:
                    continue
                if not (isinstance(text, str) and text.strip()):
                    without_text += 1
                    continue
                number += 1
                if len(keys) < self._limit:
                    keys.append(str(key))
        return Missing(keys=keys, number=number, without_text=without_text)

    def _batches(self, source: VectorSource) -> Iterator[list[tuple[object, object]]]:
        """Yield key and text of the rows that should have a vector, by key."""
        chosen: list[Where] = [Condition(source.key, "!=", None)]
        for name, value in self._filters.items():
            if name not in source.columns:
                raise UsageError(detail=f"--{name}: the profile names no such column of {source.rows.table}")
            chosen.append(Condition(source.columns[name], "=", value))
        where = list(chosen)
        while True:
            signals.check()
            rows = source.db.select(source.rows.table, [source.key, source.text], where, limit=LOOKED)
            if rows:
                yield [(key, text) for key, text in rows]
            if len(rows) < LOOKED:
                return
            where = [*chosen, Behind([source.key], [rows[-1][0]])]

    def _vector(self, meaning: Meaning, key: str, text: str) -> Sequence[float]:
        vector = list(self._embedder.embed(text))
        meaning.comparable(vector, f"what {self._embedder.place} made of {meaning.told.what} {key}")
        return vector

    def _write(self, rows: Mapping[str, Row], vectors: Mapping[str, Sequence[float]]) -> int:
        """Write vectors of rows that still have the text they were made of, and still have no vector."""
        if not vectors:
            return 0
        with self._opened.writer(self._database, "search vectors make") as db, db.transaction():
            source = self._source()
            meaning = source.meaning
            found = db.select(meaning.told.table, [meaning.id], [Condition(meaning.id, "in", list(vectors))])
            held, now = {row[0] for row in found}, source.read(list(vectors))
            text = meaning.told.text
            new = [
                source.new_row(key, now[key], vector)
                for key, vector in vectors.items()
                if key not in held and key in now and now[key][text] == rows[key][text]
            ]
            if new:
                columns = list(new[0])
                db.insert_many(meaning.told.table, columns, [[row[name] for name in columns] for row in new])
        return len(new)
