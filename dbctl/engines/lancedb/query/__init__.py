"""Queries of LanceDB: predicates, ordering, text scans, vector search."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.query.ordering import RowOrder
    from dbctl.engines.lancedb.query.predicates import MIN_MILLISECONDS, matches_row
    from dbctl.engines.lancedb.query.rows import RowReader
    from dbctl.engines.lancedb.query.vectors import MAX_PARTITIONS, LanceVectors
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "ordering": "RowOrder",
            "predicates": "MIN_MILLISECONDS matches_row",
            "rows": "RowReader",
            "vectors": "LanceVectors MAX_PARTITIONS",
        },
    )
