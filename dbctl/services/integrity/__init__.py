"""Repair of rows that differ from those of another database, and of times in several forms."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.integrity.repair import RepairResult
