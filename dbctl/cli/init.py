"""``dbctl init``: find an app's databases and write the configuration."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import selection
from dbctl.cli._support.emit import change
from dbctl.cli._support.options import DryRun
from dbctl.config import FILE_NAME
from dbctl.services.setup import Setup

app = typer.Typer(name="init", rich_markup_mode=None)


@app.command()
def init(
    ctx: typer.Context,
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="A profile by name or file: flashpoint-web.")
    ],
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="Where the app is; databases below it are found. Else here, or where the app keeps its files.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="The app's own settings; else the .env in DIR, where it has one.",
        ),
    ] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="Destructive commands will want the app's name typed.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Find an app's databases below DIR and write them to dbctl.toml, here or where --config says.

    --app names the app; --url DATABASE=PATH says where one is that cannot be found. A database on a server is where
    the app's own settings say; the password stays there, and dbctl.toml names the variable.
    """
    said = selection(ctx)
    file = Path(said.config or FILE_NAME)
    return change(
        ctx,
        Setup(
            profile,
            directory,
            app=said.app,
            file=file,
            urls=said.urls,
            protected=protected,
            settings=env_file,
        ),
    )
