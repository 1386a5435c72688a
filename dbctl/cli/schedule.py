"""``dbctl schedule``: what is to be done by itself, as the scheduler of the system reads it."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from typing import Annotated

import typer

from dbctl.cli._support.app import AllApps, selections
from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import call
from dbctl.model import Page
from dbctl.render import Format, escape, is_terminal, streams
from dbctl.services.schedule import Job, crontab

app = typer.Typer(
    name="schedule", help="What is to be done by itself.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def cron(
    ctx: typer.Context,
    all_apps: AllApps = False,
    user: Annotated[
        str,
        typer.Option("--user", metavar="NAME", help="Make lines for /etc/cron.d, which run as this user."),
    ] = "",
) -> int:
    """Print a crontab of backup, prune, verify, cleanup and status, as far as the app has them.

    The lines need no PATH, no home and no directory. dbctl schedule cron | crontab - replaces what is in the crontab.
    """
    apps = selections(ctx, all_apps=all_apps)
    jobs = crontab.jobs(apps)
    text = crontab.crontab(jobs, apps, user=user)
    if call(ctx).output is not Format.TABLE:
        page = Page(items=jobs, total=len(jobs), names=Job.__struct_fields__)
        return emit(ctx, page, target=", ".join(dict.fromkeys(job.app for job in jobs)))
    streams.write(
        "".join(f"{escape(line)}\n" for line in text.splitlines()) if is_terminal() else text, utf8=True
    )
    return 0
