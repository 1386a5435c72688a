"""``dbctl init``: find an app's databases and write the configuration."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.emit import note, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.config.loader import FILE_NAME
from dbctl.config.model import PLAIN
from dbctl.services.setup.containers import is_route
from dbctl.services.setup.init import InitConfig
from dbctl.services.setup.recognize import is_place, recognize_app
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.services.setup.init import InitResult


GROUP = Group("init", section="Set up", position=1, help="Find an app's databases and write dbctl.toml.")


@Example("init flashpoint-web /srv/flashpoint --dry-run")
@Example("init compose.yaml --app db")
@Example("init /srv/blog", shown=False, meaning="Write a configuration for an app.")
@GROUP.command(answers=lambda: (InitResult,), recorded=True)
def init(
    session: Session,
    profile: Annotated[
        str,
        argument(
            "PROFILE",
            "Name or file of a profile, such as flashpoint-web; or a directory, database, .env file, Compose file or container whose app is recognized.",
        ),
    ],
    directory: Annotated[
        Path | None,
        argument(
            "[DIR]",
            "Directory of the app, in which databases are searched, or the container of its database; default: the current one, or the app's usual location.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        option("--env-file", "FILE", "File of the app's own settings; default: .env in DIR, if any."),
    ] = None,
    new: Annotated[
        bool,
        flag(
            "--new",
            "The app has no files yet: configure its required SQLite databases at their usual paths, and create the folders.",
        ),
    ] = False,
    protected: Annotated[
        bool, flag("--protected", "Require the app's name to confirm destructive commands.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Find an app's databases below DIR and write them to dbctl.toml, or to the file of --config.

    --app sets the name of the app; --url DATABASE=PATH sets a database that cannot be found. The address of a
    database on a server comes from the app's own settings; the password remains there, and dbctl.toml only names
    the variable.

    Without a profile, dbctl compares the databases of a directory, a file, an address, a .env file, a Compose file or a
    container with every profile. If they belong to one app, it is configured. A single database of no known app gets the profile plain:
    backups, restores, checks, statistics, searches, rows and migrations; a profile of its own adds users and roles.
    If there are several, --app selects one by its name.

    A container is docker:NAME, podman:NAME, compose:PROJECT/SERVICE or kubernetes:NAMESPACE/POD, and needs no published
    port: dbctl.toml gets it as via. That of an app is enough if its variables name the container of the database. A
    service of a Compose file that publishes no port is reached in the same way while it runs.

    With --new, dbctl migrate up then creates the databases.

    A password is never written to dbctl.toml: it stays in the app's own settings or in its container, or gets a file of its own.
    """
    selection, recognized = session.selection, None
    if directory is None and is_place(profile):
        recognized = recognize_app(profile, selection.app)
        directory = Path(profile) if Path(profile).is_dir() else None
        profile = recognized.profile
    elif is_route(str(directory)):
        recognized = recognize_app(str(directory), selection.app, profile=profile)
        directory = None
    elif profile == PLAIN and not selection.urls:
        recognized = recognize_app(str(env_file or directory or "."), selection.app, profile=PLAIN)
        env_file = None
    for text in recognized.notes if recognized else ():
        note(session, text)
    file = Path(selection.config or FILE_NAME)
    return run_change(
        session,
        InitConfig(
            profile,
            directory,
            app=selection.app,
            file=file,
            urls=selection.urls,
            protected=protected,
            new=new,
            settings=env_file,
            recognized=recognized.addresses if recognized else {},
        ),
        dry_run=dry_run,
    )
