"""Check the consistency of data that an app stores in several places or databases, beyond foreign keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl import signals
from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Condition, Readable, require_supported
from dbctl.engines.sql.catalog import ident, is_storable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.model import Finding, format_count, split_batches
from dbctl.profiles.model.base import is_optional
from dbctl.profiles.model.integrity import CrossLink, Recount
from dbctl.services.app.app import App
from dbctl.services.app.evidence.subjects import Check, DoesNotApplyError, Needs, Subject, check, require
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.secrets import find_secret_columns, mask_results
from dbctl.services.checks.base import EXAMPLES, find_examples, join_examples
from dbctl.services.sessions.rebuild_statistics import create_recount

#: Rows of one side in memory; larger tables are compared in several passes.
MAX_ROWS = 250_000
#: Rows per batch of a table with vectors, and values per query, which bounds the memory for large tables.
BATCH = 5_000
REPAIR_HINT = Remedy("Repair them with: `integrity repair`")
MISSING_HINT = Remedy(
    "The app creates such a row only together with the other row. List them with: `integrity repair`"
)
NO_TABLE_HINT = "The app creates the table with the first row. If it existed, check the path, or restore it from a backup."
DERIVED_HINT = "The row was computed from an older text and must be recomputed."
DUPLICATE_HINT = "The app adds a second row when it recomputes the first; searches return both."
#: Columns of a recount after those of the key: the stored count, and the actual one.
_COUNTS = 2
PLACEHOLDER_HINT = Remedy("Delete them with: `integrity repair --delete-orphans`")


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


@check("missing-reference", "link", Needs.SCAN)
def check_link(subject: Subject) -> Sequence[Finding]:
    """Return the differences between the rows of two databases."""
    app, link, db = subject.app, subject.entry, subject.db
    live_table = db.tables().get(link.table)
    if link.optional and live_table is None:
        return _check_missing_table(subject, link)
    if live_table and find_column(live_table, link.column) is None and is_optional(link.column):
        raise DoesNotApplyError
    if link.repeats or link.every:
        return list(_check_duplicated(subject, link))
    other_db = app.reader(link.to)
    link_column = LiveTable(app.profile, db, link.table, link.name).column(link.column)
    targets = [target.rpartition(".")[::2] for target in link.targets]
    first, *others = targets
    targets = [first, *(pair for pair in others if pair[0] in other_db.tables())]
    secret_columns = find_secret_columns(app, subject.database, db, [link.table]).get(link.table, ())
    is_secret, values = link_column in secret_columns, 0
    missing_values, renamed_values = (
        _UnmatchedValues(is_secret=is_secret),
        _UnmatchedValues(is_secret=is_secret),
    )
    table, _, name = link.renamed_from.rpartition(".")
    former = find_column(other_db.tables().get(table), name)
    former_targets = [(table, former)] if former else []
    for batch in _read_batches(db, link.table, link_column):
        values += len(batch)
        searched = [value for value in batch if value not in link.placeholders]
        missing = _find_missing(other_db, targets, searched)
        unknown = _find_missing(other_db, former_targets, missing)
        missing_values.add(batch, unknown)
        renamed_values.add(batch, [value for value in missing if former and value not in set(unknown)])
    column_name = f"{link.table}.{link_column}"
    findings = []
    if renamed_values.values:
        message = f"{link.name}: {format_count(renamed_values.rows, 'row')} of {link.table} use former keys of {link.to}: {renamed_values.format_examples()}"
        findings.append(subject.finding("warning", "renamed-key", message, REPAIR_HINT))
    if missing_values.values:
        verb = "is" if missing_values.values == 1 else "are"
        message = (
            f"{link.name}: {missing_values.values} of {format_count(values, 'value')} of {column_name} {verb} not in {link.to}"
            f" ({format_count(missing_values.rows, 'row')}): {missing_values.format_examples()}"
        )
        findings.append(subject.finding(link.severity, "missing-reference", message, link.hint))
    return findings


def _check_missing_table(subject: Subject, link: CrossLink) -> list[Finding]:
    """Return a finding for a missing table, unless it would be empty."""
    table = link.targets[0].rpartition(".")[0]
    row_count = require(subject.app.reader(link.to).count(table) if link.every else 0)
    verb, rows = ("has" if row_count == 1 else "have"), format_count(row_count, "row")
    message = (
        f"{link.name}: table {link.table} is missing; {rows} of {table} in {link.to} {verb} no row there"
    )
    return [subject.finding("warning", "missing-rows", message, NO_TABLE_HINT)]


class _UnmatchedValues:
    """Values without a matching row: their number, the number of rows, and examples."""

    def __init__(self, *, is_secret: bool) -> None:
        self.values = self.rows = 0
        self._is_secret = is_secret
        self._examples: list[object] = []

    def add(self, batch: Mapping[object, int], values: Sequence[object]) -> None:
        self.values += len(values)
        self.rows += sum(batch[value] for value in values)
        self._examples += values[: EXAMPLES - len(self._examples)]

    def format_examples(self) -> str:
        return MASK if self._is_secret else join_examples(self._examples, self.values)


def _find_missing(
    other_db: Readable, targets: Sequence[tuple[str, str]], values: Sequence[object]
) -> list[object]:
    """Return the values that no target column contains, first those that none can store."""
    unstorable = [value for value in values if not _is_text_storable(value)]
    remaining = [value for value in values if _is_text_storable(value)]
    for table, column in targets:
        where = [Condition(column, "in", remaining)]
        existing = {row[0] for row in other_db.select(table, [column], where)} if remaining else set()
        # the database finds the number 5 by the text '5', and the reverse
        existing |= set(map(str, existing))
        remaining = [value for value in remaining if existing.isdisjoint((value, str(value)))]
    return unstorable + remaining


def _check_duplicated(subject: Subject, link: CrossLink) -> Iterator[Finding]:
    """Yield the differences between duplicated rows and their originals."""
    duplicated = DuplicatedColumns(subject.app, subject.database, link)
    compared, table, other = duplicated.compare(), link.table, duplicated.other_table
    if compared.unmatched.count:
        rows = f"{compared.unmatched_rows} of {format_count(compared.rows, 'row')} of {table}"
        message = f"{link.name}: {rows} have no row of {other} in {link.to}: {_list_keys(compared.unmatched)}"
        yield subject.finding(link.severity, "missing-reference", message, link.hint)
    if link.every and compared.missing.count:
        verb = "has" if compared.missing.count == 1 else "have"
        rows = (
            f"{compared.missing.count} of {format_count(compared.other_rows, 'row')} of {other} in {link.to}"
        )
        message = f"{link.name}: {rows} {verb} no row of {table}: {_list_keys(compared.missing)}"
        yield subject.finding("warning", "missing-rows", message, MISSING_HINT)
    for column, sample in compared.differing.items():
        pair = f"{table}.{column} differs from {other}.{duplicated.columns[column]}"
        message = f"{link.name}: {pair} in {format_count(sample.count, 'row')}: {_list_keys(sample)}"
        hint = DERIVED_HINT if column in link.derived else REPAIR_HINT
        yield subject.finding("warning", "copy-differs", message, hint)
    if differing := _compare_by_user(subject.app, duplicated):
        message = f"{format_count(len(differing), 'user')} with different numbers of rows in {table} than in {other}: {join_examples(differing)}"
        yield subject.finding("info", "per-user", f"{link.name}: {message}")
    if compared.duplicates.count:
        rows = f"{format_count(compared.duplicates.count, 'row')} of {table}"
        message = f"{link.name}: {rows} are duplicates: {_list_keys(compared.duplicates)}"
        yield subject.finding("warning", "duplicate", message, DUPLICATE_HINT)
    if compared.placeholders.count:
        rows = f"{format_count(compared.placeholders.count, 'row')} of {table}"
        message = f"{link.name}: {rows} are placeholders: {_list_keys(compared.placeholders)}"
        yield subject.finding("info", "placeholder", message, PLACEHOLDER_HINT)


def _list_keys(sample: KeySample) -> str:
    return join_examples(sample.examples, sample.count)


def _compare_by_user(app: App, duplicated: DuplicatedColumns) -> list[str]:
    """Return the users with different numbers of rows on both sides, largest difference first."""
    users = app.profile.users
    if users is None or app.resolve_database(users) != duplicated.link.to:
        return []
    keys = [
        reference.columns[0]
        for reference in duplicated.other_db.references(users.table)
        if reference.table == duplicated.other_table
    ]
    differences = list[tuple[int, str]]()
    for column, other_column in duplicated.columns.items():
        if other_column in keys:
            counts = duplicated.db.count_by(duplicated.link.table, column)
            other_counts = duplicated.other_db.count_by(duplicated.other_table, other_column)
            differences += [
                (abs(counts.get(user, 0) - other_count), f"{user} {counts.get(user, 0)}, not {other_count}")
                for user, other_count in other_counts.items()
                if counts.get(user, 0) != other_count
            ]
    return [text for _, text in sorted(differences, key=lambda entry: -entry[0])]


def _read_batches(db: Readable, table: str, column: str) -> Iterator[dict[object, int]]:
    """Yield batches of the values of a column, with the number of rows of each."""
    try:
        yield from _query_batches(db, ident(table), ident(column))
    except NotSupportedError:  # without SQL, all values are read into memory
        counts = db.count_by(table, column).items()
        yield from map(dict, split_batches((entry for entry in counts if entry[0] is not None), BATCH))


def _query_batches(db: Readable, table: str, column: str) -> Iterator[dict[object, int]]:
    where, parameters = f"{column} is not null", dict[str, object]()
    while True:
        sql = f"select {column}, count(*) from {table} where {where} group by {column} order by {column} limit {BATCH}"
        batch = {value: int(str(count)) for value, count in db.query(sql, parameters)}
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        last = list(batch)[-1]
        where = f"{column} > :last" if _is_text_storable(last) else f"{column} > cast(:last as text)"
        parameters = {
            "last": last if _is_text_storable(last) else str(last).encode("utf-8", "surrogateescape")
        }


def _is_text_storable(value: object) -> bool:
    """Whether another database can store the value: text must be valid UTF-8."""
    return not isinstance(value, str) or is_storable(value)


def _check_recount(subject: Subject, recount: Recount) -> Sequence[Finding]:
    db = subject.db
    require(all(table in db.tables() for table in recount.needs))
    total, rows = find_examples(db, recount.sql)
    if not total:
        return []
    if len(rows[0]) < _COUNTS:
        raise UsageError(
            detail=f"{recount.name}: the query returns {format_count(len(rows[0]), 'column')}, without the stored and the actual count",
            hint="Correct the recount in the profile.",
        )
    rows = mask_results(subject.app, subject.database, db, recount.sql, rows)
    examples = [
        f"{', '.join(map(str, key))}: stored {'none' if stored is None else stored}, counted {'none' if actual is None else actual}"
        for *key, stored, actual in rows
    ]
    message = f"{recount.name}: {total} disagree{'s' if total == 1 else ''} with a recount ({join_examples(examples, total, '; ')})"
    return [subject.finding(recount.severity, "recount", message, recount.hint)]


@check("recount", "rebuild", Needs.SCAN)
def check_statistics(subject: Subject) -> Sequence[Finding]:
    """Compare one figure of statistics with a recount."""
    section, figure = subject.entry, subject.figure
    figures = require(create_recount(subject.app, subject.db, section))
    recount = Recount(
        name=f"{section.name}, {figure}",
        sql=figures.wrong_rows_sql(figure),
        severity=section.severity,
        hint=section.hint,
    )
    return _check_recount(subject, recount)


RECOUNTS = Check("recount", lambda subject: _check_recount(subject, subject.entry), "recount", Needs.SCAN)
