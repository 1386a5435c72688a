"""Indexes of words in MySQL and MariaDB: FULLTEXT over some columns of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dbctl.engines.contract import IndexFault, IndexState, IndexUse, TextIndex, TextQuery, positive_terms
from dbctl.engines.mysql.explain import MySQLPlans
from dbctl.engines.sql import RankedReader, Ranking, Statement, ident

INDEXES = """select s.index_name, s.index_type, s.column_name from information_schema.statistics s
where s.table_schema = database() and s.table_name = :table order by s.index_name, s.seq_in_index"""


class MySQLFullText(RankedReader, MySQLPlans):
    """Capability.FULL_TEXT, for readers and writers."""

    def text_index(self, told: TextIndex) -> IndexState:
        found = self._indexes(told)
        wanted = [name.lower() for name in told.columns]
        for name, (kind, columns) in found.items():
            if kind == "FULLTEXT" and [column.lower() for column in columns] == wanted:
                return IndexState(name=name, state="sound")
        if told.index in found:
            return IndexState(name=told.index, state="broken", reason="it is over something else")
        return IndexState(name=told.index, state="missing")

    def _indexes(self, told: TextIndex) -> dict[str, tuple[str, list[str]]]:
        found: dict[str, tuple[str, list[str]]] = {}
        for name, kind, column in self._fetch(INDEXES, {"table": self._checked(told.table).name}):
            found.setdefault(str(name), (str(kind), []))[1].append(str(column))
        return found

    def text_index_faults(self, told: TextIndex) -> Sequence[IndexFault]:  # noqa: ARG002 - as in the contract
        return ()  # the server changes index and row as one

    def text_index_use(self, told: TextIndex, query: TextQuery) -> IndexUse:  # noqa: ARG002 - as in the contract
        # InnoDB leaves short words and stop words out, as the server was told to, and takes a_b or l'eau for one word each.
        return "rank"

    def _ranking(self, statement: Statement, told: TextIndex, query: TextQuery) -> Ranking:
        names = [self._column(told.table, name, "t0") for name in told.columns]
        words = [word for term in positive_terms(query) for word in re.findall(r"\w+", " ".join(term.pieces))]
        asked = statement.bind(" ".join(words))
        score = f"match({', '.join(names)}) against ({asked} in natural language mode)"
        return Ranking(source=f"{self._table(told.table)} t0", test="", score=score)


class MySQLTextWriter(MySQLFullText):
    """Capability.FULL_TEXT of a writer; the index itself is what the server keeps."""

    def text_index_drops(self, told: TextIndex) -> Mapping[str, str]:
        names = [name for name in self._indexes(told) if name == told.index]
        return {
            f"drop index {name}": f"drop index {ident(name)} on {self._table(told.table)}" for name in names
        }

    def text_index_makes(self, told: TextIndex) -> Mapping[str, str]:
        columns = ", ".join(self._column(told.table, name, "") for name in told.columns)
        made = f"create fulltext index {ident(told.index)} on {self._table(told.table)} ({columns})"
        return {f"make index {told.index} (FULLTEXT) on {told.table}; changes of it wait meanwhile": made}

    def mark_text_index(self, told: TextIndex) -> None:
        """Do nothing: an app that made an index here itself would find it by its name."""

    def probe_text_index(self, told: TextIndex) -> None:
        """Do nothing: the server changes index and row as one."""
