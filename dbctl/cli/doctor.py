"""``dbctl doctor``: check whether a deployment is safe to operate."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.parameters import AllApps, read_selections
from dbctl.cli._support.session import Session
from dbctl.model import CheckResult
from dbctl.spec import EVERYWHERE, Example, Fleet

GROUP = Group("doctor", section="Inspect", position=3, help="Check whether a deployment is safe to operate.")


@Example("doctor --all-apps", on="flashpoint-web")
@Example("doctor --app {app} -o json", on=EVERYWHERE)
@GROUP.command(
    answers=lambda: (CheckResult,),
    recorded=True,
    findings=True,
    fleet=Fleet(resumes=True, replaces={"all_apps": False}),
)
def doctor(session: Session, all_apps: AllApps = False) -> int:
    """Check whether a deployment is safe to operate; exit 4 if a finding has severity error.

    Check owners and modes of files, free space, well-known passwords, roles, migrations and cleanup. Each finding
    suggests a command to fix it. Nothing is written, and no write access is required.
    """
    from dbctl.services.checks.run import examine

    options = session.options
    report = examine(read_selections(session, all_apps=all_apps), timeout=options.timeout, only=options.db)
    return emit(session, report.findings, status=report.status, target=", ".join(report.apps))
