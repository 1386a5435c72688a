"""Revert an operation of the audit log from the rows before it."""
