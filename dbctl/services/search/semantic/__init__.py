"""Semantic search: nearest rows by their vectors, the vector index, and the creation of vectors."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.search.semantic.index import NAME, VectorIndexChange
    from dbctl.services.search.semantic.make_vectors import MakeVectors, MakeVectorsResult
    from dbctl.services.search.semantic.search import Reference, SemanticRequest
    from dbctl.services.search.semantic.store_vector import VectorStored
    from dbctl.services.search.semantic.vector_input import MAX_BYTES
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "index": "NAME VectorIndexChange",
            "make_vectors": "MakeVectors MakeVectorsResult",
            "search": "Reference SemanticRequest",
            "store_vector": "VectorStored",
            "vector_input": "MAX_BYTES",
        },
    )
