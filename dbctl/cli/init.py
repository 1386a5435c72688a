"""``dbctl init``: find an app's databases and write the configuration."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import read_selection
from dbctl.cli._support.emit import run_change
from dbctl.cli._support.options import DryRun
from dbctl.config import FILE_NAME
from dbctl.services.setup import InitConfig

app = typer.Typer()


@app.command()
def init(
    ctx: typer.Context,
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="Name or file of a profile, such as flashpoint-web.")
    ],
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="Directory of the app, in which databases are searched; default: the current one, or the app's usual location.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="File of the app's own settings; default: .env in DIR, if any.",
        ),
    ] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="Require the app's name to confirm destructive commands.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Find an app's databases below DIR and write them to dbctl.toml, or to the file of --config.

    --app sets the name of the app; --url DATABASE=PATH sets a database that cannot be found. The address of a
    database on a server comes from the app's own settings; the password remains there, and dbctl.toml only names
    the variable.

    Example: dbctl init flashpoint-web /srv/flashpoint --dry-run
    """
    selection = read_selection(ctx)
    file = Path(selection.config or FILE_NAME)
    return run_change(
        ctx,
        InitConfig(
            profile,
            directory,
            app=selection.app,
            file=file,
            urls=selection.urls,
            protected=protected,
            settings=env_file,
        ),
        dry_run=dry_run,
    )
