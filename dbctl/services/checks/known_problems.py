"""Known problems that the profile describes: rows with published secrets, and rows that violate invariants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from dbctl import signals
from dbctl.engines.contract import Condition, Not, Readable, Table, Where
from dbctl.model import Finding, Secret, Struct, format_count
from dbctl.profiles import EPOCH, estimate_cost, verify_password
from dbctl.profiles.model import InvariantQuery, KeySearch, KnownSecret
from dbctl.services.app import KEY_FORMS, App, LiveTable, find_column
from dbctl.services.checks.duplicated_columns import stream_batches
from dbctl.services.deletion import create_query, select_variant

#: Hashed secrets per check; each takes as long as a sign-in.
MAX_TRIED = 20
#: Hashes that take longer are not tried.
MAX_SECONDS = 1.0
EXAMPLES = 5


class KnownProblem(Struct, frozen=True, kw_only=True):
    """A problem, and the number of affected rows."""

    message: str
    rows: int


def find_known_secret(app: App, db: Readable, secret: KnownSecret) -> KnownProblem | None:
    """Return the rows with a published secret, or None; messages never contain the secret."""
    table = secret.table.removesuffix("?")
    if table not in db.tables() and table != secret.table:
        return None
    live_table = LiveTable(app.profile, db, table, f"the check {secret.name}")
    where: list[Where] = [*live_table.conditions(secret.where)]
    key, column = live_table.column(secret.key), live_table.column(secret.column)
    if secret.codec is None:
        rows = db.select(table, [key], [*where, Condition(column, "=", secret.value)], limit=EXAMPLES + 1)
        keys = [str(row[0]) for row in rows]
    else:
        keys = list(_find_matching(db, secret, table, (key, column), where))
    if not keys:
        return None
    examples = ", ".join(keys[:EXAMPLES]) + (" …" if len(keys) > EXAMPLES else "")
    message = f"{table} ({key} {examples}) has a published secret ({secret.name})"
    return KnownProblem(message=message, rows=len(keys))


def _find_matching(
    db: Readable, secret: KnownSecret, table: str, columns: tuple[str, str], where: list[Where]
) -> Iterator[str]:
    accepted = [secret.codec] if secret.codec else []
    for key, stored in db.select(table, list(columns), where, limit=MAX_TRIED):
        cost = estimate_cost(str(stored))
        is_tried = cost.is_accepted and cost.seconds <= MAX_SECONDS
        if is_tried and verify_password(Secret(secret.value), str(stored), accepted):
            yield str(key)


def find_flaw(app: App, db: Readable, flaw: InvariantQuery) -> KnownProblem | None:
    """Return the rows that violate an invariant, or None."""
    variant = select_variant(flaw, db)
    if variant and variant.times:
        return _find_invalid_times(db, flaw, variant.times)
    query = create_query(app, flaw, db)
    if query is None:
        return None
    sql = f"select q.*, count(*) over () from ({query.sql}) q limit {EXAMPLES}"
    rows = db.query(sql, query.parameters)
    if not rows:
        return None
    total = int(str(rows[0][-1]))
    examples = ", ".join(_format_value(row[0]) for row in rows) + (" …" if total > len(rows) else "")
    return KnownProblem(message=f"{format_count(total, 'row')}: {flaw.name} ({examples})", rows=total)


def _find_invalid_times(
    db: Readable, flaw: InvariantQuery, column_names: Sequence[str]
) -> KnownProblem | None:
    """Return the rows with a value that is not a time, or None."""
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
            examples += [_format_value(row[0]) for row in db.select(table, [column], where, limit=EXAMPLES)]
    if not counts:
        return None
    counts_text = ", ".join(f"{column_name}: {row_count}" for column_name, row_count in counts.items())
    examples_text = ", ".join(dict.fromkeys(examples[:EXAMPLES]))
    total = sum(counts.values())
    return KnownProblem(
        message=f"{format_count(total, 'row')}: {flaw.name} ({counts_text}; {examples_text})", rows=total
    )


def _format_value(value: object) -> str:
    """Return a value as text, with invalid bytes escaped."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


#: Limits of the scan: rows of a table, and characters of a value.
MAX_ROWS, MAX_LENGTH = 1_000_000, 1_000_000
#: Rows in a finding.
EXAMPLES = 5


def find_exposed_keys(app: App, database: str, section: KeySearch) -> Iterator[Finding]:
    """Yield the rows with keys, by column and kind of key; memory use does not depend on the size of the tables."""
    db, target = app.reader(database), app.target(database)
    for table, columns in _list_columns(db, section):
        key = [column.name for column in table.columns.values() if column.is_primary_key]
        search = _KeyScanner(columns)
        scanned = search.scan(db, table.name, key)
        for (column, form), rows in search.rows.items():
            examples = ", ".join(search.examples[column, form]) + (" …" if rows > EXAMPLES else "")
            row_list = f": {examples}" if key else ""
            message = f"{format_count(rows, 'row')} of {table.name} with a possible key in {column} ({form}){row_list}"
            yield Finding(target, section.severity, "key-exposed", message, section.hint)
        if scanned == MAX_ROWS:
            message = f"only {MAX_ROWS:,} rows of {table.name} were scanned for keys"
            yield Finding(target, "info", "not-checked", message, "")


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
                        self.examples.setdefault(entry, []).append(_mask_keys(self._any, key))


def _mask_keys(pattern: re.Pattern[str], key: str) -> str:
    """Return the primary key of a row without keys of services in it."""
    return pattern.sub("***", key).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _list_columns(db: Readable, section: KeySearch) -> list[tuple[Table, list[str]]]:
    """Return the existing columns by table."""
    columns_by_table: dict[str, list[str]] = {}
    tables = db.tables()
    for qualified_name in section.columns:
        table, _, name = qualified_name.rpartition(".")
        column = find_column(tables.get(table), name)
        if column:
            columns_by_table.setdefault(table, []).append(column)
    return [(tables[name], columns) for name, columns in columns_by_table.items()]
