"""Parse SQL of SQLite: CREATE statements, normalization, scripts, lint."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
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
