"""Queries of LanceDB: predicates, ordering, text scans, vector search."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.query.ordering import ROW, Sorted
    from dbctl.engines.lancedb.query.predicates import SECONDS, Filters, same_row
    from dbctl.engines.lancedb.query.text_scan import LanceLooks
    from dbctl.engines.lancedb.query.vectors import MOST_PARTITIONS, LanceVectors
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "ordering": "ROW Sorted",
            "predicates": "Filters SECONDS same_row",
            "text_scan": "LanceLooks",
            "vectors": "LanceVectors MOST_PARTITIONS",
        },
    )
