"""Semantic search: the rows whose vectors are nearest to a vector, with fields of other databases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from dbctl.engines.contract.database import Condition, Readable, Where, require_supported
from dbctl.engines.contract.vectors import VectorColumn
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import CorruptError
from dbctl.errors.databases import RowNotFoundError, VectorInvalidError, VectorMissingError
from dbctl.errors.usage import (
    DatabaseNotConfiguredError,
    NoMatchError,
    NotSupportedError,
    SchemaMismatchError,
    UsageError,
)
from dbctl.extensions.semantic import vector_input
from dbctl.extensions.semantic.embedders import create_embedder
from dbctl.extensions.semantic.profile import FIXED_FIELDS, RelatedRows, Semantic, find_semantic
from dbctl.extensions.semantic.section import find_section
from dbctl.model import Page, Row, Struct
from dbctl.profiles.codecs import read_time
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.search.query_parser import check_text


def add_related(app: App, section: Semantic, rows: Sequence[Row]) -> tuple[list[Row], list[str], list[str]]:
    """Return rows with the fields of other databases, notes about databases without URL, and errors of the others."""
    result, notes, problems = list(rows), list[str](), list[str]()
    for related in section.related:
        keys = list(dict.fromkeys(str(row[related.by]) for row in rows if row.get(related.by) is not None))
        related_rows: Mapping[str, Row] | None = None
        try:
            related_rows = _read_rows(app, related, keys)
        except DatabaseNotConfiguredError as error:
            notes.append(f"{error}; its fields are missing")
        except DbctlError as error:
            problems.append(str(error).partition("\n")[0])
        for index, row in enumerate(result):
            related_row = related_rows.get(str(row.get(related.by))) if related_rows is not None else None
            result[index] = {
                **row,
                **(related_row or {}),
                related.name: None if related_rows is None else related_row is not None,
            }
    return result, list(dict.fromkeys(notes)), list(dict.fromkeys(problems))


def _read_rows(app: App, related: RelatedRows, keys: Sequence[str]) -> dict[str, Row] | None:
    """Return the related rows by key, or None if ``--db`` excludes their database."""
    if app.only not in ("", related.database):
        return None
    db = app.reader(related.database)
    if not keys or related.table not in db.tables():
        return {}
    return {str(key): fields for key, fields in select_fields(db, related, keys).items()}


def select_fields(db: Readable, related: RelatedRows, keys: Sequence[object]) -> dict[object, Row]:
    """Return the fields that the live table has, by the key of the row."""
    table = db.tables()[related.table]
    columns = {
        name: column
        for name, candidates in related.fields.items()
        if (column := find_column(table, candidates))
    }
    rows = db.select(related.table, [related.key, *columns.values()], [Condition(related.key, "in", keys)])
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


#: The highest limit of a request, and characters of a text in a table.
MAX_ROWS, SHORT_TEXT = 10_000, 160
#: Options that restrict the rows.
FILTERS = ("user", "chat")


class Reference(Struct, frozen=True, kw_only=True):
    """The source of the vector to compare with; exactly one field is set."""

    row: str | None = None  #: the id of a row with a vector; the result excludes this row
    file: bytes | None = None  #: content of a file
    text: str | None = None


class SemanticRequest(Struct, frozen=True, kw_only=True):
    """A request for the nearest rows."""

    reference: Reference
    filters: Mapping[str, str] = {}  #: by the name in the profile
    limit: int = 5
    min_similarity: float | None = None  #: the smallest similarity of a result
    use_index: bool = False  #: whether to use the approximate index, which may miss rows


class SemanticResult(Struct, frozen=True, kw_only=True):
    """The nearest rows, with notes about them."""

    page: Page[Row]
    status: Exit
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()  #: errors of other databases, whose fields are missing in the rows


def require_semantic(app: App) -> Semantic:
    """Return the section of the profile.

    Raises:
        FeatureMissingError: the profile has none.
    """
    return app.require_section(find_semantic(app.profile), "semantic search")


class SemanticSearch:
    """The semantic search of one app, on its live databases."""

    def __init__(self, app: App) -> None:
        """Open the database, and find the columns in the live schema.

        Raises:
            FeatureMissingError: the profile has no section about vectors.
            NotSupportedError: the engine cannot search vectors.
            SchemaMismatchError: the table or a column does not exist.
            CorruptError: the files of the table exist, but are damaged.
        """
        self.app, self.section = app, require_semantic(app)
        self.db = app.reader(self.section.database)
        self.vectors = require_supported(
            self.db, self.db.vectors, "search semantic", "Its engine cannot search vectors."
        )
        if self.section.table not in self.db.tables():
            self._check_damage()
        self._live = LiveTable(app.profile, self.db, self.section.table, "search semantic")
        self.id_column = self._live.column(self.section.id)
        self.vector_column = self._live.column(self.section.vector)
        self.column_info = self._find_column_info()
        self.qualified_name = f"{self.section.table}.{self.vector_column}"
        self.fields = self._live.map_columns(self.section.fields)

    def _check_damage(self) -> None:
        """Check whether a missing table is a damaged table: files without metadata.

        Raises:
            CorruptError: the database is damaged.
        """
        for line in self.db.checks.find_damage(quick=True) if self.db.checks else ():
            raise CorruptError(target=self.db.target, reason=line)

    def _find_column_info(self) -> VectorColumn:
        for column in self.vectors.vector_columns(self.section.table):
            if column.column == self.vector_column:
                return column
        raise SchemaMismatchError(
            target=self.db.target,
            missing=f"vectors in {self.section.table}.{self.vector_column}",
            purpose="search semantic",
        )

    def check_comparable(self, vector: Sequence[float], label: str) -> None:
        """Check that a vector can be compared with the stored vectors.

        Raises:
            VectorInvalidError: it has another length, or all of its numbers are 0.
        """
        dimension, model = self.column_info.dimension, self.section.model
        if dimension and len(vector) != dimension:
            model_note = f" (model {model})" if model else ""
            raise VectorInvalidError(
                place=label,
                reason=f"it has {len(vector):,} numbers, vectors of {self.qualified_name}{model_note} have {dimension:,}",
                hint="Only vectors of the same model can be compared.",
            )
        if not any(math.isfinite(number) and number for number in vector):
            raise VectorInvalidError(
                place=label,
                reason="all of its numbers are 0",
                hint="A zero vector is near to no other vector.",
            )

    def read_vector(self, key: str) -> Sequence[float]:
        """Return the vector of a row.

        Raises:
            VectorMissingError: the row does not exist, or has no vector.
            VectorInvalidError: the stored vector is invalid.
        """
        label = f"the vector of {self.section.row_name} {key!r}"
        try:
            values = self.vectors.read_vector(self.section.table, {self.id_column: key}, self.vector_column)
        except RowNotFoundError as error:
            raise self._missing_error(key) from error
        if values is None:
            raise self._missing_error(key)
        vector = vector_input.validate_vector(
            list(values), label, "The app replaces it when it indexes that row again."
        )
        self.check_comparable(vector, label)
        return vector

    def _missing_error(self, key: str) -> VectorMissingError:
        hint = "Ids are case-sensitive."
        for related in self.section.related:
            if related.by == "id" and self._has_row(related.database, related.table, related.key, key):
                hint = (
                    f"{self.app.target(related.database)} has this row, but the app created no vector for it."
                )
        return VectorMissingError(target=self.db.target, kind=self.section.row_name, id=key, hint=hint)

    def _has_row(self, database: str, table: str, column: str, value: str) -> bool:
        try:
            db = self.app.reader(database)
            return bool(table in db.tables() and db.count(table, [Condition(column, "=", value)]))
        except DbctlError:  # an unreadable database is treated as if it had no such row
            return False

    def build_conditions(self, filters: Mapping[str, str]) -> list[Where]:
        """Return the conditions of filters.

        Raises:
            NotSupportedError: the profile has no such filter.
        """
        conditions: list[Where] = []
        for name, value in filters.items():
            if name not in self.section.filters:
                raise NotSupportedError(
                    feature=f"--{name}", subject=self.app.name, hint="Its profile names no column for it."
                )
            column = self._live.column(self.section.filters[name].column)
            conditions.append(Condition(column, "=", check_text(value, f"--{name}")))
        return conditions

    def require_known_filters(self, filters: Mapping[str, str]) -> None:
        """Check that the value of each filter exists in some database; for searches without results.

        Raises:
            NoMatchError: no database has the value of a filter.
        """
        for name, value in filters.items():
            known, conditions = self.section.filters[name].lookup, self.build_conditions({name: value})
            if self.db.count(self.section.table, conditions):
                continue
            if known is None or not self._has_row(known.database, known.table, known.key, value):
                targets = [self.db.target, *([self.app.target(known.database)] if known else [])]
                raise NoMatchError(kind=name, id=value, tables=" or ".join(targets))

    def find_nearest(self, vector: Sequence[float], request: SemanticRequest) -> list[Row]:
        """Return the nearest rows with their similarity, one row per id."""
        excluded = {
            *self.section.placeholders,
            *([request.reference.row] if request.reference.row is not None else []),
        }
        where = self.build_conditions(request.filters)
        columns = list(dict.fromkeys([self.id_column, *self.fields.values()]))
        row_limit = request.limit + len(excluded)
        while True:
            rows = self.vectors.find_nearest(
                self.section.table,
                vector,
                columns,
                column=self.vector_column,
                limit=row_limit,
                where=where,
                metric=self.section.metric,
                exact=not request.use_index,
            )
            neighbours: dict[object, Row] = {}
            for row in rows:
                values, distance = dict(zip(columns, row[:-1], strict=True)), row[-1]
                if str(values[self.id_column]) not in excluded and _is_near(distance, request.min_similarity):
                    neighbours.setdefault(
                        values[self.id_column], self._build_row(values, cast("float", distance))
                    )
            farthest = rows[-1][-1] if rows else None
            is_beyond = _is_near(farthest, None) and not _is_near(farthest, request.min_similarity)
            if len(neighbours) >= request.limit or len(rows) < row_limit or is_beyond:
                return list(neighbours.values())[: request.limit]
            row_limit *= 2  # the app may store several rows per id

    def _build_row(self, values: Mapping[str, object], distance: float) -> Row:
        fields = {
            name: values[self.fields[name]] if name in self.fields else None for name in self.section.fields
        }
        return {"id": values[self.id_column], "similarity": round(1 - distance, 6), **fields}


def find(
    app: App, request: SemanticRequest, *, columns: Sequence[str] = (), summary: bool = False
) -> SemanticResult:
    """Return the nearest rows, the most similar first.

    They have all columns, but with ``summary`` and without ``columns`` only those of the profile for a narrow table. ``summary`` also
    shortens texts to one line.

    Raises:
        UsageError: not exactly one reference, or a limit out of range.
        VectorMissingError, VectorInvalidError: the reference has no valid vector.
        NoMatchError: no database has the value of a filter.
        EmbedderNotConfiguredError: the reference is a text, and no embedder is configured.
    """
    _validate(request)
    search = SemanticSearch(app)
    search.build_conditions(request.filters)  # refuses unknown filters before the embedder is called
    vector, model_notes = _create_vector(search, request.reference)
    rows = search.find_nearest(vector, request)
    if not rows:
        search.require_known_filters(request.filters)
    related_rows, database_notes, problems = add_related(app, search.section, rows)
    names = _select_columns(search.section, summary=summary and not columns)
    items = [
        {name: _format_value(search.section, name, row.get(name), summary=summary) for name in names}
        for row in related_rows
    ]
    page = Page[Row](items=items, total=len(items), limit=request.limit, column_names=names)
    status = Exit.PARTIAL if problems else Exit.OK
    return SemanticResult(page=page, status=status, notes=[*model_notes, *database_notes], problems=problems)


def _select_columns(section: Semantic, *, summary: bool) -> list[str]:
    """Return the columns of a result; with ``summary``, those that the profile lists for a narrow table."""
    names = [*section.fields, *(related.name for related in section.related)]
    return [
        *FIXED_FIELDS,
        *(name for name in names if not (summary and section.summary) or name in section.summary),
    ]


def _validate(request: SemanticRequest) -> None:
    reference = request.reference
    if (reference.row, reference.file, reference.text).count(None) != 2:  # noqa: PLR2004 - one of three
        raise UsageError(detail="exactly one of --similar-to, --vector and --text is required")
    if request.limit > MAX_ROWS:
        raise UsageError(detail=f"--limit: at most {MAX_ROWS:,} rows")
    if request.min_similarity is not None and not -1 <= request.min_similarity <= 1:
        raise UsageError(detail="a similarity is between -1 and 1")


def _create_vector(search: SemanticSearch, reference: Reference) -> tuple[Sequence[float], list[str]]:
    if reference.row is not None:
        return search.read_vector(check_text(reference.row, "the id")), []
    if reference.file is not None:
        vector = vector_input.parse_vector(reference.file, "--vector", dimension=search.column_info.dimension)
        search.check_comparable(vector, "--vector")
        return vector, []
    text = check_text(reference.text or "", "--text")
    if not text.strip():
        raise UsageError(detail="--text is empty")
    embedder = create_embedder(search.app.configured, vector_model=search.section.model)
    vector = list(embedder.embed(text))
    search.check_comparable(vector, f"the vector from {embedder.place}")
    return vector, warn_about_model(search)


def warn_about_model(search: SemanticSearch) -> list[str]:
    """Return a note if the vectors of the app and of the text come from different models."""
    embedder, app_model = find_section(search.app.configured), search.section.model
    embedder_model = embedder.model.removeprefix("models/") if embedder else ""
    if not (embedder_model and app_model) or embedder_model == app_model:
        return []
    return [
        f"the vectors of the app are from {app_model}, that of the text from {embedder_model}: similarities may be meaningless"
    ]


def _is_near(distance: object, min_similarity: float | None) -> bool:
    """Whether a distance is finite and near enough; zero vectors have no finite distance."""
    if not isinstance(distance, float) or not math.isfinite(distance):
        return False
    return min_similarity is None or 1 - distance >= min_similarity


def _format_value(section: Semantic, name: str, value: object, *, summary: bool) -> object:
    if name in section.times:
        return read_time(value) or value
    if name == section.text and summary and isinstance(value, str):
        line = " ".join(value.split())
        return line if len(line) <= SHORT_TEXT else f"{line[:SHORT_TEXT]} …"
    return value
