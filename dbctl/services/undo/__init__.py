"""Revert an operation of the audit log from the rows before it."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.undo.operation import Undone, undo_operation
