"""Indexes of searches: full-text indexes, external indexes, and the vector index of the semantic search."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.search.indexes.base import IndexChangeResult, IndexStatus
    from dbctl.services.search.indexes.external import list_external_indexes
    from dbctl.services.search.indexes.selection import check, create_change, read_statuses
    from dbctl.services.search.indexes.text import (
        RENAME_HINT,
        build_index,
        check_text_indexes,
        find_broken,
    )
