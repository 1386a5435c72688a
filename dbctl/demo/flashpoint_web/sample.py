"""The options of the sample, and functions that write its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.engines.contract import ScriptRunner, Writable, require_part
from dbctl.model import Struct
from dbctl.profiles import TIMES


class Sample(Struct, frozen=True, kw_only=True):
    """The options of the sample."""

    games: int
    users: int
    plays: int
    seed: int
    at: datetime

    def ago(self, days: float) -> datetime:
        """Return the time this many days before the time of the sample."""
        return self.at - timedelta(days=days)


def run_scripts(db: Writable, *scripts: str) -> None:
    """Run scripts, each in a separate transaction."""
    engine = require_part(db, ScriptRunner, "the demo", "Its engine runs no scripts.")
    for script in scripts:
        with engine.schema_transaction():
            for _line, sql in engine.script_dialect.split(script):
                engine.run_statement(sql)


def insert(db: Writable, columns: Mapping[str, str], table: str, rows: Iterable[Sequence[object]]) -> int:
    """Insert rows whose values are in the order of the table's ``columns``; return their number."""
    return db.insert_many(table, columns[table].split(), rows)


def format_time(time: datetime) -> str:
    """Return a time in the format of the app."""
    return str(TIMES["iso-ms"](time))
