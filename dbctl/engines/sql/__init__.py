"""SQL that several engines share: query builder, staging, digests, full text."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sql.explain import PlanReader
    from dbctl.engines.sql.fulltext import RankedReader, Ranking
    from dbctl.engines.sql.query_builder import (
        EVERY_ROW,
        Row,
        SqlReader,
        Statement,
        columns_of,
        counted_columns,
        ident,
        is_storable,
        like_literal,
        literal,
        merged,
        on_conflict,
    )
    from dbctl.engines.sql.recount import Figures
    from dbctl.engines.sql.staging import Aside, LaysAside, SqlAside, SqlLaysAside, Standing, declared
    from dbctl.engines.sql.table_digest import Holds, differing, digests
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "explain": "PlanReader",
            "fulltext": "RankedReader Ranking",
            "query_builder": (
                "EVERY_ROW Row SqlReader Statement columns_of counted_columns ident is_storable like_literal literal "
                "merged on_conflict"
            ),
            "recount": "Figures",
            "staging": "Aside LaysAside SqlAside SqlLaysAside Standing declared",
            "table_digest": "Holds differing digests",
        },
    )
