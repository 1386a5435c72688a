"""Compare rows of one database with the rows of another database that they duplicate, in parts of bounded size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.contract.database import Readable, require_supported
from dbctl.errors.usage import UsageError
from dbctl.profiles.model.integrity import CrossLink
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable

#: Rows of one side in memory; larger tables are compared in several passes.
MAX_ROWS = 250_000
#: Rows per batch of a table with vectors.
BATCH = 5_000
#: Examples of each kind.
EXAMPLES = 5


class DuplicatedColumns:
    """A link whose rows duplicate rows of another database, with its columns in the live schemas."""

    def __init__(self, app: App, database: str, link: CrossLink) -> None:
        """Find the columns.

        Raises:
            SchemaMismatchError: one of the live schemas lacks what the link needs.
        """
        self.link, self.db, self.other_db = link, app.reader(database), app.reader(link.to)
        self.other_table, _, name = link.targets[0].rpartition(".")
        live_table = LiveTable(app.profile, self.db, link.table, link.name)
        other_table = LiveTable(app.profile, self.other_db, self.other_table, link.name)
        self.key, self.other_key = live_table.column(link.column), other_table.column(name)
        pairs = [
            (live_table.optional_column(column), other_table.optional_column(other_column))
            for column, other_column in link.repeats.items()
        ]
        self.columns = {column: other_column for column, other_column in pairs if column and other_column}

    def compare(self, *, keep_all: bool = False) -> Comparison:
        """Compare both sides; ``keep_all`` collects all keys instead of examples.

        Raises:
            UsageError: some keys are texts and others numbers, so that rows may only seem to lack their original.
        """
        comparison = Comparison(keep_all=keep_all)
        comparison.rows = self.db.count(self.link.table)
        comparison.other_rows = self.other_db.count(self.other_table)
        passes = -(-max(comparison.rows, comparison.other_rows, 1) // MAX_ROWS)
        for part in range(passes):
            self._compare_part(comparison, part, passes)
        kinds = comparison.kinds | comparison.other_kinds
        if comparison.unmatched.count and comparison.other_kinds and len(kinds) > 1:
            pair = f"{self.link.table}.{self.key} and {self.other_table}.{self.other_key}"
            raise UsageError(
                detail=f"{self.link.name}: {pair} have keys of different types, so that rows may only seem to lack their original",
                hint="Nothing was changed. Only keys of one type can be compared: correct the keys, or the link in the profile.",
            )
        return comparison

    def _compare_part(self, comparison: Comparison, part: int, passes: int) -> None:
        hashes_by_key = dict[object, tuple[int, ...]]()
        repeat_counts = Counter[object]()
        for key, values in _read_rows(self.db, self.link.table, [self.key, *self.columns], part, passes):
            if key is None or key in self.link.placeholders:
                comparison.placeholders.add(key)
                continue
            comparison.kinds.add(_find_kind(key))
            if key in hashes_by_key:
                repeat_counts[key] += 1
                comparison.duplicates.add(key)
            else:
                hashes_by_key[key] = tuple(map(_hash, values))
        other_columns = [self.other_key, *self.columns.values()]
        for key, values in _read_rows(self.other_db, self.other_table, other_columns, part, passes):
            hashes = hashes_by_key.pop(key, None)
            if key is not None:
                comparison.other_kinds.add(_find_kind(key))
            if hashes is None:
                comparison.missing.add(key)
                continue
            for column, expected, value in zip(self.columns, hashes, values, strict=True):
                if expected != _hash(value):
                    comparison.differing.setdefault(column, KeySample(comparison.keep_all)).add(key)
        for key in hashes_by_key:
            comparison.unmatched.add(key)
            comparison.unmatched_rows += 1 + repeat_counts[key]


def _find_kind(key: object) -> type:
    """Return the type of a key; numbers of several types may be equal, texts and bytes equal only their like."""
    return type(key) if isinstance(key, (str, bytes)) else object


def _hash(value: object) -> int:
    """Return a hash of a value; that of Python is the same for -1 and -2."""
    return hash("-1") if value == -1 else hash(value)


def _read_rows(
    db: Readable, table: str, columns: Sequence[str], part: int, passes: int
) -> Iterator[tuple[object, Sequence[object]]]:
    """Yield key and values of the rows of one pass."""
    with stream_batches(db, table, columns) as row_batches:
        for batch in row_batches:
            signals.raise_if_interrupted()
            for key, *values in batch:
                if passes == 1 or hash(key) % passes == part:
                    yield key, values


class KeySample:
    """The number of keys, and examples of them."""

    def __init__(self, keep_all: bool) -> None:  # noqa: FBT001 - only Comparison creates it
        self.count, self.examples, self._keep_all = 0, list[object](), keep_all

    def add(self, key: object) -> None:
        self.count += 1
        if self._keep_all or len(self.examples) < EXAMPLES:
            self.examples.append(key)


class Comparison:
    """Differences between both sides."""

    def __init__(self, *, keep_all: bool) -> None:
        self.keep_all = keep_all
        self.rows = self.other_rows = 0  #: of the duplicated table, and of the original
        self.unmatched = KeySample(keep_all)  #: rows without an original
        self.missing = KeySample(keep_all)  #: originals without a duplicate
        self.unmatched_rows = 0
        self.duplicates = KeySample(keep_all)  #: further rows with the same key
        self.placeholders = KeySample(keep_all)  #: placeholder rows
        self.differing: dict[str, KeySample] = {}  #: by column
        self.kinds, self.other_kinds = set[type](), set[type]()  #: the types of the keys of both sides


@contextmanager
def stream_batches(
    db: Readable, table: str, columns: Sequence[str]
) -> Iterator[Iterator[Sequence[tuple[object, ...]]]]:
    """Stream the rows of a table in batches.

    Raises:
        NotSupportedError: the engine cannot stream rows.
    """
    if db.vectors:
        yield db.vectors.stream_vectors(table, columns, batch_size=BATCH)
        return
    hint = "Its engine cannot stream rows."
    streams = require_supported(db, db.streams, "comparing its rows", hint)
    with streams.stream(table, columns) as stream:
        yield stream.batches
