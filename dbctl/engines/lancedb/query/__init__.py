"""Queries of LanceDB: predicates, ordering, text scans, vector search."""
