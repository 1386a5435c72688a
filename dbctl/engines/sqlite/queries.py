"""Parts of a SQLite database that read rows: query plans, and a scan of all texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.sql.checks import SqlExplainer
from dbctl.engines.sql.fulltext import SqlTextScanner
from dbctl.engines.sqlite.dialect import expand_sets
from dbctl.errors.connection import QueryFailedError

#: Whether a table is a shadow table, or a full-text index over the text of another table, which triggers may copy.
_INDEX_TABLE = """select 1 from pragma_table_list l join sqlite_master m on m.name = l.name
where l.schema = 'main' and l.name = :table
and (l.type = 'shadow' or (l.type = 'virtual' and (replace(m.sql, ' ', '') like '%content=%' or exists (
    select 1 from sqlite_master t where t.type = 'trigger' and instr(lower(t.sql), lower(l.name))))))"""


class SQLiteExplainer(SqlExplainer):
    """The part ``Explainer``."""

    def explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        plan, scanned = self._read_plan(sql, parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=[aliases[name] for name in scanned if name in aliases],
        )

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        self._refuse_unknown_names(sql)
        expanded_sql, expanded_parameters = expand_sets(sql, parameters)
        plan, scanned = self._read_plan(expanded_sql, expanded_parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=list(dict.fromkeys(name for name in scanned if name in self._catalog.tables())),
        )

    def _refuse_unknown_names(self, sql: str) -> None:
        """Refuse unknown names in double quotes, because SQLite would read them as text without an error."""
        from dbctl.engines.sqlite.schema import find_unknown_names

        names = {column.lower() for table in self._catalog.tables().values() for column in table.columns}
        unknown_names = find_unknown_names(sql, names | {name.lower() for name in self._catalog.tables()})
        if unknown_names:
            reason = f"no column {unknown_names[0]}; SQLite reads an unknown name in double quotes as text"
            raise QueryFailedError(target=self._catalog.target, reason=reason)

    def _read_plan(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[str]]:
        """Return the steps of SQLite's plan, and the tables or aliases that it reads completely."""
        depth: dict[object, int] = {}
        plan, scanned = [], []
        for step, parent, _unused, detail in self._connection.fetch(f"explain query plan {sql}", parameters):
            depth[step] = depth.get(parent, -1) + 1
            plan.append("  " * depth[step] + str(detail))
            words = str(detail).split()
            if words[:1] == ["SCAN"] and "INDEX" not in words:
                scanned.append(words[1])
        return plan, scanned


class SQLiteTextScanner(SqlTextScanner):
    """The part ``TextScanner``."""

    def text_columns(self, table: str) -> Sequence[str]:
        return [] if self._connection.fetch(_INDEX_TABLE, {"table": table}) else super().text_columns(table)
