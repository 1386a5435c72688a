"""Known problems that the profile describes: rows with published secrets, and rows that violate invariants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.database import Condition, Not, Readable, Table, Where
from dbctl.errors.base import Remedy
from dbctl.model import Finding, Secret, format_count
from dbctl.profiles.codecs import EPOCH
from dbctl.profiles.model.integrity import InvariantQuery, KeySearch, KnownSecret
from dbctl.profiles.passwords import estimate_cost, verify_password
from dbctl.services.app.evidence.subjects import Check, Needs, Subject, check
from dbctl.services.app.live_table import LiveTable, find_column, select_variant
from dbctl.services.app.secrets import KEY_FORMS, mask_results
from dbctl.services.checks.base import EXAMPLES, escape_bytes, find_examples, join_examples
from dbctl.services.checks.cross_database import stream_batches
from dbctl.services.deletion.cascade import create_query
from dbctl.services.search.indexes.kinds import list_added_indexes
from dbctl.services.search.indexes.text import RENAME_HINT, find_broken

#: Hashed secrets per check; each takes as long as a sign-in.
MAX_TRIED = 20
#: Hashes that take longer are not tried.
MAX_SECONDS = 1.0
BUILD_HINT, REPAIR_HINT = Remedy("`search index build {search}`"), Remedy("`search index repair {search}`")


def _find_known_secret(subject: Subject, secret: KnownSecret) -> Iterator[Finding]:
    """Yield the rows with a published secret; messages never contain the secret."""
    db = subject.db
    table = secret.table.removesuffix("?")
    if table not in db.tables() and table != secret.table:
        return
    live_table = LiveTable(subject.app.profile, db, table, f"the check {secret.name}")
    where: list[Where] = [*live_table.conditions(secret.where)]
    key, column = live_table.column(secret.key), live_table.column(secret.column)
    if secret.codec is None:
        rows = db.select(table, [key], [*where, Condition(column, "=", secret.value)], limit=EXAMPLES + 1)
        keys = [str(row[0]) for row in rows]
    else:
        keys = list(_find_matching(db, secret, table, (key, column), where))
    if keys:
        message = f"{table} ({key} {join_examples(keys)}) has a published secret ({secret.name})"
        yield subject.finding(secret.severity, "known-secret", message, secret.hint)


def _find_matching(
    db: Readable, secret: KnownSecret, table: str, columns: tuple[str, str], where: list[Where]
) -> Iterator[str]:
    accepted = [secret.codec] if secret.codec else []
    for key, stored in db.select(table, list(columns), where, limit=MAX_TRIED):
        cost = estimate_cost(str(stored))
        is_tried = cost.is_accepted and cost.seconds <= MAX_SECONDS
        if is_tried and verify_password(Secret(secret.value), str(stored), accepted):
            yield str(key)


def _check_invariant(subject: Subject, flaw: InvariantQuery) -> Iterator[Finding]:
    """Yield the rows that violate an invariant."""
    variant = select_variant(flaw.variant, subject.db.tables())
    if variant and variant.times:
        total, examples = _find_invalid_times(subject.db, variant.times)
    else:
        total, examples = _find_violations(subject, flaw)
    if total:
        message = f"{format_count(total, 'row')}: {flaw.name} ({examples})"
        yield subject.finding(flaw.severity, "invariant-violated", message, flaw.hint)


def _find_violations(subject: Subject, flaw: InvariantQuery) -> tuple[int, str]:
    """Return the number of rows that a query finds, and examples."""
    query = create_query(subject.app, flaw, subject.db)
    if query is None:
        return 0, ""
    total, rows = find_examples(subject.db, *query)
    rows = mask_results(subject.app, subject.database, subject.db, query[0], rows)
    return total, join_examples([row[0] for row in rows], total)


def _find_invalid_times(db: Readable, column_names: Sequence[str]) -> tuple[int, str]:
    """Return the number of values that are no times, and examples."""
    counts, examples = dict[str, int](), list[str]()
    for column_name in column_names:
        table, _, column = column_name.partition(".")
        where: list[Where] = [
            Condition(column, "!=", None),
            Not(Condition(column, ">=", EPOCH)),
            Not(Condition(column, "<", EPOCH)),
        ]
        if row_count := db.count(table, where):
            counts[column_name] = row_count
            examples += [escape_bytes(row[0]) for row in db.select(table, [column], where, limit=EXAMPLES)]
    counts_text = ", ".join(f"{column_name}: {row_count}" for column_name, row_count in counts.items())
    examples_text = ", ".join(dict.fromkeys(examples[:EXAMPLES]))
    return sum(counts.values()), f"{counts_text}; {examples_text}"


#: Limits of the scan: rows of a table, and characters of a value.
MAX_ROWS, MAX_LENGTH = 1_000_000, 1_000_000


@check("key-exposed", "key_search", Needs.SCAN)
def check_exposed_keys(subject: Subject) -> Iterator[Finding]:
    """Yield the rows with keys, by column and kind of key; memory use does not depend on the size of the tables."""
    db, section = subject.db, subject.entry
    for table, columns in _list_columns(db, section):
        key = table.primary_key
        search = _KeyScanner(columns)
        scanned = search.scan(db, table.name, key)
        for (column, form), rows in search.rows.items():
            row_list = f": {join_examples(search.examples[column, form], rows)}" if key else ""
            message = f"{format_count(rows, 'row')} of {table.name} with a possible key in {column} ({form}){row_list}"
            yield subject.finding(section.severity, "key-exposed", message, section.hint)
        if scanned == MAX_ROWS:
            message = f"only {MAX_ROWS:,} rows of {table.name} were scanned for keys"
            yield subject.finding("info", "not-checked", message, "")


class _KeyScanner:
    """Scanner of one table, which counts rows with keys by column and kind of key."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        forms = {name: rf"(?<![\w-])(?:{form})" for name, form in KEY_FORMS.items()}
        self._any = re.compile("|".join(forms.values()))
        self._forms = {name: re.compile(form) for name, form in forms.items()}
        self.rows: dict[tuple[str, str], int] = {}
        self.examples: dict[tuple[str, str], list[str]] = {}

    def scan(self, db: Readable, table: str, key: Sequence[str]) -> int:
        """Scan a table; return the number of scanned rows."""
        scanned = 0
        with stream_batches(db, table, [*key, *self._columns]) as row_batches:
            for row in chain.from_iterable(row_batches):
                if scanned == MAX_ROWS:
                    break
                scanned += 1
                if not scanned % 1000:
                    signals.raise_if_interrupted()
                self._scan_row(" ".join(map(str, row[: len(key)])), row[len(key) :])
        return scanned

    def _scan_row(self, key: str, values: Sequence[object]) -> None:
        for column, value in zip(self._columns, values, strict=True):
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            if not isinstance(text, str) or not self._any.search(text, 0, MAX_LENGTH):
                continue
            for form, pattern in self._forms.items():
                if pattern.search(text, 0, MAX_LENGTH):
                    entry = (column, form)
                    self.rows[entry] = self.rows.get(entry, 0) + 1
                    if self.rows[entry] <= EXAMPLES:
                        self.examples.setdefault(entry, []).append(escape_bytes(self._any.sub("***", key)))


def _list_columns(db: Readable, section: KeySearch) -> list[tuple[Table, list[str]]]:
    columns_by_table: dict[str, list[str]] = {}
    tables = db.tables()
    for qualified_name in section.columns:
        table, _, name = qualified_name.rpartition(".")
        column = find_column(tables.get(table), name)
        if column:
            columns_by_table.setdefault(table, []).append(column)
    return [(tables[name], columns) for name, columns in columns_by_table.items()]


@check("known-secret")
def check_known_problems(subject: Subject) -> Iterator[Finding]:
    """Yield broken indexes of searches, published secrets and violated invariants."""
    app, database = subject.app, subject.database
    for search, state, message in find_broken(app, database):
        repair = RENAME_HINT if state.is_foreign else REPAIR_HINT
        hint = repair.write(app.name, {"search": search.name})
        yield subject.finding("warning", "text-index-broken", message, hint)
    for search, index in list_added_indexes(app, database):
        build = BUILD_HINT.write(app.name, {"search": search.name})
        for finding in index.check_state():
            yield structs.replace(finding, hint=build)
    for known_secret in app.profile.known_secret:
        if app.resolve_database(known_secret) == database:
            yield from _find_known_secret(subject, known_secret)
    for flaw in app.profile.invariant:
        if app.resolve_database(flaw) == database:
            yield from _check_invariant(subject, flaw)


INVARIANTS = Check(
    "invariant-violated", lambda subject: _check_invariant(subject, subject.entry), "invariant", Needs.SCAN
)
