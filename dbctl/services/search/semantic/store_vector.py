"""Vectors that a person hands over: one is stored for a row of the app, in the row that the app would have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Condition, Readable, Where, Writable
from dbctl.errors import RowAbsentError
from dbctl.model import Done, Plan, counted
from dbctl.profiles import TIMES, read_time
from dbctl.profiles.model import Beside
from dbctl.services.app import App, Change, Draft, Live, exactly, find_column
from dbctl.services.search.query_values import checked
from dbctl.services.search.semantic import vector_input
from dbctl.services.search.semantic.search import Meaning


class VectorStored(Done, frozen=True, kw_only=True):
    """Answer of ``search vectors store``."""

    id: str
    table: str
    dimension: int
    replaced: int  #: rows whose vector was another one
    added: int  #: rows that are new
    changed: bool


class VectorSource:
    """The rows that should have a vector, and the rows of vectors that are made of them."""

    def __init__(self, meaning: Meaning) -> None:
        """Look at the live schemas.

        Raises:
            AbilityMissingError: the profile does not say which rows these are.
            SchemaLacksError: a table or a column is missing.
        """
        told = meaning.app.ability(meaning.told.source, "new vectors")
        self.meaning, self.told = meaning, told
        self.rows: Beside = next(one for one in meaning.told.beside if one.name == told.beside)
        self.db = meaning.app.reader(self.rows.database)
        live = Live(meaning.app.profile, self.db, self.rows.table, "search vectors")
        wanted = {**self.rows.fields, **told.fields}
        self.key = live.get(self.rows.key)
        self.columns = {name: column for name, one in wanted.items() if (column := live.find(one))}
        self.text = self.columns[meaning.told.text]

    def read(self, keys: Sequence[str]) -> dict[str, dict[str, object]]:
        """Return the fields of rows by their key; a row that is not there is left out."""
        columns = [self.key, *self.columns.values()]
        rows = self.db.select(self.rows.table, columns, [Condition(self.key, "in", list(keys))])
        found = {str(row[0]): dict(zip(self.columns, row[1:], strict=True)) for row in rows}
        for one in self.meaning.told.beside:
            if one.name != self.rows.name and one.by in self.columns:
                self._extend(found, one)
        return found

    def _extend(self, found: Mapping[str, dict[str, object]], beside: Beside) -> None:
        """Add the fields that a row of another table knows."""
        db = self.meaning.app.reader(beside.database)
        table = db.tables().get(beside.table)
        columns = {name: column for name, one in beside.fields.items() if (column := find_column(table, one))}
        named = list(dict.fromkeys(row[beside.by] for row in found.values() if row[beside.by] is not None))
        if table is None or not named:
            return
        rows = db.select(beside.table, [beside.key, *columns.values()], [Condition(beside.key, "in", named)])
        known = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}
        for row in found.values():
            row.update(known.get(row[beside.by], {}))

    def new_row(self, key: str, fields: Mapping[str, object], vector: Sequence[float]) -> dict[str, object]:
        """Return a row of vectors for a row of the app."""
        meaning = self.meaning
        table = meaning.db.tables()[meaning.told.table]
        row: dict[str, object] = {meaning.id: key, meaning.vector: list(vector)}
        for name, column in meaning.fields.items():
            value = fields.get(name)
            if name in meaning.told.times and value is not None:
                moment = read_time(value)
                value = None if moment is None else TIMES[self.told.time](moment)
            row[column] = value
        constants = {name: text for name, text in self.told.constants.items() if name in table.columns}
        return {**constants, **row}


def store_vector(app: App, key: str, raw: bytes) -> Change[VectorStored]:
    """Store a vector for a row of the app: in place of the vector that it has, or in a new row of vectors.

    Args:
        app: the app.
        key: names the row.
        raw: what the file of the vector holds.

    Raises (when planned and when applied):
        AbilityMissingError: the profile tells of no vectors, or not of the rows that should have them.
        VectorInvalidError: the file holds no vector, or a vector of another length.
        RowAbsentError: neither database has such a row.
    """
    key = checked(key, "the id")
    database = app.ability(app.profile.semantic, "search by meaning").database

    def draft(db: Readable) -> Draft[VectorStored]:
        meaning = Meaning(app)
        told, place = meaning.told, f"the vector of {meaning.told.what} {key}"
        vector = vector_input.read(raw, place, dimension=meaning.column.dimension)
        meaning.comparable(vector, place)
        where: list[Where] = [Condition(meaning.id, "=", key)]
        held = 0 if key in told.placeholders else db.count(told.table, where)
        row = {} if held else _row(VectorSource(meaning), key, vector)
        step = (
            f"replace the vector of {counted(held, 'row')} of {told.table}"
            if held
            else f"add a row to {told.table}: {told.what} {key} and its vector"
        )

        def work(db: Writable) -> VectorStored:
            if held:
                exactly(db.update(told.table, {meaning.vector: vector}, where), held, db)
            else:
                db.insert(told.table, row)
            return VectorStored(
                id=key,
                table=told.table,
                dimension=len(vector),
                replaced=held,
                added=int(not held),
                changed=True,
            )

        plan = Plan(
            title=f"Store the vector of {told.what} {key}",
            target=db.target,
            steps=[step],
            rows={told.table: held or 1},
            destructive=bool(held),
        )
        return Draft(plan, work)

    return Change(app, database, "search vectors store", draft)


def _row(source: VectorSource, key: str, vector: Sequence[float]) -> dict[str, object]:
    fields = source.read([key]).get(key)
    if fields is None:
        raise RowAbsentError(table=source.rows.table, target=source.db.target, key=repr(key))
    return source.new_row(key, fields, vector)
