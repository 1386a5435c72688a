"""Find the rows that changed since an exported snapshot by the transactions that the server stores with each version of a row.

A change creates a new version at another place, whose ``xmin`` is its transaction, and stores that transaction as ``xmax`` of the
earlier version. No version that the snapshot reads is removed, so no place is used again. The transactions that had not ended in the
snapshot are those from its ``xmin`` on; further ones are candidates, too, because the snapshot does not list subtransactions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias, cast

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLPart
from dbctl.extensions.transfer.engines.postgresql.rows import PostgreSQLRowSource
from dbctl.extensions.transfer.portable.contract import ChangedRows
from dbctl.model import split_batches

#: The table or partition, and the place in it, of a version of a row.
_Version: TypeAlias = tuple[int, str]
#: Candidates of one table; with more, all rows are compared.
MAX_CANDIDATES = 50_000
_PLACES_PER_STATEMENT = 5_000
#: Tables of other access methods may have no versions.
_OTHER_METHODS = """select exists (select from pg_catalog.pg_class c left join pg_catalog.pg_am m on m.oid = c.relam
where c.relkind = 'r' and m.amname is distinct from 'heap')"""
#: The oldest transaction that had not ended in the snapshot, and the oldest set of transactions (multixact) in the database.
_BOUNDS = """select (pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) % 4294967296)::text, d.datminmxid::text
from pg_catalog.pg_database d where d.datname = current_database()"""
_VERSIONS = "select tableoid::int8, ctid::text from {table} where {condition} limit {limit}"
#: The numbers of transactions wrap around, which their age takes into account. That of a frozen version remains stored.
_SINCE = "pg_catalog.age({column}) <= (select pg_catalog.age('{xmin}'::xid))"
#: Besides a transaction that changed, locked or failed to change it, a version may store a set of them, with numbers of its own: its
#: age grows concurrently, so it is compared with one that is read after it.
_REPLACED = f"""not xmax = '0' and ({_SINCE.format(column="xmax", xmin="{xmin}")}
  or pg_catalog.mxid_age(xmax) > 0 and pg_catalog.mxid_age(xmax) <= pg_catalog.mxid_age('{{oldest}}'::xid))"""


class _Side(NamedTuple):
    """One state, and SQL for its versions that the other one may lack."""

    connection: PostgreSQLConnection
    condition: str


class PostgreSQLVersions(PostgreSQLPart, ChangedRows):
    def select_changed(
        self, other: Readable, tables: Collection[str], *, private: bool
    ) -> tuple[PostgreSQLRowSource, PostgreSQLRowSource] | None:
        del private  # a snapshot excludes other writers
        url, later = self._connection.url, cast("PostgreSQLDatabase", other)
        is_snapshot = url.snapshot and structs.replace(url, snapshot="") == later.connection.url
        if not is_snapshot or self._connection.fetch(_OTHER_METHODS) == [(True,)]:
            return None
        ((xmin, oldest),) = self._connection.fetch(_BOUNDS)
        sides = (
            _Side(self._connection, _REPLACED.format(xmin=xmin, oldest=oldest)),
            _Side(later.connection, _SINCE.format(column="xmin", xmin=xmin)),
        )
        only_first, only_second = dict[str, Collection[_Version]](), dict[str, Collection[_Version]]()
        for table in tables:
            first, second = (self._find_candidates(side, table) for side in sides)
            if max(len(first), len(second)) <= MAX_CANDIDATES:
                only_first[table] = first - self._find_visible(sides[1].connection, table, first)
                only_second[table] = second - self._find_visible(sides[0].connection, table, second)
        return _RowsOfVersions(self._db, only_first), _RowsOfVersions(later, only_second)

    def _find_candidates(self, side: _Side, table: str) -> set[_Version]:
        sql = _VERSIONS.format(
            table=self._catalog.quote_table(table), condition=side.condition, limit=MAX_CANDIDATES + 1
        )
        return set(cast("list[_Version]", side.connection.fetch(sql)))

    def _find_visible(
        self, connection: PostgreSQLConnection, table: str, versions: Collection[_Version]
    ) -> set[_Version]:
        """Return those of the versions that a state has; partitions have different ones at the same place."""
        visible = set[_Version]()
        for batch in split_batches(versions, _PLACES_PER_STATEMENT):
            sql = f"select tableoid::int8, ctid::text from {self._catalog.quote_table(table)} where ctid = any({_list_places(batch)})"
            visible.update(cast("list[_Version]", connection.fetch(sql)))
        return visible.intersection(versions)


class _RowsOfVersions(PostgreSQLRowSource):
    """The rows with some of the versions of each table; all rows of the others."""

    def __init__(self, db: PostgreSQLDatabase, versions: Mapping[str, Collection[_Version]]) -> None:
        super().__init__(db)
        self._versions = versions

    def _select_from(self, table: str) -> str:
        name, versions = super()._select_from(table), self._versions.get(table)
        if versions is None:
            return name
        oids = ", ".join(str(oid) for oid, _ in versions)
        pairs = f"select * from unnest('{{{oids}}}'::int8[], {_list_places(versions)})"
        return f"(select * from {name} where ctid = any({_list_places(versions)}) and (tableoid::int8, ctid) in ({pairs})) t"


def _list_places(versions: Collection[_Version]) -> str:
    """Return an array in SQL; a condition with it reads these places directly."""
    places = ", ".join(f'"{place}"' for _, place in versions)
    return f"'{{{places}}}'::tid[]"
