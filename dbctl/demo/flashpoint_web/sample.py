"""What was asked for, and how its rows get into a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

from dbctl.engines.contract import Migrates, Writable
from dbctl.model import Value
from dbctl.profiles import TIMES


class Sample(Value, frozen=True, kw_only=True):
    """What was asked for."""

    games: int
    users: int
    plays: int
    seed: int
    at: datetime

    def ago(self, days: float) -> datetime:
        """Return the time so many days before the sample's own."""
        return self.at - timedelta(days=days)


def run(db: Writable, *scripts: str) -> None:
    """Run scripts, each in a transaction of its own."""
    engine = cast("Migrates", db)
    for script in scripts:
        with engine.schema_transaction():
            for _line, sql in engine.language.split(script):
                engine.run_statement(sql)


def insert(db: Writable, columns: Mapping[str, str], table: str, rows: Iterable[Sequence[object]]) -> int:
    """Insert rows whose values are in the order of the table's ``columns``; return how many."""
    return db.insert_many(table, columns[table].split(), rows)


def stamp(time: datetime) -> str:
    """Return a time as the app writes it."""
    return str(TIMES["iso-ms"](time))
