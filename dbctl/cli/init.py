"""``dbctl init``: find an app's databases and write the configuration."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated

import typer
from msgspec import structs

from dbctl.cli._support.app import read_selection
from dbctl.cli._support.emit import emit, run_change, warn
from dbctl.cli._support.parameters import DryRun
from dbctl.config import FILE_NAME, PLAIN
from dbctl.model import Page
from dbctl.services.setup import (
    FoundDatabase,
    InitConfig,
    find_single_app,
    is_place,
    recognize_databases,
)

app = typer.Typer()


@app.command()
def init(
    ctx: typer.Context,
    profile: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE",
            help="Name or file of a profile, such as flashpoint-web; or a directory or database whose app is recognized.",
        ),
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

    Without a profile, dbctl compares the databases below a directory, or at an address, with every profile. If they
    belong to one app, it is configured; so is a single database of no known app, with the profile plain; otherwise each database is listed with the command that continues: dbctl init
    for a known app, dbctl profiles draft for the others.

    Example: dbctl init flashpoint-web /srv/flashpoint --dry-run
    Example: dbctl init /srv/blog --dry-run
    """
    selection = read_selection(ctx)
    if directory is None and is_place(profile):
        databases = recognize_databases(profile)
        name = find_single_app(databases)
        is_own = not name and len(databases) == 1 and databases[0].profile is None
        if is_own:
            name, command = PLAIN, databases[0].next
            warn(
                ctx,
                f"{databases[0].database} belongs to no known app: profile {PLAIN}; for users and roles: {command}",
            )
            databases = [structs.replace(databases[0], profile=PLAIN, name="main")]
        if not name:
            return emit(
                ctx, Page(items=databases, total=len(databases), column_names=FoundDatabase.__struct_fields__)
            )
        for entry in databases:
            if entry.profile is None:
                warn(ctx, f"{entry.database} belongs to no known app: {entry.next}")
        directory = Path(profile) if Path(profile).is_dir() else None
        # The found address of a server has no password; init reads settings again.
        urls = [
            f"{entry.name}={entry.database if directory else profile}"
            for entry in databases
            if entry.profile and not entry.settings
        ]
        selection = structs.replace(selection, urls=[*urls, *selection.urls])
        profile = name
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
