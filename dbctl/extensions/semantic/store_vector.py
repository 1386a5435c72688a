"""Store a vector from a file for a row of the app, in the form in which the app stores vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import Condition, Readable, Where, Writable
from dbctl.errors.databases import RowNotFoundError
from dbctl.extensions.semantic import vector_input
from dbctl.extensions.semantic.profile import RelatedRows
from dbctl.extensions.semantic.search import SemanticSearch, require_semantic, select_fields
from dbctl.model import ChangeResult, Effect, Plan, format_count
from dbctl.profiles.codecs import TIMES, read_time
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, PreparedChange, require_row_count
from dbctl.services.app.live_table import LiveTable
from dbctl.services.search.query_parser import check_text


class VectorStored(ChangeResult, frozen=True, kw_only=True):
    """Result of ``search vectors store``."""

    id: str
    table: str
    dimension: int
    replaced: int  #: number of rows whose vector was replaced
    added: int  #: number of new rows
    changed: bool

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        counts = {"replaced": self.replaced, "added": self.added}
        return Effect("stored", "vector", place=f"of {self.id} in {self.table}", counts=counts)


class VectorSource:
    """Reader of the rows that should have a vector, and builder of their vector rows."""

    def __init__(self, search: SemanticSearch) -> None:
        """Find tables and columns in the live schemas.

        Raises:
            FeatureMissingError: the profile does not define the rows that should have vectors.
            SchemaMismatchError: a table or a column is missing.
        """
        section = search.app.require_section(search.section.source, "new vectors")
        self.search, self.section = search, section
        self.related: RelatedRows = next(
            related for related in search.section.related if related.name == section.related
        )
        self.db = search.app.reader(self.related.database)
        live_table = LiveTable(search.app.profile, self.db, self.related.table, "search vectors")
        self.key = live_table.column(self.related.key)
        self.columns = live_table.map_columns({**self.related.fields, **section.fields})
        self.text = self.columns[search.section.text]

    def read_rows(self, keys: Sequence[str]) -> dict[str, dict[str, object]]:
        """Return the fields of rows by key; omits missing rows."""
        columns = [self.key, *self.columns.values()]
        rows = self.db.select(self.related.table, columns, [Condition(self.key, "in", list(keys))])
        fields_by_key = {str(row[0]): dict(zip(self.columns, row[1:], strict=True)) for row in rows}
        for related in self.search.section.related:
            if related.name != self.related.name and related.by in self.columns:
                self._extend(fields_by_key, related)
        return fields_by_key

    def _extend(self, fields_by_key: Mapping[str, dict[str, object]], related: RelatedRows) -> None:
        """Add the fields from the related row of another table."""
        db = self.search.app.reader(related.database)
        keys = list(
            dict.fromkeys(row[related.by] for row in fields_by_key.values() if row[related.by] is not None)
        )
        if related.table not in db.tables() or not keys:
            return
        related_fields = select_fields(db, related, keys)
        for row in fields_by_key.values():
            row.update(related_fields.get(row[related.by], {}))

    def build_row(self, key: str, fields: Mapping[str, object], vector: Sequence[float]) -> dict[str, object]:
        search = self.search
        table = search.db.tables()[search.section.table]
        row: dict[str, object] = {search.id_column: key, search.vector_column: list(vector)}
        for name, column in search.fields.items():
            value = fields.get(name)
            if name in search.section.times and value is not None:
                timestamp = read_time(value)
                value = None if timestamp is None else TIMES[self.section.time](timestamp)
            row[column] = value
        constants = {name: text for name, text in self.section.constants.items() if name in table.columns}
        return {**row, **constants}


def store_vector(app: App, key: str, raw: bytes) -> Change[VectorStored]:
    """Store a vector for the row of the app with this key: replaces its vector, or adds a vector row.

    ``raw`` is the content of the file with the vector.

    Raises (when planned and when applied):
        FeatureMissingError: the profile defines no vectors, or no rows that should have them.
        VectorInvalidError: the file contains no vector, or a vector of another length.
        RowNotFoundError: no database has this row.
    """
    key = check_text(key, "the id")
    database = require_semantic(app).database

    def draft(db: Readable) -> PreparedChange[VectorStored]:
        search = SemanticSearch(app)
        section, label = search.section, f"the vector of {search.section.row_name} {key}"
        vector = vector_input.parse_vector(raw, label, dimension=search.column_info.dimension)
        search.check_comparable(vector, label)
        where: list[Where] = [Condition(search.id_column, "=", key)]
        replaced = 0 if key in section.placeholders else db.count(section.table, where)
        row = {} if replaced else _build_row(VectorSource(search), key, vector)
        step = (
            f"replace the vector of {format_count(replaced, 'row')} of {section.table}"
            if replaced
            else f"add a row to {section.table}: {section.row_name} {key} and its vector"
        )

        def work(db: Writable) -> VectorStored:
            if replaced:
                require_row_count(
                    db.update(section.table, {search.vector_column: vector}, where), replaced, db
                )
            else:
                db.insert(section.table, row)
            return VectorStored(
                id=key,
                table=section.table,
                dimension=len(vector),
                replaced=replaced,
                added=int(not replaced),
                changed=True,
            )

        plan = Plan(
            title=f"Store the vector of {section.row_name} {key}",
            target=db.target,
            steps=[step],
            rows={section.table: replaced or 1},
            destructive=bool(replaced),
        )
        return PreparedChange(plan, work)

    return Change(app, database, draft)


def _build_row(source: VectorSource, key: str, vector: Sequence[float]) -> dict[str, object]:
    fields = source.read_rows([key]).get(key)
    if fields is None:
        raise RowNotFoundError(table=source.related.table, target=source.db.target, key=repr(key))
    return source.build_row(key, fields, vector)
