"""Rows of other databases that are deleted by cascading links of the profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Readable, Where
from dbctl.errors.connection import CascadeUnreachableError
from dbctl.model import format_count, split_batches
from dbctl.profiles.model.integrity import CrossLink
from dbctl.services.app import unconfigured
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count, required_for_cascade
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.deletion.cascade import AffectedRows, find_affected_rows

#: The number of values per condition; more values need several statements.
BATCH = 2_000


class CrossDatabaseDeletion:
    """Rows of other databases that reference the rows to delete."""

    def __init__(self, app: App, database: str, db: Readable, deleted: Mapping[str, Sequence[Where]]) -> None:
        """Find the rows that reference the rows to delete in ``database``, which meet one of the conditions of their table.

        Raises:
            CascadeUnreachableError: another database cannot be read, or exists but is not configured.
        """
        self._app, self._db, self._deleted = app, db, deleted
        #: by database and table: the conditions of one statement each, and the number of its rows
        self._statements: dict[tuple[str, str], list[tuple[list[Where], int]]] = {}
        for link in [] if app.only else find_cascading_links(app, database):
            self._find_rows(link)

    def plan_steps(self) -> Iterator[AffectedRows]:
        """Yield the deleted rows per table, and those that foreign keys delete or change; the name of a table includes its database."""
        starts = dict[str, dict[str, list[Where]]]()
        for (database, table), statements in self._statements.items():
            row_count = sum(count for _, count in statements)
            if not row_count:
                continue
            step = f"delete {format_count(row_count, 'row')} of {table} in {self._app.target(database)}"
            yield AffectedRows(table=f"{database}/{table}", rows=row_count, step=step, kind="deleted")
            starts.setdefault(database, {})[table] = [AllOf(where) for where, _ in statements]
        for database, conditions in starts.items():
            for item in find_affected_rows(self._app.reader(database), conditions):
                step = f"{item.step} in {self._app.target(database)}"
                yield structs.replace(item, table=f"{database}/{item.table}", step=step, where=None)

    def delete(self) -> None:
        """Delete the rows in the open transactions of the change.

        Raises:
            ConstraintError: as ``require_row_count``.
        """
        for (database, table), statements in self._statements.items():
            writer = self._app.writers[database]
            for where, expected in statements:
                deleted = writer.delete(table, where)
                if deleted < expected:  # an earlier statement may have deleted rows by foreign keys
                    deleted = expected - writer.count(table, where)
                require_row_count(deleted, expected, writer)

    def _find_rows(self, link: CrossLink) -> None:
        values = read_link_values(link, self._db, self._deleted)
        if not values:
            return
        if link.database not in self._app.configured.databases:
            if unconfigured_path := unconfigured.find_unconfigured(self._app, link.database):
                raise CascadeUnreachableError(
                    target=self._app.target(link.database),
                    reason=unconfigured.SENTENCE.format(path=unconfigured_path),
                    to=link.to,
                    hint=unconfigured.explain_config(self._app, link.database, unconfigured_path),
                )
            return
        with required_for_cascade(self._app, link.database, link.to):
            reader = self._app.reader(link.database)
            live = reader.tables().get(link.table)
        if live is None and link.optional:
            return
        column = LiveTable(self._app.profile, reader, link.table, "deleting referencing rows").column(
            link.column
        )
        target = (link.database, link.table)
        known = self._statements.setdefault(target, [])
        before: list[Where] = (
            [AnyOf([condition for where, _ in known for condition in where[:1]])] if known else []
        )
        for batch in split_batches(values, BATCH):
            names_row = Condition(column, "in", batch)
            where: list[Where] = [names_row, *(Not(condition) for condition in before)]
            row_count = reader.count(link.table, where)
            if row_count:
                known.append((where, row_count))


def read_link_values(link: CrossLink, db: Readable, rows: Mapping[str, Sequence[Where]]) -> list[object]:
    """Return the values by which another database references rows of ``db``, also in renamed columns.

    ``rows`` has the conditions of the rows by table; one of them is enough.
    """
    values: dict[object, None] = {}
    for column_name in [*link.targets, *([link.renamed_from] if link.renamed_from else [])]:
        table, _, name = column_name.rpartition(".")
        column = find_column(db.tables().get(table), name)
        if table in rows and column:
            selected = db.select(table, [column], [AnyOf(rows[table])])
            values |= {value: None for (value,) in selected if value is not None}
    return list(values)


def find_cascading_links(app: App, database: str) -> list[CrossLink]:
    return [link for link in app.profile.link if link.cascade and link.to == database]


def find_configured_links(app: App, database: str) -> list[CrossLink]:
    """Return the cascading links from configured databases."""
    return [link for link in find_cascading_links(app, database) if link.database in app.configured.databases]


def find_written_databases(app: App, database: str, tables: Sequence[str]) -> list[str]:
    """Return the other databases that a deletion in these tables writes."""
    if app.only:
        return []
    databases = {
        link.database: None
        for link in find_configured_links(app, database)
        if any(column_name.rpartition(".")[0] in tables for column_name in link.targets)
    }
    return list(databases)


def list_unchanged_databases(app: App, database: str) -> list[str]:
    """Return warnings for ``--db``: rows in other databases that are not deleted."""
    if not app.only:
        return []
    targets = dict.fromkeys(app.target(link.database) for link in find_configured_links(app, database))
    return [f"rows in {target} that reference the deleted rows remain, because of --db" for target in targets]
