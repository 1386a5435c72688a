"""Values that the functions of all samples use: options, random generators, times, and the writer of rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from random import Random
from typing import Any

from dbctl import progress
from dbctl.engines.contract.database import Condition, Writable
from dbctl.extensions.demo.definition import Account, SampleDefinition
from dbctl.extensions.demo.random import hash_password, rng_for
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.live_table import LiveTable

#: Rows per batch and statement, for constant memory.
BATCH = 2_000
#: bcrypt cost of the named accounts (as in the apps), and of the hash that all other users share: separate hashes of 500
#: users would take half a minute.
COST, COMMON_COST = 10, 4


class Sample:
    def __init__(
        self, definition: SampleDefinition, counts: dict[str, int], *, seed: int, at: datetime, variant: str
    ) -> None:
        self.definition, self.seed, self.at, self.variant = definition, seed, at, variant
        self.counts = {kind: max(count, definition.minimum.get(kind, 0)) for kind, count in counts.items()}
        self.words: Any = definition.words

    def rng_for(self, *key: str | int) -> Random:
        """Return the random generator of one object."""
        return rng_for(self.seed, *key)

    def ago(self, days: float) -> datetime:
        """Return the time this many days before the time of the sample."""
        return self.at - timedelta(days=days)

    def account(self, number: int) -> Account | None:
        """Return the named account that the user with this number has, from 0."""
        accounts = self.definition.accounts
        return accounts[number] if number < len(accounts) else None

    @cached_property
    def common_hash(self) -> str:
        """The password hash that all users without a named account share."""
        return hash_password(self.seed, self.definition.password_of_others, COMMON_COST)

    def password_hash(self, number: int) -> str:
        """Return the password hash of the user with this number."""
        account = self.account(number)
        return hash_password(self.seed, account.password, COST) if account else self.common_hash


class RowWriter:
    """Inserts rows in batches; times and booleans are stored in the format of the app.

    The tables of a batch are written in the order of their first row: add a row after the rows to which it refers.
    """

    def __init__(self, db: Writable, profile: Profile, sample: Sample) -> None:
        self.db, self.counts = db, dict[str, int]()
        self._profile = profile
        self._has_variants = bool(sample.definition.variants)
        self._rows: dict[str, list[dict[str, object]]] = {}
        databases = sample.definition.databases.values()
        self._requested_tables = {
            table
            for database in databases
            for kind, table in database.rows.items()
            if kind in sample.definition.counts
        }

    def add(self, table: str, **values: object) -> None:
        """Insert a row with the same columns as the other rows of the table.

        Tables and columns that the variant of the schema lacks are ignored if the app has several variants.
        """
        rows = self._rows.setdefault(table, [])
        rows.append(values)
        if len(rows) >= BATCH:
            self.flush()

    def update(self, table: str, values: dict[str, object], where: list[Condition]) -> None:
        """Change rows that a migration inserted."""
        live_table = LiveTable(self._profile, self.db, table, "the sample")
        self.db.update(table, {name: live_table.encode(name, value) for name, value in values.items()}, where)

    def flush(self) -> None:
        """Write the rows of the last batch."""
        for table, rows in self._rows.items():
            if not rows or (self._has_variants and table not in self.db.tables()):
                rows.clear()
                continue
            live_table = LiveTable(self._profile, self.db, table, "the sample")
            columns = [name for name in rows[0] if not self._has_variants or name in live_table.table.columns]
            encode = live_table.encode
            self.counts[table] = self.counts.get(table, 0) + self.db.insert_many(
                table, columns, ([encode(name, row[name]) for name in columns] for row in rows)
            )
            if table in self._requested_tables:
                progress.advance(len(rows))
            rows.clear()
