"""How a result is shown: table, plain columns, JSON envelope, csv, markdown, failure."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.render.envelope import schema
    from dbctl.render.escaping import escape
    from dbctl.render.grid import blocks
    from dbctl.render.options import Format, Look, is_terminal
    from dbctl.render.streams import write_bytes
    from dbctl.render.values import jsonable
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "envelope": "schema",
            "escaping": "escape",
            "grid": "blocks",
            "options": "Format Look is_terminal",
            "streams": "write_bytes",
            "values": "jsonable",
        },
    )
