"""Parse SQL of SQLite: CREATE statements, normalization, scripts, lint."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.sql.create_statement import (
        ColumnText,
        IndexText,
        normalize_trigger,
        normalize_view,
        normalize_virtual_table,
        parse_index,
        parse_table,
    )
    from dbctl.engines.sqlite.sql.normalize import find_unknown_names
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "create_statement": (
                "ColumnText IndexText normalize_trigger normalize_view normalize_virtual_table parse_index "
                "parse_table"
            ),
            "normalize": "find_unknown_names",
        },
    )
