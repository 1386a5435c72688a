"""Shared code of the SQL engines: query builder, staging, digests, full text."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sql.catalog import Catalog
    from dbctl.engines.sql.database import Connection, SqlDatabase
    from dbctl.engines.sql.dialect import Dialect
    from dbctl.engines.sql.explain import SqlExplainer
    from dbctl.engines.sql.fulltext import RankedSearch, Ranking
    from dbctl.engines.sql.query_builder import QueryBuilder
    from dbctl.engines.sql.recount import Recount
    from dbctl.engines.sql.staging import (
        SqlStagedRows,
        SqlStagingTables,
        StagedCounts,
        StagedRows,
        StagingTables,
        declare_columns,
    )
    from dbctl.engines.sql.statement import (
        NO_LIMIT,
        Row,
        Statement,
        conflict_clause,
        escape_like,
        ident,
        is_storable,
        merge_expressions,
        quote_literal,
        require_column_count,
        select_all_from,
    )
    from dbctl.engines.sql.table_digest import digest_tables, find_differences, require_loaded_rows
    from dbctl.engines.sql.text_scan import SqlTextScanner
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "catalog": "Catalog",
            "database": "Connection SqlDatabase",
            "dialect": "Dialect",
            "explain": "SqlExplainer",
            "fulltext": "RankedSearch Ranking",
            "query_builder": "QueryBuilder",
            "recount": "Recount",
            "staging": "SqlStagedRows SqlStagingTables StagedCounts StagedRows StagingTables declare_columns",
            "statement": (
                "NO_LIMIT Row Statement conflict_clause escape_like ident is_storable merge_expressions quote_literal "
                "require_column_count select_all_from"
            ),
            "table_digest": "digest_tables find_differences require_loaded_rows",
            "text_scan": "SqlTextScanner",
        },
    )
