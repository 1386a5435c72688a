"""``dbctl schedule``: generate crontab lines for scheduled jobs."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated

import typer

from dbctl.cli._support.app import AllApps, read_selections
from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import read_options
from dbctl.model import Page
from dbctl.render import Format, escape, is_terminal, streams
from dbctl.services.schedule import Job, crontab

app = typer.Typer()


@app.command()
def cron(
    ctx: typer.Context,
    all_apps: AllApps = False,
    user: Annotated[
        str,
        typer.Option("--user", metavar="NAME", help="Generate lines for /etc/cron.d that run as this user."),
    ] = "",
) -> int:
    """Print a crontab with jobs for backup, prune, verify, cleanup and status, as far as the app supports them.

    The lines require no PATH, home or working directory. dbctl schedule cron | crontab - replaces the user's
    crontab.

    Example: dbctl schedule cron --all-apps
    """
    apps = read_selections(ctx, all_apps=all_apps, allow_fleets=True)
    jobs = crontab.list_jobs(apps)
    text = crontab.write_crontab(jobs, apps, user=user)
    if read_options(ctx).output is not Format.TABLE:
        page = Page(items=jobs, total=len(jobs), column_names=Job.__struct_fields__)
        return emit(ctx, page, target=", ".join(dict.fromkeys(job.app for job in jobs)))
    streams.write(
        "".join(f"{escape(line)}\n" for line in text.splitlines()) if is_terminal() else text, utf8=True
    )
    return 0
