"""The live schema of a database: descriptions of its tables, and a diagram."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.schema.description import (
        TableDescriptions,
        TableOverview,
        describe_tables,
        list_tables,
    )
    from dbctl.services.schema.diagram import SchemaDiagram, draw_diagram
