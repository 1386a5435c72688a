"""Search of an app's content: queries, filters, snippets, indexes."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.search.all_tables import AllTablesResult, Match
    from dbctl.services.search.compiler import QueryCompiler
    from dbctl.services.search.detail import RowDetail
    from dbctl.services.search.external_index import (
        IndexChangeResult,
        has_external_index,
        list_external_indexes,
    )
    from dbctl.services.search.fulltext import add_repair_hint
    from dbctl.services.search.index import IndexStatus, build_index, rebuild_index
    from dbctl.services.search.search import SearchRequest, Step
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "all_tables": "AllTablesResult Match",
            "compiler": "QueryCompiler",
            "detail": "RowDetail",
            "external_index": "IndexChangeResult has_external_index list_external_indexes",
            "fulltext": "add_repair_hint",
            "index": "IndexStatus build_index rebuild_index",
            "search": "SearchRequest Step",
        },
    )
