"""``dbctl apps instances``: the instances of fleets."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Sequence

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.config.resolver import FleetSelection
from dbctl.errors.base import Exit
from dbctl.errors.operations import InstanceNameInvalidError
from dbctl.model import Page, Struct
from dbctl.services.fleet.instances import Instance, list_instances
from dbctl.spec import EVERYWHERE, Example

GROUP = Group("apps")


class ListedInstance(Struct, frozen=True, kw_only=True):
    """An instance in the list of a fleet."""

    app: str  #: ``APP/INSTANCE``
    address: str | None  #: of its first database; None: the name is invalid
    problem: str | None  #: why no command works on it


@Example("apps instances --app {app}", on=EVERYWHERE)
@Example("apps instances -o csv")
@GROUP.command("instances", answers=lambda: (Page[ListedInstance],))
def instances(session: Session) -> int:
    """List the instances of fleets, with their addresses and problems; --app NAME selects a fleet.

    Exit 4 if no command works on an instance: its name is invalid, or its database is that of another instance; or if those of one of
    several fleets cannot be listed.
    """
    selection = session.selection
    if selection.app or selection.urls:
        selected = loader.find_app(selection, allow_fleet=True)
        fleets = [FleetSelection(selected)]
    else:
        fleets = [FleetSelection(app) for app in loader.load(selection).apps.values() if app.is_fleet]
    page = describe_instances(list_instances(fleets, timeout=session.options.timeout))
    has_problem = any(instance.problem for instance in page.items)
    return emit(session, page, status=Exit.CHECK_FAILED if has_problem else Exit.OK)


def describe_instances(instances: Sequence[Instance]) -> Page[ListedInstance]:
    """Return the list of instances with their addresses and problems."""
    items = []
    for instance in instances:
        has_address = instance.name and not isinstance(instance.problem, InstanceNameInvalidError)
        urls = instance.configure().databases if has_address else {}
        items.append(
            ListedInstance(
                app=instance.app,
                address=next((str(url) for url in urls.values()), None),
                problem=str(instance.problem) if instance.problem else None,
            )
        )
    return Page(items=items, total=len(items), column_names=ListedInstance.__struct_fields__)
