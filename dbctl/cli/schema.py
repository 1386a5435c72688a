"""``dbctl schema``: describe and draw the live schema."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING, Annotated, TypeAlias

from dbctl.cli._support.emit import emit, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag
from dbctl.cli._support.parameters import Limit, Offset, Sort, requested_page
from dbctl.cli._support.session import Session
from dbctl.model import Page
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.services.schema.description import TableDescriptions, TableOverview
    from dbctl.services.schema.diagram import SchemaDiagram


GROUP = Group(
    "schema", section="Schema", position=1, help="Schemas: describe tables, draw a diagram, compare."
)

Tables: TypeAlias = Annotated[list[str] | None, argument("[TABLE]...", "Tables, or views; default: all.")]


@Example("schema show", on=EVERYWHERE)
@Example("schema show users roles")
@GROUP.command("show", answers=lambda: (Page[TableOverview], TableDescriptions))
def show(
    session: Session, tables: Tables = None, limit: Limit = 100, offset: Offset = 0, sort: Sort = ""
) -> int:
    """List tables and views with rows and size, or describe some of them.

    A description has columns, keys, indexes, foreign keys in both directions, checks, triggers, comments, and the query
    of a view, in the same form on every engine. Row counts of large tables on a server are estimates.
    """
    from dbctl.services.schema.description import describe_tables, list_tables

    with session.open_app() as app:
        if tables:
            return emit(session, describe_tables(app, tables), app=app, columns_apply=False)
        overviews = list_tables(app, requested_page(limit, offset, sort))
        for error in overviews.failed:
            warn(session, str(error))
        return emit(session, overviews.page, status=overviews.status, target=app.name)


@Example("schema diagram > schema.mmd", on="custom samples")
@Example("schema diagram users --keys", on="flashpoint-web")
@GROUP.command("diagram", answers=lambda: (SchemaDiagram,))
def diagram(
    session: Session,
    tables: Tables = None,
    keys: Annotated[bool, flag("--keys", "Show only the columns of keys.")] = False,
) -> int:
    """Print tables and foreign keys as an entity relationship diagram of Mermaid.

    With TABLE, the tables to which it refers, and those that refer to it, are drawn without columns. A solid line is a foreign key
    within the primary key. GitHub, GitLab and other pages draw the diagram from a block of code of the language mermaid.
    """
    from dbctl.services.schema.diagram import draw_diagram

    with session.open_app() as app:
        result = draw_diagram(app, tables or (), only_keys=keys)
        if result.is_large:
            warn(session, "Mermaid draws this diagram only with raised limits; select tables, or pass --keys")
        if session.options.output is not Format.TABLE:
            return emit(session, result, app=app)
        streams.write_file(result.mermaid)
        return 0
