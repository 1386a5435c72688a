"""Query plans and full-text indexes of PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import Explanation
from dbctl.engines.contract.fulltext import (
    IndexFault,
    IndexState,
    IndexUse,
    TextIndexSpec,
    TextQuery,
    positive_terms,
)
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLPart
from dbctl.engines.sql.catalog import Catalog, Statement, ident
from dbctl.engines.sql.database import SqlExplainer
from dbctl.engines.sql.fulltext import RankedSearch, Ranking
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import ValueInvalidError


class PostgreSQLExplainer(SqlExplainer):
    """The part ``Explainer``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        super().__init__(db)
        self._connection = db.connection

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        try:
            return self.explain_statement(sql, parameters, {})
        except QueryFailedError as error:
            if not (error.__cause__ and str(getattr(error.__cause__, "sqlstate", "")).startswith("22")):
                raise
        # A value has the wrong type, which does not matter for the plan: explain the statement with NULLs.
        nothing: dict[str, object] = {
            name: [] if isinstance(value, list) else None for name, value in parameters.items()
        }
        return structs.replace(
            self.explain_statement(sql, nothing, {}), parameters=tuple(parameters.values())
        )

    def explain_statement(
        self,
        sql: str,
        parameters: Mapping[str, object],
        aliases: Mapping[str, str],  # noqa: ARG002 - plans contain the names of tables
    ) -> Explanation:
        with self._connection.read_transaction():
            lines = self._connection.fetch(f"explain {sql}", parameters)
            ((plan,),) = self._connection.fetch(f"explain (format json) {sql}", parameters)
        scanned = [
            name for (document,) in [json.loads(str(plan))] for name in _find_full_scans(document["Plan"])
        ]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[str(line) for (line,) in lines],
            full_scans=list(dict.fromkeys(scanned)),
        )


def _find_full_scans(plan: Mapping[str, object]) -> Iterator[str]:
    """Yield the tables that are scanned entirely."""
    kind = str(plan["Node Type"])
    if "Seq Scan" in kind or ("Index" in kind and "Relation Name" in plan and "Index Cond" not in plan):
        yield str(plan["Relation Name"])
    inner = plan.get("Plans", [])
    if isinstance(inner, list):
        for child in inner:
            yield from _find_full_scans(child)


INDEXES = """select i.relname, x.indisvalid and x.indisready, m.amname::text,
  coalesce(pg_catalog.pg_get_expr(x.indexprs, x.indrelid), ''), x.indpred is not null
from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_am m on m.oid = i.relam
where x.indrelid = cast(:table as regclass) order by i.relname"""
#: What the server adds to an expression.
_SERVER_ADDITIONS = re.compile(r"::(?:regconfig|text)|[()\s\"]")


class PostgreSQLFullText(RankedSearch):
    """The part ``FullText``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        super().__init__(db, PostgreSQLExplainer(db))

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        rows = self._connection.fetch(INDEXES, {"table": self._catalog.quote_table(spec.table)})
        expected = _normalize(_tsvector(self._catalog, spec, ""))
        for name, valid, method, expression, partial in rows:
            if method == "gin" and valid and not partial and _normalize(str(expression)) == expected:
                return IndexState(name=str(name), state="valid")
        for name, valid, *_ in rows:
            if name == spec.index_name:
                reason = "it covers other columns" if valid else "it is invalid: its creation was interrupted"
                return IndexState(name=spec.index_name, state="broken", reason=reason)
        return IndexState(name=spec.index_name, state="missing")

    def find_text_index_faults(self, spec: TextIndexSpec) -> Sequence[IndexFault]:  # noqa: ARG002 - as in the contract
        return ()  # the server updates index and row together

    def text_index_use(self, spec: TextIndexSpec, query: TextQuery) -> IndexUse:  # noqa: ARG002 - as in the contract
        # The server's parser treats a/b, www.example.org, <tag> or -4 as one word, and its dictionaries drop words, so the
        # index lacks words of a row.
        return "rank"

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        configuration = _configuration(spec)
        terms = [" ".join(term.words) for term in positive_terms(query)]
        queries = [f"phraseto_tsquery({configuration}, {statement.bind(text)})" for text in terms]
        words = f"({' || '.join(queries)})" if queries else "''::tsquery"
        return Ranking(
            source=f"{self._catalog.quote_table(spec.table)} t0",
            test="",
            score=f"ts_rank({_tsvector(self._catalog, spec, 't0.')}, {words})::float8",
        )


class PostgreSQLTextIndexes(PostgreSQLPart):
    """The part ``TextIndexes``; the server maintains the index."""

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        rows = self._connection.fetch(INDEXES, {"table": self._catalog.quote_table(spec.table)})
        names = [str(row[0]) for row in rows if row[0] == spec.index_name]
        return {f"drop index {name}": f"drop index {ident(name)}" for name in names}

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        statement = f"create index {ident(spec.index_name)} on {self._catalog.quote_table(spec.table)} using gin ({_tsvector(self._catalog, spec, '')})"
        return {
            f"create index {spec.index_name} (GIN) on {spec.table}; this blocks writes to the table": statement
        }

    def mark_text_index(self, spec: TextIndexSpec) -> None:
        """Do nothing: the app recognises the index by its name."""

    def probe_text_index(self, spec: TextIndexSpec) -> None:
        """Do nothing: the server updates index and row together."""


def _normalize(expression: str) -> str:
    return _SERVER_ADDITIONS.sub("", expression).replace("COALESCE", "coalesce")


def _configuration(spec: TextIndexSpec) -> str:
    """Return the text search configuration as a constant, so that the planner finds the index."""
    if not (spec.language.isidentifier() and spec.language.isascii()):
        raise ValueInvalidError(name="language", value=repr(spec.language), reason="it must be one word")
    return f"'{spec.language}'"


def _tsvector(catalog: Catalog, spec: TextIndexSpec, prefix: str) -> str:
    """Return SQL for the tsvector that the index contains; ``prefix`` qualifies the columns."""
    return f"to_tsvector({_configuration(spec)}, {_indexed_text(catalog, spec, prefix)})"


def _indexed_text(catalog: Catalog, spec: TextIndexSpec, prefix: str) -> str:
    columns = [catalog.require_column(spec.table, name) for name in spec.columns]
    names = [f"{prefix}{ident(column.name)}" for column in columns]
    # An index over a nullable column must still cover the other columns.
    return " || ' ' || ".join(
        f"coalesce({name}, '')" if column.nullable else name
        for name, column in zip(names, columns, strict=True)
    )
