"""Find keys of services in texts of users. Findings contain the location of a key, never the key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from dbctl import signals
from dbctl.engines.contract import Readable, Table
from dbctl.model import Finding, format_count
from dbctl.profiles.model import KeySearch
from dbctl.services.app import KEY_FORMS, App, find_column
from dbctl.services.integrity.duplicated_columns import stream_batches

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
