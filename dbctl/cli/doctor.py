"""``dbctl doctor``: what an admin should know before trusting a deployment."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
import typer

from dbctl.cli._support.app import AllApps, selections
from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import call
from dbctl.services.doctor import examine

app = typer.Typer(name="doctor", rich_markup_mode=None)


@app.command("doctor")
def doctor(ctx: typer.Context, all_apps: AllApps = False) -> int:
    """Look for what an admin should know before trusting a deployment; exit 4 on an error.

    Owners and modes of files, room, passwords that everybody can know, roles, migrations, cleanup: each finding with the
    command that helps. Nothing is written, and no right to write is needed.
    """
    said = call(ctx)
    told = examine.examine(selections(ctx, all_apps=all_apps), timeout=said.timeout, only=said.db)
    return emit(ctx, told.findings, status=told.status, target=", ".join(told.apps))
