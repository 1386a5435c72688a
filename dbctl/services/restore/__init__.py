"""Restore: apply, undo, preview, copy, single tables, drill."""
