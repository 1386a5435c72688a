"""What a database shows about its app: tables, keys, foreign keys, and a bounded sample of rows."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from msgspec import structs

from dbctl.engines.contract.database import Column, Readable
from dbctl.engines.contract.schema import SchemaReference, SchemaTable, strip_collation
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, PrivilegeMissingError, QueryFailedError
from dbctl.model import Row, Struct

#: Rows at each end of a table that are read.
SAMPLE_ROWS = 40
#: Tables whose rows are read; in larger schemas those whose columns are relevant come first.
SAMPLED_TABLES = 400
#: Limits of one read, and of all reads together.
READ_LIMIT, TOTAL_SECONDS = timedelta(seconds=1), 6.0
#: Columns whose values may be large, and show nothing that a draft needs.
_LARGE_TYPES = re.compile(r"LONG(TEXT|BLOB)|MEDIUM(TEXT|BLOB)|JSON|XML|TSVECTOR|VECTOR|GEOMETRY")
_LARGE_NAMES = re.compile(
    r"^(data|payload|contents?|body|html|text|blob|raw|nodes|lexical|mobiledoc|embedding|attachment|image|file)$",
    re.IGNORECASE,
)
#: Columns of large texts that are read, because they show the roles of users and the forms of settings.
_VALUES = ("meta_value", "option_value", "value")
#: Tables with small values in such columns, like settings of users.
_USERS = re.compile(r"(^|_)(users?|accounts?|members?|customers?|people|persons?)$", re.IGNORECASE)
#: The tables that are sampled first.
_RELEVANT = re.compile(
    r"user|account|member|person|people|customer|auth|login|session|token|setting|option|config|role",
    re.IGNORECASE,
)


class TableEvidence(Struct, frozen=True, kw_only=True):
    """One table of the database, and some of its rows."""

    name: str
    columns: Mapping[str, Column]  #: without columns that a profile cannot name
    is_view: bool = False
    #: by its columns, each unique index without a condition; empty: the primary key
    keys: Mapping[Sequence[str], str] = {}
    references: Sequence[SchemaReference] = ()  #: its foreign keys
    rows: Sequence[Row] = ()  #: a sample, by column; without columns of large values
    unread: str = ""  #: why no row was read; empty: rows were read

    @property
    def key(self) -> str:
        """The primary key, or else a required column with a unique index; empty if no single column identifies a row."""
        primary = [column.name for column in self.columns.values() if column.is_primary_key]
        if len(primary) == 1:
            return primary[0]
        return next((column for column in map(str, self.columns) if self.is_unique(column)), "")

    def is_unique(self, column: str) -> bool:
        """Return whether a unique index covers exactly this column."""
        return (column,) in self.keys

    def values(self, column: str) -> list[object]:
        """Return the sampled values of a column that are not NULL."""
        return [row[column] for row in self.rows if row.get(column) is not None]

    def target(self, column: str) -> tuple[str, str] | None:
        """Return the table and column to which a foreign key of this column alone refers."""
        for reference in self.references:
            if list(reference.columns) == [column] and reference.to:
                return reference.table, reference.to[0]
        return None


class Evidence(Struct, frozen=True, kw_only=True):
    """The evidence about one database."""

    engine: str
    tables: Mapping[str, TableEvidence]
    skipped: Sequence[str] = ()  #: tables and columns with names that a profile cannot contain
    unread: Sequence[str] = ()  #: tables whose rows the role may not read, or that were not read in time
    denials: Sequence[PrivilegeMissingError] = ()  #: for each table whose rows the role may not read

    def base_tables(self) -> Iterable[TableEvidence]:
        return [table for table in self.tables.values() if not table.is_view]


def is_nameable(name: str) -> bool:
    """Return whether a profile can name a table or column: dots, arrows and a trailing ``?`` have a meaning there."""
    return bool(name.strip()) and not (
        re.search(r"[.\ud800-\udfff\0]| -> ", name) or name.endswith("?") or name != name.strip()
    )


def gather_evidence(db: Readable, engine: str) -> Evidence:
    """Read the schema, and some rows of each table; a table that cannot be read has the reason.

    Raises:
        PrivilegeMissingError: the role may not use the schema.
    """
    evidence = read_definitions(db, engine)
    columns = {table.name: _select_columns(table) for table in evidence.base_tables()}
    return add_samples(db, evidence, columns)


def read_definitions(db: Readable, engine: str) -> Evidence:
    """Read the schema without rows; raises as ``gather_evidence``."""
    live = db.tables()
    schema = _read_schema(db)
    names = [name for name in live if is_nameable(name)]
    skipped = [name for name in live if not is_nameable(name)]
    skipped += [
        f"{name}.{column}" for name in names for column in live[name].columns if not is_nameable(column)
    ]
    tables = {}
    for name in names:
        definition = schema.get(name)
        columns = {column.name: column for column in live[name].columns.values() if is_nameable(column.name)}
        tables[name] = TableEvidence(
            name=name,
            columns=columns,
            is_view=live[name].is_view,
            keys=_list_keys(columns, definition),
            references=definition.references if definition else (),
        )
    return Evidence(engine=engine, tables=tables, skipped=skipped)


def add_samples(db: Readable, evidence: Evidence, columns: Mapping[str, Sequence[str]]) -> Evidence:
    """Return evidence with some rows of the tables in ``columns``, with these columns."""
    rows, unread = _sample_tables(db, columns)
    tables = {
        name: structs.replace(
            table, rows=rows.get(name, ()), unread=_describe(unread[name]) if name in unread else ""
        )
        for name, table in evidence.tables.items()
    }
    denials = [error for error in unread.values() if isinstance(error, PrivilegeMissingError)]
    return structs.replace(evidence, tables=tables, unread=list(unread), denials=denials)


def _read_schema(db: Readable) -> dict[str, SchemaTable]:
    if db.schema_reader is None:
        return {}
    with suppress(QueryFailedError):  # such as a virtual table of an extension that only the app loads
        return {table.name: table for table in db.schema_reader.schema().tables}
    return {}


def _list_keys(columns: Mapping[str, Column], definition: SchemaTable | None) -> dict[Sequence[str], str]:
    primary = tuple(column.name for column in columns.values() if column.is_primary_key)
    keys = dict[Sequence[str], str]({primary: ""} if primary else {})
    for index in definition.indexes if definition else ():
        if index.unique and not index.where:
            names = tuple(_find_spelling(columns, strip_collation(column)) for column in index.columns)
            if all(names):
                keys.setdefault(names, index.name)
    return keys


def _find_spelling(columns: Mapping[str, Column], text: str) -> str:
    name = text.strip('"`')
    return name if name in columns else ""


def _select_columns(table: TableEvidence) -> list[str]:
    """Return the columns without those of large values."""
    return [
        column.name
        for column in table.columns.values()
        if (
            column.name in _VALUES
            or not _LARGE_TYPES.search(column.type)
            or ("JSON" in column.type and _USERS.search(table.name))
        )
        and not _LARGE_NAMES.search(column.name)
    ]


def _sample_tables(
    db: Readable, columns_by_table: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[Row]], dict[str, DbctlError | None]]:
    """Return the sampled rows by table, and each table that was not read, with its error; None: for lack of time."""
    deadline = time.monotonic() + TOTAL_SECONDS
    rows, unread = dict[str, list[Row]](), dict[str, DbctlError | None]()
    for index, name in enumerate(sorted(columns_by_table, key=lambda name: not _RELEVANT.search(name))):
        columns = columns_by_table[name]
        if index >= SAMPLED_TABLES or time.monotonic() > deadline:
            unread[name] = None
            continue
        try:
            sample = db.sample(name, columns, rows=SAMPLE_ROWS, timeout=READ_LIMIT) if columns else []
        except (BusyError, PrivilegeMissingError, QueryFailedError) as error:
            unread[name] = error
            continue
        if sample is None:
            unread[name] = None
        else:
            rows[name] = [dict(zip(columns, values, strict=True)) for values in sample]
    return rows, unread


def _describe(error: DbctlError | None) -> str:
    if error is None:
        return "reading it took too long"
    return "no privilege to read it" if isinstance(error, PrivilegeMissingError) else "it cannot be read"
