"""``dbctl toy``: a group of commands."""

from collections.abc import Iterator

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.session import Session
from dbctl.model import Page, Struct
from dbctl.services.app.app import App
from dbctl.spec import Example, Fleet

GROUP = Group("toy", section="Inspect", position=20, help="Count the rows of all tables.")


class RowCount(Struct, frozen=True, kw_only=True):
    """The rows of one table."""

    database: str
    table: str
    rows: int


@Example("toy count")
@GROUP.command("count", answers=lambda: (Page[RowCount],), fleet=Fleet(), recorded=True)
def count(session: Session) -> int:
    """Count the rows of all tables of an app."""
    with session.open_app() as app:
        items = [*_count_rows(app)]
    return emit(session, Page(items=items, total=len(items), column_names=RowCount.__struct_fields__))


def _count_rows(app: App) -> Iterator[RowCount]:
    for database in app.configured.databases:
        db = app.reader(database)
        for table in db.tables():
            yield RowCount(database=database, table=table, rows=db.count(table))
