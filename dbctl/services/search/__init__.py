"""Search of an app's content: queries, filters, snippets, indexes."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.search.all_tables import AllTablesResult, Match
    from dbctl.services.search.compiler import QueryCompiler
    from dbctl.services.search.detail import RowDetail
    from dbctl.services.search.external_lookup import has_external_index
    from dbctl.services.search.fulltext import add_repair_hint
    from dbctl.services.search.request import SearchRequest, Step
