"""SQL of SQLite: CREATE statements, normalization, scripts, lint."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.sql.create_statement import (
        ColumnText,
        IndexText,
        index_text,
        rest_of_table,
        table_text,
        trigger_text,
        view_text,
    )
    from dbctl.engines.sqlite.sql.normalize import strange_names
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "create_statement": "ColumnText IndexText index_text rest_of_table table_text trigger_text view_text",
            "normalize": "strange_names",
        },
    )
