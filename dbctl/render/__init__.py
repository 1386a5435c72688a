"""Write results (as table, plain columns, JSON, csv, tsv or markdown) and errors."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.render.envelope import schema
    from dbctl.render.escaping import escape
    from dbctl.render.grid import build_blocks
    from dbctl.render.options import Format, OutputOptions, is_terminal
    from dbctl.render.streams import write_bytes
    from dbctl.render.values import jsonable
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "envelope": "schema",
            "escaping": "escape",
            "grid": "build_blocks",
            "options": "Format OutputOptions is_terminal",
            "streams": "write_bytes",
            "values": "jsonable",
        },
    )
