"""Queries of LanceDB: predicates, ordering, text scans, vector search."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.lancedb.query.ordering import RowOrder
    from dbctl.engines.lancedb.query.rows import MIN_MILLISECONDS, RowReader, matches_row
    from dbctl.engines.lancedb.query.vectors import MAX_PARTITIONS, LanceVectors
