"""Write results (as table, plain columns, JSON, csv, tsv or markdown) and errors."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.render.envelope import line, schema
    from dbctl.render.escaping import escape
    from dbctl.render.grid import build_blocks, list_rows, summary_fields
    from dbctl.render.options import Format, OutputOptions, is_terminal
    from dbctl.render.result import CommandOutput
    from dbctl.render.streams import write_bytes
    from dbctl.render.values import fields_of, jsonable
