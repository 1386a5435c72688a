"""Create missing vectors: the configured embedder computes them from the texts of the app."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl import progress, signals
from dbctl.engines.contract.database import Condition, Readable, Where, after_key
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.usage import UsageError
from dbctl.extensions.semantic.embedders import Embedder, create_embedder
from dbctl.extensions.semantic.errors import EmbedderFailedError
from dbctl.extensions.semantic.search import SemanticSearch, require_semantic, warn_about_model
from dbctl.extensions.semantic.store_vector import VectorSource
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, format_count, split_batches
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.signals import Interrupted

#: Rows per read, and vectors per transaction.
READ_BATCH, WRITE_BATCH = 2_000, 50
#: Consecutive failures of the embedder that end the work.
MAX_FAILURES = 3
#: Keys of failures in a result.
MAX_LISTED = 1_000


class MakeVectorsResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``search vectors make``."""

    is_timed = True

    created: int
    remaining: int  #: rows still without a vector, including failures
    without_text: int  #: rows without a text
    failed: Sequence[str] = ()  #: keys of rows for which the embedder failed

    @property
    def effect(self) -> Effect | None:
        if not (self.created or self.failed):
            return None
        counts = {"failed": len(self.failed), "remaining": self.remaining}
        return Effect("computed", "vector", count=self.created, counts=counts)

    @property
    def exit_status(self) -> int:
        return Exit.PARTIAL if self.failed else Exit.OK


class MissingVectors(Struct, frozen=True, kw_only=True):
    """Rows without a vector."""

    keys: Sequence[str]  #: in order, up to the limit
    count: int  #: of all rows without a vector
    without_text: int


class MakeVectors(Operation):
    """Create missing vectors; write a few in each transaction."""

    def __init__(self, app: App, *, filters: Mapping[str, str], limit: int) -> None:
        """Prepare the embedder for at most ``limit`` vectors; ``filters`` restrict the rows to a user or a chat.

        Raises:
            FeatureMissingError: the profile defines no vectors.
            EmbedderNotConfiguredError: the configuration names no embedder.
        """
        section = require_semantic(app)
        super().__init__(app, app.target(section.database))
        self._filters, self._limit = filters, limit
        self._database = section.database
        self._embedder: Embedder = create_embedder(app.configured, vector_model=section.model)
        self.total = 0  #: vectors to create, for the display of progress
        self._created = 0

    def plan(self) -> Plan:
        """Return the plan, without a request to the embedder."""
        source = self._open_source()
        return self._plan_rows(source, self._find_missing(source))

    def apply(self, confirmed: str | None = None) -> MakeVectorsResult:
        """Create the vectors. After a failure, written vectors remain, and the next run continues.

        Raises:
            PlanChangedError: the plan differs from the confirmed one.
            EmbedderUnreachableError, EmbedderBusyError, EmbedderRefusedError: from the embedder.
            EmbedderFailedError: the embedder failed several times in a row.
            VectorInvalidError: a vector has another length than the stored ones.
        """
        source = self._open_source()
        missing = self._find_missing(source)
        self._require_confirmed(confirmed, lambda: self._plan_rows(source, missing))
        self.total = len(missing.keys)
        try:
            failed = self._create_all(missing.keys)
        except (DbctlError, Interrupted) as error:
            if self._created:  # the hint of the error may claim that nothing was changed
                rest = error.hint.removeprefix("Nothing was changed.").strip() or "Run it again for the rest."
                error.hint = f"{format_count(self._created, 'vector')} written before. {rest}"
            raise
        return MakeVectorsResult(
            created=self._created,
            remaining=missing.count - self._created,
            without_text=missing.without_text,
            failed=failed[:MAX_LISTED],
        )

    # Implementation ----------------------------------------------------------------------------------------

    def _create_all(self, all_keys: Sequence[str]) -> list[str]:
        """Create the vectors of rows; return the keys of those for which the embedder failed."""
        failed, failures = list[str](), 0
        for keys in split_batches(all_keys, WRITE_BATCH):
            source = self._open_source()  # writing closed the readers
            rows = source.read_rows(keys)
            vectors = dict[str, Sequence[float]]()
            try:
                for key, row in rows.items():
                    signals.raise_if_interrupted()
                    text = str(row[source.search.section.text])
                    if not is_storable(text.replace("\0", "")):
                        failed.append(key)  # bytes that are not UTF-8, which no embedder accepts
                        progress.advance(1)
                        continue
                    try:
                        vectors[key] = self._embed(source.search, key, text)
                        failures = 0
                    except EmbedderFailedError:
                        failed.append(key)
                        failures += 1
                        if failures == MAX_FAILURES:
                            raise
                    progress.advance(1)
            finally:
                self._created += self._write_vectors(rows, vectors)
        return failed

    def _open_source(self) -> VectorSource:
        return VectorSource(SemanticSearch(self._app))

    def _plan_rows(self, source: VectorSource, missing: MissingVectors) -> Plan:
        count, section = len(missing.keys), source.search.section
        row_text = f"{format_count(count, 'row')} of {source.related.table}"
        steps = [
            f"send the text of {row_text} to {self._embedder.place}, which returns a vector for each",
            *(f"warning: {note}" for note in warn_about_model(source.search)),
            f"write {format_count(count, 'vector')} into {section.table}",
        ]
        remaining = missing.count - count
        if remaining:
            steps.append(
                f"skip {format_count(remaining, 'row')} without a vector; raise --limit to include them"
            )
        return Plan(
            title=f"Create {format_count(count, 'missing vector')} of {section.table}",
            target=self.target,
            steps=steps if count else [],
            rows={section.table: count} if count else {},
            destructive=bool(count and warn_about_model(source.search)),
        )

    def _find_missing(self, source: VectorSource) -> MissingVectors:
        """Find the rows without a vector; collects at most ``limit`` keys."""
        keys, count, without_text = list[str](), 0, 0
        for batch in self._read_batches(source):
            existing_keys = _find_existing(source.search, source.search.db, [key for key, _ in batch])
            for key, text in batch:
                if str(key) in existing_keys:
                    continue
                if not (isinstance(text, str) and text.strip()):
                    without_text += 1
                    continue
                count += 1
                if len(keys) < self._limit:
                    keys.append(str(key))
        return MissingVectors(keys=keys, count=count, without_text=without_text)

    def _read_batches(self, source: VectorSource) -> Iterator[list[tuple[object, object]]]:
        """Yield batches of key and text of the rows that should have a vector, in the order of keys."""
        conditions: list[Where] = [Condition(source.key, "!=", None)]
        for name, value in self._filters.items():
            if name not in source.columns:
                raise UsageError(
                    detail=f"--{name}: the profile names no such column of {source.related.table}"
                )
            conditions.append(Condition(source.columns[name], "=", value))
        where = list(conditions)
        while True:
            signals.raise_if_interrupted()
            rows = source.db.select(source.related.table, [source.key, source.text], where, limit=READ_BATCH)
            if rows:
                yield [(key, text) for key, text in rows]
            if len(rows) < READ_BATCH:
                return
            where = [*conditions, after_key([source.key], [rows[-1][0]])]

    def _embed(self, search: SemanticSearch, key: str, text: str) -> Sequence[float]:
        vector = list(self._embedder.embed(text))
        search.check_comparable(
            vector, f"the vector of {search.section.row_name} {key} from {self._embedder.place}"
        )
        return vector

    def _write_vectors(self, rows: Mapping[str, Row], vectors: Mapping[str, Sequence[float]]) -> int:
        """Write the vectors of rows whose text is unchanged and that still have no vector; return their number."""
        if not vectors:
            return 0
        with self._app.writer(self._database) as db, db.transaction():
            source = self._open_source()
            section, current_rows = source.search.section, source.read_rows(list(vectors))
            existing_keys = _find_existing(source.search, db, list(vectors))
            missing = {
                key: vector
                for key, vector in vectors.items()
                if key not in existing_keys
                and key in current_rows
                and current_rows[key][section.text] == rows[key][section.text]
            }
            empty_keys = _find_existing(source.search, db, list(missing), has_vector=False)
            for key in empty_keys:
                where = [Condition(source.search.id_column, "=", key)]
                db.update(section.table, {source.search.vector_column: missing[key]}, where)
            new = [
                source.build_row(key, current_rows[key], vector)
                for key, vector in missing.items()
                if key not in empty_keys
            ]
            if new:
                columns = list(new[0])
                db.insert_many(section.table, columns, [[row[name] for name in columns] for row in new])
        return len(missing)


def _find_existing(
    search: SemanticSearch, db: Readable, keys: Sequence[object], *, has_vector: bool = True
) -> set[str]:
    """Return the keys of rows with a vector, or of those in which it is NULL, as text: the databases may store keys as different types."""
    column = search.id_column
    state = Condition(search.vector_column, "!=" if has_vector else "=", None)
    where: list[Where] = [Condition(column, "in", keys), state]
    return {str(key) for (key,) in db.select(search.section.table, [column], where)}
