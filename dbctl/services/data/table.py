"""One table of an app, as ``data`` sees it: found by its name, rows by their key, values by the live schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.engines.contract import (
    AllOf,
    Behind,
    Column,
    Condition,
    Op,
    Readable,
    Where,
)
from dbctl.errors import (
    ColumnMissingError,
    OwnCommandError,
    RowAbsentError,
    TableMissingError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import Row, Value, now
from dbctl.profiles import BOOLEANS
from dbctl.services.app import (
    BOOLEAN_TYPE,
    MASK,
    App,
    Live,
    cut,
    find_column,
    hidden,
    hint,
    is_time,
    ledger_detection,
    read_moment,
    read_word,
    streams,
    time_columns,
)
from dbctl.services.settings import load_json

_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_FRACTIONS = re.compile(r"REAL|FLOA|DOUB|NUMERIC|DECIMAL")
#: How a filter compares; what is longer is looked for first.
OPERATORS: Mapping[str, Op] = {
    "!=": "!=",
    "<=": "<=",
    ">=": ">=",
    "=": "=",
    "<": "<",
    ">": ">",
    ":": "contains",
}


def database_of(app: App) -> str:
    """Return the database that is meant: what ``--db`` says, else the main one."""
    return app.only or app.main()


class Filters(Value, frozen=True, kw_only=True):
    """Which rows of a table are meant: those that meet every condition."""

    conditions: Sequence[str] = ()  #: ``COLUMN=VALUE`` and the like
    null: Sequence[str] = ()  #: columns that are NULL
    not_null: Sequence[str] = ()


class DataTable:
    """One table or view of one open database."""

    def __init__(self, app: App, db: Readable, name: str, *, secrets: bool = False) -> None:
        """Look it up.

        Raises:
            TableMissingError: there is none of that name; the hint names those that are near.
        """
        self.database = database_of(app)
        if name not in db.tables():
            raise TableMissingError(name=name, target=db.target, near=hint(name, db.tables()))
        self.app, self.db, self.name = app, db, name
        self.live = Live(app.profile, db, name, "data")
        self.columns = self.live.table.columns
        self.key = [column.name for column in self.columns.values() if column.key]
        told = [] if secrets else hidden(app, self.database, db, [name]).get(name, [])
        self.hidden: Collection[str] = frozenset(told)
        self._times = time_columns(app, self.database, self.live)
        users = app.profile.users
        active = users.fields.get("active") if users and users.table == name else None
        self._booleans = {find_column(self.live.table, active)}

    def refuse_ledger(self) -> None:
        """Refuse a change where the table records which migrations were applied.

        Raises:
            OwnCommandError: it does.
        """
        told = self.app.database(self.database).migrations
        if told is None:
            return
        named = ledger_detection.named(self.app.profile, told.ledger)
        if told.ledger == ledger_detection.FOUND:
            named, _ = ledger_detection.found(self.db, self.app.url(self.database).engine)
        if self.name in (named.table, ledger_detection.JOURNAL):
            what = f"the record of migrations in {self.name}"
            raise OwnCommandError(what=what, command="migrate mark, or migrate repair,")

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            ColumnMissingError: there is none of that name.
        """
        if name not in self.columns:
            raise ColumnMissingError(table=self.name, column=name, names=", ".join(self.columns))
        return self.columns[name]

    def asked_column(self, name: str) -> Column:
        """Return a column by which rows are found or sorted, which would tell a secret letter by letter.

        Raises:
            UsageError: it holds secrets.
        """
        column = self.column(name)
        if name in self.hidden:
            raise UsageError(detail=f"{self.name}.{name} holds secrets; --secrets allows it")
        return column

    def read(self, columns: Sequence[str], where: Sequence[Where], **more: object) -> list[dict[str, object]]:
        """Return rows, what is secret masked; ``more`` is for ``select``."""
        with streams(self.db).exactly():
            rows = self.db.select(self.name, columns, where, **more)  # type: ignore[arg-type]
        return [
            {name: self.shown(name, value) for name, value in zip(columns, row, strict=True)} for row in rows
        ]

    def read_stored(self, where: Sequence[Where]) -> list[dict[str, object]]:
        """Return rows as they are stored, secrets included."""
        names = list(self.columns)
        with streams(self.db).exactly():
            rows = self.db.select(self.name, names, where)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def shown(self, column: str, value: object) -> object:
        """Return a value, or what stands for it."""
        return MASK if column in self.hidden and value is not None else value

    # Keys ------------------------------------------------------------------------------------------------------

    def at(self, key: Sequence[str]) -> list[Where]:
        """Return the condition of one row, by its primary key as it was typed.

        Raises:
            UsageError: the table has no primary key, or one of another number of columns.
            RowAbsentError: no row can have that key.
        """
        try:
            return [
                Condition(name, "=", value) for name, value in zip(self.key, self._read(key), strict=True)
            ]
        except ValueInvalidError:
            raise self.absent(key) from None

    def behind(self, key: Sequence[str]) -> Where:
        """Return the condition of the rows that come after one, by the primary key.

        Raises:
            UsageError: as ``at`` does, or the key is a secret.
            ValueInvalidError: no row can have that key, so that nothing tells what comes after it.
        """
        values = self._read(key)
        for name, text in zip(self.key, key, strict=True):
            if reason := _unfitting(self.asked_column(name), text):
                raise ValueInvalidError(what=name, value=ascii(cut(text)), reason=reason)
        return Behind(self.key, values)

    def _read(self, key: Sequence[str]) -> Sequence[object]:
        """Return the values of a primary key that was typed."""
        if not self.key:
            kind = "a view" if self.live.table.view else "without a primary key"
            raise UsageError(detail=f"{self.name} is {kind}, so that no row of it can be named")
        if len(key) != len(self.key):
            raise UsageError(detail=f"the key of {self.name} is {' '.join(self.key).upper()}, each a word")
        return [self._exact(name, text) for name, text in zip(self.key, key, strict=True)]

    def one(self, key: Sequence[str]) -> dict[str, object]:
        """Return one row as it is stored, held where a transaction is open.

        Raises:
            RowAbsentError: there is none.
        """
        names = list(self.columns)
        with streams(self.db).exactly():
            rows = self.db.select(self.name, names, self.at(key), hold=True)
        if not rows:
            raise self.absent(key)
        return dict(zip(names, rows[0], strict=True))

    def absent(self, key: Sequence[str]) -> RowAbsentError:
        """Return the failure of a key that no row has."""
        return RowAbsentError(
            table=self.name, target=self.db.target, key=" ".join(ascii(cut(one)) for one in key)
        )

    # Values ----------------------------------------------------------------------------------------------------

    def is_time(self, column: str) -> bool:
        """Whether a column holds times: by its type, or by what the profile says of it."""
        return is_time(self.db, self.columns[column], self._times)

    def typed(self, column: str, text: str) -> object:
        """Return what ``text`` says that a column is to hold, as it is stored.

        Raises:
            ValueInvalidError: the column takes no such value.
        """
        told = self.column(column)
        if self._is_boolean(told):
            return self._boolean(told, text)
        if self.is_time(column) and not ("INT" in told.type and _WHOLE.fullmatch(text)):
            return self.live.encode(column, now() if text == "now" else read_moment(column, text))
        value = self._exact(column, text)
        reason = _unfitting(told, text)
        if reason:
            raise ValueInvalidError(what=column, value=ascii(cut(text)), reason=reason)
        return value

    def _exact(self, column: str, text: str) -> object:
        written = not re.search("CHAR|TEXT|CLOB", self.columns[column].type)
        return streams(self.db).of_csv(self.name, column)(text, written)

    def _is_boolean(self, told: Column) -> bool:
        if told.native == "boolean" or told.name in self._booleans:
            return True
        return "boolean" not in self.db.natives and bool(re.fullmatch(BOOLEAN_TYPE, told.type))

    def _boolean(self, told: Column, text: str) -> object:
        meant = read_word(told.name, text)
        return meant if told.native == "boolean" else BOOLEANS[self.app.profile.boolean][meant]

    # Filters ---------------------------------------------------------------------------------------------------

    def condition(self, text: str) -> Where:
        """Return what ``COLUMN=VALUE`` asks for; also ``!=``, ``<``, ``<=``, ``>``, ``>=``, and ``:`` for "contains".

        Raises:
            UsageError, ColumnMissingError: it is written otherwise.
        """
        for name in sorted(self.columns, key=len, reverse=True):
            mark = next((mark for mark in OPERATORS if text.startswith(f"{name}{mark}")), "")
            if mark:
                return self._compared(self.asked_column(name), OPERATORS[mark], text[len(name) + len(mark) :])
        word = re.split("[!<>=:]", text, maxsplit=1)[0]
        if word == text:
            raise UsageError(
                detail=f"--filter {text!r}: write it as COLUMN=VALUE, or with != < <= > >= or : (contains)"
            )
        self.column(word)
        raise UsageError(detail=f"--filter {text!r}: behind {word} stands one of = != < <= > >= :")

    def conditions(self, filters: Filters) -> list[Where]:
        """Return the conditions of ``filters``; raises as ``condition`` and ``asked_column`` do."""
        where = [self.condition(text) for text in filters.conditions]
        where += [Condition(self.asked_column(name).name, "=", None) for name in filters.null]
        return where + [Condition(self.asked_column(name).name, "!=", None) for name in filters.not_null]

    def _compared(self, told: Column, op: Op, text: str) -> Where:
        if op == "contains":
            return Condition(told.name, op, text)
        if self._is_boolean(told):
            return Condition(told.name, op, self._boolean(told, text))
        if self.is_time(told.name) and not ("INT" in told.type and _WHOLE.fullmatch(text)):
            moment = now() if text == "now" else read_moment(told.name, text)
            if op == "=" and len(text) == len("2026-01-31"):
                end = _day_after(moment)
                return AllOf([Condition(told.name, ">=", moment), Condition(told.name, "<", end)])
            return Condition(told.name, op, moment)
        try:
            return Condition(told.name, op, self._exact(told.name, text))
        except ValueInvalidError:  # no row holds it, and all that hold anything differ
            return Condition(told.name, op, text)


def _day_after(day: datetime) -> datetime:
    try:
        return day + timedelta(days=1)
    except OverflowError:
        return datetime.max.replace(tzinfo=day.tzinfo)


def _unfitting(told: Column, text: str) -> str:
    """Return why a column is none for ``text``, where the engine would keep it all the same."""
    if "JSON" in told.type:
        try:
            load_json(text)
        except ValueError as error:
            return f"it is no JSON: {error}"
    elif "INT" in told.type and not told.type.endswith("]") and told.type != "INTERVAL":
        return "" if _WHOLE.fullmatch(text.strip()) else "it is no whole number"
    elif _FRACTIONS.match(told.type) and not told.type.endswith("]"):
        try:
            float(text)
        except ValueError:
            return "it is no number"
    return ""


def key_of(table: DataTable, row: Row) -> dict[str, object]:
    """Return the key of a row."""
    return {name: row[name] for name in table.key}
