"""Shared code of the SQL engines: query builder, staging, digests, full text."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sql.catalog import Catalog, LiveTables
    from dbctl.engines.sql.database import Connection, SqlDatabase, SqlExplainer
    from dbctl.engines.sql.dialect import Dialect
    from dbctl.engines.sql.fulltext import RankedSearch, Ranking, SqlTextScanner
    from dbctl.engines.sql.preview import SqlPreview, add_expressions, is_recursive
    from dbctl.engines.sql.query_builder import QueryBuilder, read_plainly
    from dbctl.engines.sql.recount import Recount
    from dbctl.engines.sql.staging import (
        SqlStagingTables,
        StagedCounts,
        StagedRows,
        StagingTables,
        declare_columns,
    )
    from dbctl.engines.sql.statement import (
        NO_LIMIT,
        BoundQuery,
        Row,
        Statement,
        conflict_clause,
        escape_like,
        ident,
        is_storable,
        lower_ascii,
        merge_expressions,
        quote_literal,
        require_column_count,
        select_all_from,
    )
    from dbctl.engines.sql.table_digest import (
        digest_tables,
        find_differences,
        list_comparable,
        require_loaded_rows,
    )
    from dbctl.engines.sql.write_lock import SqlWriteLock
    from dbctl.engines.sql.write_proof import SqlWriteProofs
