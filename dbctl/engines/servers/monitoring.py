"""Monitoring that all servers share: sessions of a database, checks that are queries, and orphaned rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from msgspec import structs

from dbctl.engines.contract.checks import IndexDifference, LockHolder, OrphanedRows
from dbctl.engines.contract.monitoring import EngineFinding, FindingQuery, Session, row_findings
from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.statement import ident
from dbctl.errors.usage import NotSupportedError

#: Seconds for a query that waits for no lock.
SHORT_TIMEOUT = 5.0
#: Rows of tables above this size, in bytes, are estimated unless an exact count is requested.
LARGE_TABLE = 16 << 20


#: A server without locks that last as long as a session.
LOCK_MISSING = EngineFinding(
    severity="warning",
    code="lock-missing",
    message="this server has no locks of sessions, so two dbctl processes may write at the same time",
    hint="Run one dbctl process at a time for this database.",
)


def describe_holders(
    holders: Sequence[LockHolder], sessions: Sequence[Session], locks: Mapping[int, Sequence[str]]
) -> Sequence[LockHolder]:
    """Add the locks by pid, the statement and the age of the transaction to the sessions of a database."""
    by_pid = {session.pid: session for session in sessions}
    return [
        structs.replace(
            holder,
            locks=locks.get(holder.pid, ()),
            query=by_pid[holder.pid].query if holder.pid in by_pid else "",
            transaction_seconds=by_pid[holder.pid].transaction_seconds if holder.pid in by_pid else None,
        )
        for holder in holders
    ]


def find_problems(
    connection: ServerConnection[Any], checks: Iterable[FindingQuery], parameters: Mapping[str, object] = {}
) -> Iterator[EngineFinding]:
    """Run checks, and yield the finding of each row."""
    for check in checks:
        yield from row_findings(check, connection.fetch(check.sql, parameters))


class ServerChecks(ABC):
    """The part ``Checks``, except ``find_damage``, which each engine implements."""

    def __init__(self, db: SqlDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog

    @abstractmethod
    def _row_label(self, key: Sequence[str]) -> str:
        """Return SQL for a text that identifies a row of ``c``."""

    def _select_tables(self, table: str) -> list[str]:
        if table:
            return [self._catalog.require_table(table).name]
        return self._catalog.base_tables()

    def _find_orphans(
        self, child: str, schema: str, parent: str, columns: Sequence[str], to: Sequence[str]
    ) -> Iterator[OrphanedRows]:
        """Yield the orphaned rows of ``child``, if any."""
        link = " and ".join(
            f"p.{ident(target)} = c.{ident(source)}" for source, target in zip(columns, to, strict=True)
        )
        has_key = " and ".join(f"c.{ident(column)} is not null" for column in columns)
        key = self._catalog.primary_key(child)
        sql = (
            f"select count(*), {f'min({self._row_label(key)})' if key else 'null'} from {ident(child)} c where {has_key}"
            f" and not exists (select 1 from {ident(schema)}.{ident(parent)} p where {link})"
        )
        ((count, first_label),) = cast("list[tuple[int, str | None]]", self._connection.fetch(sql))
        if count:
            example = f"{', '.join(key)} {first_label}" if key else None
            yield OrphanedRows(
                table=child, columns=columns, referenced_table=parent, count=count, example=example
            )

    def find_index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        del index, limit  # the engine cannot read an index without its table
        return ()

    def count_lost_commits(self) -> int:
        return 0  # the server replays its complete log, or does not start

    def list_text_indexes(self) -> Sequence[str]:
        return ()

    def check_text_index(self, name: str) -> str:
        raise NotSupportedError(
            feature=f"checking {name}", subject=self._catalog.target, hint="It is not a full-text index."
        )
