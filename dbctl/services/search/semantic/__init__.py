"""Semantic search: vectors, their index, and the texts that they are made from."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.search.semantic.index import NAME, VectorIndexChange
    from dbctl.services.search.semantic.make_vectors import VectorMaking, VectorsMade
    from dbctl.services.search.semantic.search import Asked, Like
    from dbctl.services.search.semantic.store_vector import VectorStored
    from dbctl.services.search.semantic.vector_input import LARGEST
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "index": "NAME VectorIndexChange",
            "make_vectors": "VectorMaking VectorsMade",
            "search": "Asked Like",
            "store_vector": "VectorStored",
            "vector_input": "LARGEST",
        },
    )
