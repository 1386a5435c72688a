"""Write results (as table, plain columns, JSON, csv, tsv or markdown) and errors."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.render.drawing import color_help
    from dbctl.render.envelope import line, schema
    from dbctl.render.escaping import escape
    from dbctl.render.grid import build_blocks, list_rows, summary_fields
    from dbctl.render.human import format_duration
    from dbctl.render.options import (
        ColorChoice,
        Format,
        OutputOptions,
        ProgressMode,
        choose_color,
        is_terminal,
        supports_color,
        supports_drawing,
    )
    from dbctl.render.progress import create_display, write_report
    from dbctl.render.result import CommandOutput, closing_line
    from dbctl.render.streams import write_bytes
    from dbctl.render.template import parse_template
    from dbctl.render.values import fields_of, jsonable
