"""Output on a terminal: colors, tables that fit its width, highlighted SQL, and the pager."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.render.terminal.layout import lay_out, style_help, wrap_remark
    from dbctl.render.terminal.live import LiveScreen
    from dbctl.render.terminal.pager import show_in_pager
    from dbctl.render.terminal.roles import Role
    from dbctl.render.terminal.screen import Screen
    from dbctl.render.terminal.sql import highlight_script
