"""Rows by what they mean: those whose vectors point the same way as another one, a row's, a file's or that of some words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from dbctl.embedders import registry
from dbctl.engines.contract import Capability, Checks, Condition, Readable, VectorColumn, Vectors, Where
from dbctl.errors import (
    CorruptError,
    DatabaseUnsetError,
    DbctlError,
    Exit,
    NobodyMeantError,
    NotSupportedError,
    RowAbsentError,
    SchemaLacksError,
    UsageError,
    VectorMissingError,
)
from dbctl.model import Page, Row, Value
from dbctl.profiles import read_time
from dbctl.profiles.model import OWN, Semantic
from dbctl.services.app import App, find_column, may_lack
from dbctl.services.search.query_values import checked
from dbctl.services.search.semantic import vector_input

#: Rows that can be asked for, and characters of a text where there is not much room.
MOST, BRIEF = 10_000, 160
#: What a person may name to choose rows.
FILTERS = ("user", "chat")


class Like(Value, frozen=True, kw_only=True):
    """What is looked for; exactly one of these."""

    row: str | None = None  #: the id of a row that has a vector; it is not found itself
    file: bytes | None = None  #: what a file holds
    text: str | None = None


class Asked(Value, frozen=True, kw_only=True):
    """What is looked for, and among what."""

    like: Like
    filters: Mapping[str, str] = {}  #: by the name that the profile knows
    top: int = 5
    least: float | None = None  #: the smallest similarity that counts
    index: bool = False  #: whether an index may answer, which may miss some


class Found(Value, frozen=True, kw_only=True):
    """What was found, and what to know of it."""

    page: Page[Row]
    status: Exit
    remarks: Sequence[str] = ()
    troubles: Sequence[str] = ()  #: what kept rows from being shown whole


class Near(Readable, Vectors, Protocol):
    """A database that finds what is near."""


class Meaning:
    """The search by meaning of one app, on its live databases."""

    def __init__(self, app: App) -> None:
        """Look at the live schema.

        Raises:
            AbilityMissingError: the profile tells of no vectors.
            NotSupportedError: the engine finds nothing near.
            SchemaLacksError: table or columns are not there.
            CorruptError: files of a table are there, and no table.
        """
        self.app, self.told = app, app.ability(app.profile.semantic, "search by meaning")
        self.db = _near(app.reader(self.told.database))
        self.id, self.vector = self._column(self.told.id), self._column(self.told.vector)
        self.column = self._vectors()
        self.place = f"{self.told.table}.{self.vector}"
        table = self.db.tables()[self.told.table]
        self.fields = {
            name: found for name, wanted in self.told.fields.items() if (found := find_column(table, wanted))
        }
        for name, wanted in self.told.fields.items():
            if name not in self.fields and not may_lack(wanted):
                self._column(wanted)

    def _column(self, wanted: str | list[str]) -> str:
        tables = self.db.tables()
        found = find_column(tables.get(self.told.table), wanted)
        if found:
            return found
        names = [wanted] if isinstance(wanted, str) else wanted
        there = self.told.table in tables
        if not there:
            self._want_undamaged()
        what = f"column {self.told.table}.{' or '.join(names)}" if there else f"table {self.told.table}"
        raise SchemaLacksError(target=self.db.target, what=what, purpose="search semantic")

    def _want_undamaged(self) -> None:
        """Look whether what is missing is damaged: files without anything that makes a table of them.

        Raises:
            CorruptError: it is.
        """
        if Capability.CHECK in self.db.capabilities and isinstance(self.db, Checks):
            for line in self.db.damage(quick=True):
                raise CorruptError(target=self.db.target, reason=line)

    def _vectors(self) -> VectorColumn:
        for one in self.db.vector_columns(self.told.table):
            if one.column == self.vector:
                return one
        raise SchemaLacksError(
            target=self.db.target,
            what=f"vectors in {self.told.table}.{self.vector}",
            purpose="search semantic",
        )

    def comparable(self, vector: Sequence[float], place: str) -> None:
        """Raise where a vector cannot be compared with those that are there."""
        vector_input.comparable(
            vector, place, dimension=self.column.dimension, column=self.place, model=self.told.model
        )

    def vector_of(self, key: str) -> Sequence[float]:
        """Return the vector of a row.

        Raises:
            VectorMissingError: there is none.
            VectorInvalidError: it is of no use.
        """
        place = f"the vector of {self.told.what} {key!r}"
        try:
            found = self.db.vector_of(self.told.table, {self.id: key}, self.vector)
        except RowAbsentError as error:
            raise self._missing(key) from error
        if found is None:
            raise self._missing(key)
        vector = vector_input.sound(
            list(found), place, "The app makes it anew when it indexes that row again."
        )
        self.comparable(vector, place)
        return vector

    def _missing(self, key: str) -> VectorMissingError:
        instead = "Ids are compared letter by letter."
        for one in self.told.beside:
            if one.by == "id" and self._knows(one.database, one.table, one.key, key):
                instead = f"{self.app.target(one.database)} has it; the app made no vector of it."
        return VectorMissingError(target=self.db.target, what=self.told.what, id=key, instead=instead)

    def _knows(self, database: str, table: str, column: str, value: str) -> bool:
        try:
            live = self.app.reader(database)
            return bool(table in live.tables() and live.count(table, [Condition(column, "=", value)]))
        except DbctlError:  # what cannot be asked knows nobody
            return False

    # Finding -------------------------------------------------------------------------------------------------

    def where(self, filters: Mapping[str, str]) -> list[Where]:
        """Return the conditions of filters.

        Raises:
            NotSupportedError: the profile knows no such filter.
        """
        made: list[Where] = []
        for name, value in filters.items():
            if name not in self.told.filters:
                raise NotSupportedError(
                    what=f"--{name}", by=self.app.name, instead="Its profile names no column for it."
                )
            column = self._column(self.told.filters[name].column)
            made.append(Condition(column, "=", checked(value, f"--{name}")))
        return made

    def want_meant(self, filters: Mapping[str, str]) -> None:
        """Look whether whom a filter names is known anywhere; asked where nothing was found.

        Raises:
            NobodyMeantError: nobody knows one of them.
        """
        for name, value in filters.items():
            known, where = self.told.filters[name].known, self.where({name: value})
            if self.db.count(self.told.table, where):
                continue
            if known is None or not self._knows(known.database, known.table, known.key, value):
                places = [self.db.target, *([self.app.target(known.database)] if known else [])]
                raise NobodyMeantError(what=name, id=value, places=" or ".join(places))

    def nearest(self, vector: Sequence[float], asked: Asked) -> list[Row]:
        """Return the nearest rows, each id once, with how near they are."""
        passed = {*self.told.placeholders, *([asked.like.row] if asked.like.row is not None else [])}
        where, columns = self.where(asked.filters), list(dict.fromkeys([self.id, *self.fields.values()]))
        number = asked.top + len(passed)
        while True:
            rows = self.db.nearest(
                self.told.table,
                vector,
                columns,
                column=self.vector,
                top=number,
                where=where,
                metric=self.told.metric,
                exact=not asked.index,
            )
            found: dict[object, Row] = {}
            for row in rows:
                told, distance = dict(zip(columns, row[:-1], strict=True)), row[-1]
                if told[self.id] not in passed and _is_near(distance, asked.least):
                    found.setdefault(told[self.id], self._row(told, cast("float", distance)))
            farthest = rows[-1][-1] if rows else None
            over = _is_near(farthest, None) and not _is_near(farthest, asked.least)
            if len(found) >= asked.top or len(rows) < number or over:
                return list(found.values())[: asked.top]
            number *= 2  # the app writes some rows several times

    def _row(self, told: Mapping[str, object], distance: float) -> Row:
        fields = {name: told[self.fields[name]] if name in self.fields else None for name in self.told.fields}
        return {"id": told[self.id], "similarity": round(1 - distance, 6), **fields}

    # What belongs to it --------------------------------------------------------------------------------------

    def beside(self, rows: Sequence[Row]) -> tuple[list[Row], list[str], list[str]]:
        """Return rows with what other databases know of them; which are not meant to be asked, and what kept one from it."""
        told, remarks, troubles = list(rows), list[str](), list[str]()
        for one in self.told.beside:
            ids = list(dict.fromkeys(str(row[one.by]) for row in rows if row.get(one.by) is not None))
            known: Mapping[str, Row] | None = {}
            try:
                known = self._known(one.database, one.table, one.key, ids, one.fields)
            except DatabaseUnsetError as error:
                known = None
                remarks.append(f"{error}, so nothing is known of what it has")
            except DbctlError as error:
                known = None
                troubles.append(str(error).partition("\n")[0])
            for at, row in enumerate(told):
                found = known.get(str(row.get(one.by))) if known is not None else None
                told[at] = {**row, **(found or {}), one.name: None if known is None else found is not None}
        return told, list(dict.fromkeys(remarks)), list(dict.fromkeys(troubles))

    def _known(
        self, database: str, table: str, key: str, ids: Sequence[str], fields: Mapping[str, str | list[str]]
    ) -> dict[str, Row] | None:
        if self.app.only not in ("", database):
            return None
        live = self.app.reader(database)
        there = live.tables().get(table)
        if not ids or there is None:
            return {}
        columns = {name: found for name, wanted in fields.items() if (found := find_column(there, wanted))}
        rows = live.select(table, [key, *columns.values()], [Condition(key, "in", ids)])
        return {str(row[0]): dict(zip(columns, row[1:], strict=True)) for row in rows}


def find(app: App, asked: Asked, *, columns: Sequence[str] = (), brief: bool = False) -> Found:
    """Return the rows that are nearest to what was asked for, the most alike first.

    Args:
        app: the app.
        asked: what is looked for, and among what.
        columns: those of a row that are wanted; none: all, or those that suit where there is little room.
        brief: whether there is little room, so that a long text is cut, and told on one line.

    Raises:
        UsageError: not exactly one thing is looked for, or too many rows are wanted.
        VectorMissingError, VectorInvalidError: there is no vector to look for.
        NobodyMeantError: a filter names somebody whom no database knows.
        EmbedderUnsetError: words are looked for, and nothing makes a vector of them.
    """
    _refuse(asked)
    meaning = Meaning(app)
    meaning.where(asked.filters)  # what cannot be asked is refused before anybody makes a vector
    vector, remarks = _vector(meaning, asked.like)
    rows = meaning.nearest(vector, asked)
    if not rows:
        meaning.want_meant(asked.filters)
    told, unasked, troubles = meaning.beside(rows)
    names = _names(meaning.told, brief=brief and not columns)
    items = [{name: _shown(meaning.told, name, row.get(name), brief=brief) for name in names} for row in told]
    page = Page[Row](items=items, total=len(items), limit=asked.top, names=names)
    status = Exit.PARTIAL if troubles else Exit.OK
    return Found(page=page, status=status, remarks=[*remarks, *unasked], troubles=troubles)


def _names(told: Semantic, *, brief: bool) -> list[str]:
    """Return the columns of an answer; ``brief``: those that suit a narrow table, where the profile says which do."""
    names = [*told.fields, *(one.name for one in told.beside)]
    return [*OWN, *(name for name in names if not (brief and told.brief) or name in told.brief)]


def _refuse(asked: Asked) -> None:
    like = asked.like
    if (like.row, like.file, like.text).count(None) != 2:  # noqa: PLR2004 - one of three
        raise UsageError(detail="say what to look for by one of --similar-to, --vector and --text")
    if asked.top > MOST:
        raise UsageError(detail=f"--limit gives at most {MOST:,} rows")
    if asked.least is not None and not -1 <= asked.least <= 1:
        raise UsageError(detail="a similarity lies between -1 and 1")


def _vector(meaning: Meaning, like: Like) -> tuple[Sequence[float], list[str]]:
    if like.row is not None:
        return meaning.vector_of(checked(like.row, "the id")), []
    if like.file is not None:
        vector = vector_input.read(like.file, "--vector", dimension=meaning.column.dimension)
        meaning.comparable(vector, "--vector")
        return vector, []
    text = checked(like.text or "", "--text")
    if not text.strip():
        raise UsageError(detail="--text is empty")
    embedder = registry.of(meaning.app.configured, model=meaning.told.model)
    vector = list(embedder.embed(text))
    meaning.comparable(vector, f"what {embedder.place} made")
    return vector, warn_of_model(meaning)


def warn_of_model(meaning: Meaning) -> list[str]:
    """Return what to know of vectors that two models made."""
    told, made = meaning.app.configured.embedder, meaning.told.model
    asked = told.model.removeprefix("models/") if told else ""
    if not (asked and made) or asked == made:
        return []
    return [f"{made} made the vectors of the app, and {asked} that of the words: similarity may mean nothing"]


def _is_near(distance: object, least: float | None) -> bool:
    """Whether a row counts; a vector that points nowhere, or is too small to be measured, is no distance away."""
    if not isinstance(distance, float) or not math.isfinite(distance):
        return False
    return least is None or 1 - distance >= least


def _shown(told: Semantic, name: str, value: object, *, brief: bool) -> object:
    if name in told.times:
        return read_time(value) or value
    if name == told.text and brief and isinstance(value, str):
        line = " ".join(value.split())
        return line if len(line) <= BRIEF else f"{line[:BRIEF]} …"
    return value


def _near(db: Readable) -> Near:
    if Capability.VECTORS in db.capabilities and isinstance(db, Vectors):
        return db
    raise NotSupportedError(what="search semantic", by=db.target, instead="Its engine finds nothing near.")
