"""Queries of LanceDB: predicates, ordering, text scans, vector search."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.query.ordering import ROW_ID, RowOrder
    from dbctl.engines.lancedb.query.predicates import MIN_MILLISECONDS, PredicateCompiler, matches_row
    from dbctl.engines.lancedb.query.text_scan import LanceTextScan
    from dbctl.engines.lancedb.query.vectors import MAX_PARTITIONS, LanceVectors
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "ordering": "ROW_ID RowOrder",
            "predicates": "MIN_MILLISECONDS PredicateCompiler matches_row",
            "text_scan": "LanceTextScan",
            "vectors": "LanceVectors MAX_PARTITIONS",
        },
    )
