"""Semantic search: nearest rows by their vectors, and the creation of vectors."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.search.semantic.make_vectors import MakeVectors, MakeVectorsResult
    from dbctl.services.search.semantic.search import Reference, SemanticRequest, SemanticSearch
    from dbctl.services.search.semantic.store_vector import VectorStored
    from dbctl.services.search.semantic.vector_input import MAX_BYTES
