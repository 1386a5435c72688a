"""``dbctl version``: versions of dbctl, its libraries and drivers, and client programs."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.session import Session
from dbctl.model import Page
from dbctl.services.support.versions import Component, list_components
from dbctl.spec import EVERYWHERE, Example

GROUP = Group(
    "version", section="Automate", position=9, help="Versions of dbctl, drivers and client programs."
)


@Example("version", on=EVERYWHERE)
@Example("version -o json")
@GROUP.command(answers=lambda: (Page[Component],))
def version(session: Session) -> int:
    """Show the versions of dbctl, Python, SQLite, the libraries and drivers, and the client programs of servers.

    dbctl --version prints the version of dbctl alone, and runs no program.
    """
    items = list_components()
    return emit(session, Page(items=items, total=len(items), column_names=Component.__struct_fields__))
