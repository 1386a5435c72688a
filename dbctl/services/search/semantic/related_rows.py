"""Fields of other databases that belong to the results of a semantic search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import Condition, Readable
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import DatabaseNotConfiguredError
from dbctl.model import Row
from dbctl.profiles.model.semantic import RelatedRows, Semantic
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column


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
