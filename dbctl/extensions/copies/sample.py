"""Samples: a copy without some rows of a table, and without the rows that depend on them."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from msgspec import structs

from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Readable,
    Reference,
    Where,
    Writable,
)
from dbctl.engines.sql.query_builder import KEYS_PER_QUERY, match_rows
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.copies.contract import read_rows
from dbctl.model import Struct, format_count, split_batches, time_before
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column
from dbctl.services.app.results import missing_table_error
from dbctl.services.app.user_table import UserTable, open_users, users_database
from dbctl.services.data.personal_data import list_user_columns
from dbctl.services.data.table import DataTable
from dbctl.services.deletion.cascade import plan_rows
from dbctl.services.deletion.cross_database import BATCH, read_link_values
from dbctl.services.users.last_admin import list_admins, list_holders
from dbctl.units import parse_duration

if TYPE_CHECKING:
    from dbctl.profiles.model.base import ColumnNames
    from dbctl.profiles.model.integrity import CrossLink

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
_CONDITION = re.compile(r"(.+?) ?(!=|<=|>=|=|<|>) ?(.+)", re.DOTALL)
_SINCE = re.compile(r"-[0-9]+[a-z]+")
#: The first bytes of a digest decide whether a row is in a sample.
_DIGEST_BYTES = 8


class Sample(Struct, frozen=True, kw_only=True):
    """The rows of a table that a copy has."""

    table: str
    share: float | None = None  #: from 0 to 1, of all rows; None: those that meet the condition
    column: str = ""
    operator: str = ""
    value: str = ""  #: as in ``--filter``; ``-90d`` is a time before now


def parse_sample(text: str) -> Sample:
    """Return the sample of ``users:5%``, or ``campaigns:created_at > -90d``.

    Raises:
        UsageError: it has another form.
    """
    table, _, rule = text.partition(":")
    rule = rule.strip()
    if table and (match := _SHARE.fullmatch(rule)) and 0 <= float(match[1]) <= 100:  # noqa: PLR2004 - per cent
        return Sample(table=table, share=float(match[1]) / 100)
    if table and (match := _CONDITION.fullmatch(rule)):
        return Sample(table=table, column=match[1], operator=match[2], value=match[3])
    raise UsageError(
        detail=f"--sample {text!r}: write TABLE:PERCENT%, or TABLE:COLUMN OPERATOR VALUE, such as 'orders:created_at > -90d'"
    )


def _parse_since(text: str) -> str:
    """Return the time before now of ``-90d``."""
    try:
        return time_before(parse_duration(text[1:])).isoformat()
    except ValueError:
        raise UsageError(detail=f"--sample: {text!r} is no duration, such as -90d") from None


class SampledTable(Struct, frozen=True, kw_only=True):
    """What samples leave of a table."""

    rows: int  #: of the copy
    left_out: int
    cleared: int  #: remaining rows without a reference that the schema sets to NULL

    def describe(self) -> str:
        """Return the numbers as text."""
        cleared = f", {format_count(self.cleared, 'row')} without a reference" if self.cleared else ""
        return f"{format_count(self.rows, 'row')} of {self.rows + self.left_out:,}{cleared}"


class Sampling:
    """The rows that samples leave out, in all databases of a copy."""

    def __init__(self, app: App, databases: Sequence[str], samples: Sequence[Sample], key: bytes) -> None:
        """Find the rows; ``app`` is open on the databases to reduce, and ``key`` selects shares of rows.

        A row that refers to a row that is left out is left out as well: by a foreign key, unless it clears the reference, by the
        columns of users in the profile, and by its links between databases.

        Raises:
            TableMissingError, ColumnMissingError, UsageError, ValueInvalidError: a sample is invalid for the databases.
            NotSupportedError: a share of a table whose primary key does not have one column.
        """
        self._app, self._databases = app, databases
        self._views = {name: _DependentRows(app, name) for name in databases}
        self._planned: dict[str, list[PlannedRows]] = {name: [] for name in databases}
        for sample in samples:
            name = self._find_database(sample)
            self._leave_out(name, sample.table, self._select(name, sample, key))
        self._follow_links()
        #: what is left of the tables that change, by ``database.table``
        self.tables: Mapping[str, SampledTable] = {
            f"{name}.{table}": self._count(name, table)
            for name in databases
            for table in dict.fromkeys(rows.table for rows in self._planned[name])
        }
        self._order = {
            name: _sort_dependent_first(cast("Readable", self._views[name]), list(self._list_deleted(name)))
            for name in databases
        }

    def _find_database(self, sample: Sample) -> str:
        for name in self._databases:
            if sample.table in self._app.reader(name).tables():
                return name
        raise missing_table_error(self._app, self._app.reader(self._databases[0]), sample.table)

    def _select(self, name: str, sample: Sample, key: bytes) -> Where:
        """Return the condition of the rows of a table that are left out."""
        table = DataTable(self._app, self._app.reader(name), sample.table, database=name)
        if sample.share is not None:
            return _select_share(table, sample.share, key, self._views[name].list_required(sample.table))
        value = sample.value
        if _SINCE.fullmatch(value):
            if not table.is_time(table.column(sample.column).name):
                raise UsageError(detail=f"--sample {sample.table}: {sample.column} is no time")
            value = _parse_since(value)
        return Not(table.parse_filter(f"{sample.column}{sample.operator}{value}"))

    def _leave_out(self, name: str, table: str, where: Where) -> None:
        self._planned[name] += plan_rows(cast("Readable", self._views[name]), table, [where])

    def _list_deleted(self, name: str) -> dict[str, list[Where]]:
        """Return the conditions of the rows that are left out; one of them is enough."""
        deleted = dict[str, list[Where]]()
        for rows in self._planned[name]:
            if not rows.values:
                deleted.setdefault(rows.table, []).extend(rows.where)
        return deleted

    def _follow_links(self) -> None:
        """Leave out rows that refer to rows of other databases, until no further ones do."""
        links = [
            link
            for link in self._app.profile.link
            if link.to in self._databases and self._app.resolve_database(link) in self._databases
        ]
        known: list[set[object]] = [set() for _ in links]
        has_changed = True
        while has_changed:
            has_changed = False
            for link, followed in zip(links, known, strict=True):
                values = [value for value in self._find_lost_values(link) if value not in followed]
                followed.update(values)
                name = self._app.resolve_database(link)
                column = find_column(self._app.reader(name).tables().get(link.table), link.column)
                for batch in split_batches(values if column else (), BATCH):
                    where = Condition(str(column), "in", batch)
                    if self._app.reader(name).count(link.table, [where]):
                        self._leave_out(name, link.table, where)
                        has_changed = True

    def _find_lost_values(self, link: CrossLink) -> list[object]:
        """Return the values to which a link refers in rows that are left out, and in no other row."""
        db, deleted = self._app.reader(link.to), self._list_deleted(link.to)
        lost = dict.fromkeys(read_link_values(link, db, deleted))
        remaining = {table: [Not(AnyOf(where))] for table, where in deleted.items()}
        others = {path.rpartition(".")[0]: [AllOf([])] for path in link.targets}
        for value in read_link_values(link, db, {**others, **remaining}) if lost else ():
            lost.pop(value, None)
        return list(lost)

    # Result ------------------------------------------------------------------------------------------------------

    def _count(self, name: str, table: str) -> SampledTable:
        db = self._app.reader(name)
        deleted = AnyOf(self._list_deleted(name).get(table, []))
        cleared = [AllOf(rows.where) for rows in self._planned[name] if rows.table == table and rows.values]
        left_out = db.count(table, [deleted])
        return SampledTable(
            rows=db.count(table) - left_out,
            left_out=left_out,
            cleared=db.count(table, [AnyOf(cleared), Not(deleted)]) if cleared else 0,
        )

    def apply(self, name: str, db: Writable) -> None:
        """Delete the rows of one database in one transaction; rows that depend on others first. The app may be closed."""
        deleted, tables = self._list_deleted(name), self._order[name]
        statements = dict[str, Sequence[Where]]()
        with db.transaction():
            for rows in self._planned[name]:
                for where in _list_statements(db, rows.table, AllOf(rows.where)) if rows.values else ():
                    db.update(rows.table, rows.values, [where])
            for position, table in enumerate(tables):
                # Rows of the same table, or of a cycle, may be deleted after those to which they refer.
                for key in db.references(table):
                    if key.table not in tables[position:] or not _is_clearable(db, key):
                        continue
                    if key.table not in statements:
                        where = AnyOf(deleted[key.table])
                        statements[key.table] = list(_list_statements(db, key.table, where, by_key=True))
                    for keys in statements[key.table]:
                        db.update(key.table, dict.fromkeys(key.columns), [keys])
                for where in statements.get(table) or _list_statements(db, table, AnyOf(deleted[table])):
                    db.delete(table, [where])


class _DependentRows:
    """A database whose rows depend on all rows to which they refer, by the schema or by the profile."""

    def __init__(self, app: App, name: str) -> None:
        self._db = app.reader(name)
        has_users = app.core.users is not None and users_database(app) == name
        self._users = open_users(app) if has_users else None
        self._references = _list_profile_references(self._users) if self._users else {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def references(self, table: str) -> Sequence[Reference]:
        """Return the references to a table; those that the schema does not clear delete the row."""
        return [
            key if key.on_delete == "SET NULL" else structs.replace(key, on_delete="CASCADE")
            for key in [*self._db.references(table), *self._references.get(table, ())]
        ]

    def list_required(self, table: str) -> Collection[object]:
        """Return the keys of rows that are in every share: admins, and the holder of an exclusive role."""
        users = self._users
        if users is None or users.live.name != table:
            return ()
        admins = list_admins(users, for_update=False) if users.section.admin else []
        return {str(user.id) for user in [*admins, *list_holders(users)]}


def _list_profile_references(users: UserTable) -> Mapping[str, Sequence[Reference]]:
    """Return the references in the database of users that only the profile states, by the table to which they refer."""
    tables, section = users.db.tables(), users.section
    references: dict[str, dict[tuple[str, str], Reference]] = {}

    def add(place: str, names: ColumnNames, parent: str, key: str) -> None:
        table = place.removesuffix("?")
        column = find_column(tables.get(table), names)
        declared = [(item.table, list(item.columns)) for item in users.db.references(parent)]
        if column and key and (table, [column]) not in declared:
            reference = Reference(table=table, columns=[column], to=[key], on_delete="CASCADE")
            references.setdefault(parent, {})[table, column] = reference

    for place, names in list_user_columns(users.app):
        add(place, names, users.live.name, users.id)
    for path in (*section.owned, *section.retained, *section.counts.values()):
        steps = parse_row_path(path)
        for step, parent in pairwise(steps):
            live = tables.get(parent.table)
            if live and not (step.filter or step.text):
                add(step.table, step.column, parent.table, parent.key or next(iter(live.primary_key), ""))
        if len(steps) == 1 and not (steps[0].filter or steps[0].text):
            add(steps[0].table, steps[0].column, users.live.name, users.id)
    return {table: list(keys.values()) for table, keys in references.items()}


def _select_share(table: DataTable, share: float, key: bytes, required: Collection[object]) -> Where:
    """Return the condition of the rows outside of a share of all rows, which the key and the primary keys decide.

    ``required`` are texts of primary keys that are inside.
    """
    if len(table.key) != 1:
        raise NotSupportedError(
            feature="a share of rows",
            subject=f"{table.db.target}, {table.name}",
            hint="Its primary key does not have one column. Use a condition: --sample 'TABLE:COLUMN > VALUE'",
        )
    (column,) = table.key
    limit = int(share * (1 << 8 * _DIGEST_BYTES))
    lists: dict[bool, list[object]] = {True: [], False: []}
    for (value,) in read_rows(table.db, table.name, [column]):
        digest = hmac.digest(key, f"{table.name}\0{value}".encode("utf-8", "surrogateescape"), sha256)
        is_inside = int.from_bytes(digest[:_DIGEST_BYTES], "big") < limit or str(value) in required
        lists[is_inside].append(value)
    # The shorter list is passed to the database, which finds the listed rows by an index, and compares the others with them.
    if len(lists[False]) <= len(lists[True]):
        return Condition(column, "in", lists[False])
    return Not(InSubquery([column], table.name, [column], [Condition(column, "in", lists[True])]))


def _sort_dependent_first(db: Readable, tables: Sequence[str]) -> list[str]:
    """Return tables in the order in which their rows are deleted; of a cycle first one to which the others refer by columns that may be NULL."""

    def list_blocking(table: str, *, clearable: bool) -> list[Reference]:
        return [
            key
            for key in db.references(table)
            if key.table in remaining
            and key.table != table
            and key.on_delete != "SET NULL"
            and not (clearable and _is_clearable(db, key))
        ]

    remaining, ordered = list(tables), list[str]()
    while remaining:
        candidates = [
            table
            for clearable in (False, True)
            for table in remaining
            if not list_blocking(table, clearable=clearable)
        ]
        ordered.append((candidates or remaining)[0])
        remaining.remove(ordered[-1])
    return ordered


def _is_clearable(db: Readable, key: Reference) -> bool:
    columns = db.tables()[key.table].columns
    return all(columns[column].nullable for column in key.columns)


def _list_statements(db: Readable, table: str, where: Where, *, by_key: bool = False) -> Iterator[Where]:
    """Yield the conditions of the statements that change rows, on request by their keys.

    MySQL does not read the table that a statement changes, so a condition that does selects the rows by their keys as well.
    """
    key = db.tables()[table].primary_key
    if not key or not (by_key or _reads(where, table)):
        yield where
        return
    rows, size = db.select(table, key, [where]), BATCH if len(key) == 1 else KEYS_PER_QUERY
    for batch in split_batches(rows, size):
        yield match_rows(key, batch)


def _reads(where: Where, table: str) -> bool:
    """Return whether a condition reads a table in a subquery."""
    match where:
        case InSubquery():
            return where.table == table or any(_reads(inner, table) for inner in where.where)
        case AnyOf() | AllOf():
            return any(_reads(inner, table) for inner in where.conditions)
        case Not():
            return _reads(where.condition, table)
    return False
