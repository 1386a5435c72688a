"""``dbctl wait``: wait until the databases answer."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.

from dbctl.cli._support.emit import emit, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.parameters import AllApps, read_selections
from dbctl.cli._support.session import Session
from dbctl.services import wait as waiting
from dbctl.spec import EVERYWHERE, Example, Fleet

GROUP = Group(
    "wait",
    section="Automate",
    position=12,
    help="Wait until the databases answer, before a container starts.",
)


@Example("wait --all-apps --timeout 120", on="flashpoint-web")
@Example("wait --app {app} -o json", on=EVERYWHERE)
@GROUP.command(
    answers=lambda: (waiting.ReadinessPage,), fleet=Fleet(replaces={"all_apps": False}), timeout=60.0
)
def wait(session: Session, all_apps: AllApps = False) -> int:
    """Wait until every database answers a query, for at most --timeout seconds (60); --db NAME selects one database.

    It waits while a server starts or its host name is unknown, and while a file or a database on a server does not
    exist. A locked database answers. If a server refuses the login, or an error cannot pass by itself, it ends at once.
    The exit code is that of the error (10: not reachable), or 12 if only some databases answered.
    """
    options = session.options
    selections = read_selections(session, all_apps=all_apps)
    with show_progress(session):
        result = waiting.wait_for_databases(selections, timeout=options.timeout, only=options.db)
    for database in result.page.items:
        if database.message:
            warn(session, database.message)
    return emit(session, result.page, status=result.status, target=", ".join(result.apps))
