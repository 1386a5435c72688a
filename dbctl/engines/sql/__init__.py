"""Shared code of the SQL engines: query builder, staging, digests, full text."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sql.explain import PlanReader
    from dbctl.engines.sql.fulltext import RankedReader, Ranking
    from dbctl.engines.sql.query_builder import (
        NO_LIMIT,
        Row,
        SqlReader,
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
    from dbctl.engines.sql.recount import Recount
    from dbctl.engines.sql.staging import (
        SqlStagedRows,
        SqlStaging,
        StagedCounts,
        StagedRows,
        StagingTables,
        declare_columns,
    )
    from dbctl.engines.sql.table_digest import digest_tables, find_differences
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "explain": "PlanReader",
            "fulltext": "RankedReader Ranking",
            "query_builder": (
                "NO_LIMIT Row SqlReader Statement conflict_clause escape_like ident is_storable merge_expressions "
                "quote_literal require_column_count select_all_from"
            ),
            "recount": "Recount",
            "staging": "SqlStagedRows SqlStaging StagedCounts StagedRows StagingTables declare_columns",
            "table_digest": "digest_tables find_differences",
        },
    )
