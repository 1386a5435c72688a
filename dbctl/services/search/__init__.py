"""Search of an app: words, filters, snippets, indexes."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.search.all_tables import EverythingFound, Match
    from dbctl.services.search.compiler import Compiler
    from dbctl.services.search.detail import Whole
    from dbctl.services.search.external_index import IndexChanged, is_aside, of_database
    from dbctl.services.search.fulltext import name_repair
    from dbctl.services.search.index import Standing, make_index, remake_index
    from dbctl.services.search.search import Asked, Step
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "all_tables": "EverythingFound Match",
            "compiler": "Compiler",
            "detail": "Whole",
            "external_index": "IndexChanged is_aside of_database",
            "fulltext": "name_repair",
            "index": "Standing make_index remake_index",
            "search": "Asked Step",
        },
    )
