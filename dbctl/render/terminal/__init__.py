"""Output on a terminal: colors, tables that fit its width, highlighted SQL, and the pager."""
