"""Keys of services that stand in text of people. A finding says where a key is, and never shows any of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from dbctl import signals
from dbctl.engines.contract import Readable, Table
from dbctl.model import Finding, counted
from dbctl.profiles.model import KeySearch
from dbctl.services.app import KEY_FORMS, App, find_column
from dbctl.services.integrity.duplicated_columns import batches

#: Rows of a table, and characters of a value, that are looked at.
ROWS, LONGEST = 1_000_000, 1_000_000
#: Rows of each form and column that a finding names.
EXAMPLES = 5


def findings(app: App, database: str, told: KeySearch) -> Iterator[Finding]:
    """Yield for each column and form which rows hold such keys; memory does not grow with the tables."""
    db, target = app.reader(database), app.target(database)
    for table, columns in _columns(db, told):
        key = [column.name for column in table.columns.values() if column.key]
        search = _Search(columns)
        looked = search.run(db, table.name, key)
        for (column, form), rows in search.rows.items():
            examples = ", ".join(search.examples[column, form]) + (" …" if rows > EXAMPLES else "")
            where = f": {examples}" if key else ""
            message = f"{counted(rows, 'row')} of {table.name} with what looks like a key in {column} ({form}){where}"
            yield Finding(
                target=target, severity=told.severity, code="key-exposed", message=message, hint=told.hint
            )
        if looked == ROWS:
            message = f"keys were looked for in {ROWS:,} rows of {table.name}, and not in those after them"
            yield Finding(target=target, severity="info", code="not-checked", message=message, hint="")


class _Search:
    """Rows of one table that hold keys, counted by column and form."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        forms = {name: rf"(?<![\w-])(?:{form})" for name, form in KEY_FORMS.items()}
        self._any = re.compile("|".join(forms.values()))
        self._forms = {name: re.compile(form) for name, form in forms.items()}
        self.rows: dict[tuple[str, str], int] = {}
        self.examples: dict[tuple[str, str], list[str]] = {}

    def run(self, db: Readable, table: str, key: Sequence[str]) -> int:
        """Look at the rows of a table; return how many these were."""
        looked = 0
        with batches(db, table, [*key, *self._columns]) as some:
            for row in chain.from_iterable(some):
                if looked == ROWS:
                    break
                looked += 1
                if not looked % 1000:
                    signals.check()
                self._look(" ".join(map(str, row[: len(key)])), row[len(key) :])
        return looked

    def _look(self, key: str, values: Sequence[object]) -> None:
        for column, value in zip(self._columns, values, strict=True):
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            if not isinstance(text, str) or not self._any.search(text, 0, LONGEST):
                continue
            for form, pattern in self._forms.items():
                if pattern.search(text, 0, LONGEST):
                    place = (column, form)
                    self.rows[place] = self.rows.get(place, 0) + 1
                    if self.rows[place] <= EXAMPLES:
                        self.examples.setdefault(place, []).append(_without_keys(self._any, key))


def _without_keys(pattern: re.Pattern[str], key: str) -> str:
    """Return the key of a row as it may be shown: it could itself be a key of a service."""
    return pattern.sub("***", key).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _columns(db: Readable, told: KeySearch) -> list[tuple[Table, list[str]]]:
    """Return the columns that are there, by table."""
    found: dict[str, list[str]] = {}
    tables = db.tables()
    for place in told.columns:
        table, _, name = place.rpartition(".")
        column = find_column(tables.get(table), name)
        if column:
            found.setdefault(table, []).append(column)
    return [(tables[name], columns) for name, columns in found.items()]
