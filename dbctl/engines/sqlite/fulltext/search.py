"""Search through full-text indexes in SQLite, and compare them with their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.fulltext import IndexFault, IndexState, IndexUse, TextIndexSpec
from dbctl.engines.sql.catalog import Statement, ident
from dbctl.engines.sql.fulltext import RankedSearch, Ranking
from dbctl.engines.sqlite.fulltext.definition import TextIndexDefinition
from dbctl.engines.sqlite.fulltext.state import StoredTextIndex
from dbctl.engines.sqlite.queries import SQLiteExplainer

if TYPE_CHECKING:
    from dbctl.engines.contract.fulltext import TextQuery
    from dbctl.engines.sqlite.database import SQLiteDatabase

SLOW = "each change of a row scans the whole index"


class SQLiteFullText(RankedSearch):
    """The part ``FullText``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        super().__init__(db, SQLiteExplainer(db))

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        stored, name = StoredTextIndex(self._connection, spec), spec.index_table
        if not stored.exists:
            return IndexState(name=name, state="missing")
        reason = stored.damage_reason()
        if not reason:
            return IndexState(name=name, state="valid")
        if stored.has_plain_triggers():
            return IndexState(name=name, state="valid", reason=SLOW)
        if stored.is_foreign:
            return IndexState(name=name, state="broken", reason=reason, is_foreign=True)
        usable = stored.can_find_every_row() and self._has_every_row(spec)
        return IndexState(name=name, state="broken", reason=reason, usable=usable)

    def _has_every_row(self, spec: TextIndexSpec) -> bool:
        """Whether the index has as many entries as its table has rows."""
        entries, table = ident(f"{spec.index_table}_docsize"), self._catalog.quote_table(spec.table)
        sql = f"select (select count(*) from {entries}) = (select count(*) from {table})"
        return self._connection.fetch(sql) == [(1,)]

    def text_index_use(self, spec: TextIndexSpec, query: TextQuery) -> IndexUse:
        return "find" if _build_match(spec, query) else "none"

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        table_name = ident(spec.index_table)
        link = f"t0.{ident(spec.id)} = {table_name}.{ident(spec.key)}"
        columns = " ".join(map(ident, spec.columns))
        match = f"{{{columns}}} : ({_build_match(spec, query)})"
        return Ranking(
            source=f"{table_name} join {self._catalog.quote_table(spec.table)} t0 on {link}",
            test=f"{table_name} match {statement.bind(match)}",
            score=f"-bm25({table_name})",
        )

    def find_text_index_faults(self, spec: TextIndexSpec) -> Sequence[IndexFault]:
        table_name, key = ident(spec.index_table), f"f.{ident(spec.key)}"
        source, id_ = self._catalog.quote_table(spec.table), f"s.{ident(spec.id)}"
        differences = " or ".join(
            f"(f.{ident(name)} is not {value}"
            # Simple triggers insert the text unchanged.
            + (f" and f.{ident(name)} is not s.{ident(name)}" if name in spec.block_columns else "")
            + ")"
            for name, value in TextIndexDefinition(spec).column_values().items()
        )
        queries = {
            "missing": f"select {id_} as i from {source} s where {id_} not in (select {key} from {table_name} f where {key} is not null)",
            "stray": f"select coalesce({key}, '(no id)') as i from {table_name} f where {key} is null or {key} not in (select {id_} from {source} s)",
            "duplicate": f"select {key} as i from {table_name} f where {key} is not null group by {key} having count(*) > 1",
            "stale": f"select {id_} as i from {table_name} f join {source} s on {id_} = {key} where {differences}",
        }
        faults = []
        for kind, sql in queries.items():
            ((count, example),) = self._connection.fetch(f"select count(*), min(q.i) from ({sql}) q")
            if count:
                faults.append(IndexFault(kind=kind, count=int(str(count)), example=str(example)))  # type: ignore[arg-type]
        return faults


def _build_match(spec: TextIndexSpec, query: TextQuery) -> str:
    from dbctl.engines.sqlite.fulltext.fts5_query import FTS5Query

    return FTS5Query(spec).write(query)
