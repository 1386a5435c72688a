"""A table of the live schema as a section of the profile sees it: names resolved, values encoded and decoded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from dbctl.engines.contract import Capability, Condition, HoldsTimeForms, Readable, Streams, Table
from dbctl.errors import NotSupportedError, SchemaLacksError
from dbctl.model import now
from dbctl.profiles import BOOLEANS, TIMES, TimeCodec
from dbctl.profiles.model import Name, Profile


def find_column(table: Table | None, name: Name | None) -> str | None:
    """Return the first of the columns in ``name`` that the live table has; a ``?`` at its end says it may lack it."""
    for one in [name] if isinstance(name, str) else name or []:
        plain = one.removesuffix("?")
        if table is not None and plain in table.columns:
            return plain
    return None


def may_lack(name: Name) -> bool:
    """Return whether a deployment may do without the column."""
    return any(one.endswith("?") for one in ([name] if isinstance(name, str) else name))


def has(db: Readable, needs: Sequence[str]) -> bool:
    """Whether a database has every ``table`` or ``table.column`` that is needed."""
    tables = db.tables()
    for one in needs:
        table, _, column = one.partition(".")
        if table not in tables or (column and column not in tables[table].columns):
            return False
    return True


def default_times(profile: Profile, db: Readable, table: str, given: Collection[str]) -> dict[str, object]:
    """Return the present moment for each column of a new row that a default of the database would fill with it.

    The default writes a form of its own; what is returned has the form of the column, so that the column keeps its order.
    """
    if not isinstance(db, HoldsTimeForms) or table not in db.tables():
        return {}
    clocks = [column for column in db.clocks(table) if column not in given]
    if not clocks:
        return {}
    live, moment = Live(profile, db, table, "a new row"), now()
    return {name: live.encode(name, moment) for name in clocks}


class Live:
    """One table of one open database."""

    def __init__(self, profile: Profile, db: Readable, table: str, purpose: str) -> None:
        """Look ``table`` up.

        Raises:
            SchemaLacksError: the live schema has no such table.
        """
        self.profile, self.db, self.name, self._purpose = profile, db, table, purpose
        found = db.tables().get(table)
        if found is None:
            raise SchemaLacksError(target=db.target, what=f"table {table}", purpose=purpose)
        self.table = found
        self._time_forms: dict[str, TimeCodec] = {}

    def find(self, name: Name | None) -> str | None:
        """Return the column, or None where it may be missing and is.

        Raises:
            SchemaLacksError: it is missing, and its name does not say that it may be.
        """
        column = find_column(self.table, name)
        if column is None and name and not may_lack(name):
            raise self._lacks(name)
        return column

    def get(self, name: Name) -> str:
        """Return the column; raises SchemaLacksError where it is missing."""
        column = self.find(name)
        if column is None:
            raise self._lacks(name)
        return column

    def encode(self, column: str, value: object) -> object:
        """Return what is stored for ``value``: times and booleans as the profile writes them, the rest as it is."""
        native = self.table.columns[column].native
        if isinstance(value, datetime):
            return value if native == "time" else TIMES[self.time_form(column)](value)
        if isinstance(value, bool):
            return value if native == "boolean" else BOOLEANS[self.profile.boolean][value]
        return value

    def time_form(self, column: str) -> TimeCodec:
        """Return the form in which a time is written, where the column has no native type.

        It is the app's form, except where the newest rows all hold another one: an app of another version, or of
        another kind, wrote them, and the column has to keep its order.
        """
        if column not in self._time_forms:
            held = self.db.newest_time_forms(self.name, column) if isinstance(self.db, HoldsTimeForms) else ()
            other = next((form for form in TIMES if [form] == list(held)), None)
            self._time_forms[column] = other or self.profile.time
        return self._time_forms[column]

    def constants(self, told: Mapping[str, object]) -> dict[str, object]:
        """Return columns and stored values for constants of a profile; those that may be missing and are, left out.

        ``:now`` is the present moment, ``:null`` is NULL.
        """
        values: dict[str, object] = {}
        for name, constant in told.items():
            column = self.find(name)
            if column is not None:
                meant = (
                    {":now": now(), ":null": None}.get(constant, constant)
                    if isinstance(constant, str)
                    else constant
                )
                values[column] = self.encode(column, meant)
        return values

    def holding(self, told: Mapping[str, object]) -> list[Condition]:
        """Return the conditions that columns hold what a profile says: one constant, or one of several."""
        conditions = []
        for name, held in told.items():
            several = isinstance(held, list | tuple)
            for column, value in self.constants({name: None if several else held}).items():
                among = [self.encode(column, one) for one in held] if isinstance(held, list | tuple) else []
                conditions.append(Condition(column, "in" if several else "=", among if several else value))
        return conditions

    def among(self, name: Name, values: list[object]) -> Condition:
        """Return the condition that a column holds one of ``values``."""
        return Condition(self.get(name), "in", values)

    def uncovered(self, covered: set[str]) -> list[str]:
        """Return the columns that a new row needs and ``covered`` does not have."""
        return [
            name for name, column in self.table.columns.items() if column.required and name not in covered
        ]

    def _lacks(self, name: Name) -> SchemaLacksError:
        told = [one.removesuffix("?") for one in ([name] if isinstance(name, str) else name)]
        what = f"column {self.name}.{' or '.join(told)}"
        return SchemaLacksError(target=self.db.target, what=what, purpose=self._purpose)


def streams(db: Readable) -> Streams:
    """Return a database that gives its rows out as they come.

    Raises:
        NotSupportedError: its engine does not.
    """
    if Capability.STREAM not in db.capabilities or not isinstance(db, Streams):
        raise NotSupportedError(what="this", by=db.target, instead="Its engine keeps no rows of tables.")
    return db
