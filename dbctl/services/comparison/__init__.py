"""Comparisons of two databases: their schemas, and their rows."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.comparison.rows import DataDiff, DiffRequest, compare_data
    from dbctl.services.comparison.schemas import SchemaDiff, compare_schemas
    from dbctl.services.comparison.sides import Side, SideOptions, open_sides
