"""Write results (as table, plain columns, JSON, csv, tsv or markdown) and errors."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.render.envelope import schema
    from dbctl.render.escaping import escape
    from dbctl.render.grid import build_blocks
    from dbctl.render.options import Format, OutputOptions, is_terminal
    from dbctl.render.streams import write_bytes
    from dbctl.render.values import jsonable
