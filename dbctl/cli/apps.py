"""``dbctl apps``: what is configured, and what dbctl knows of it."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from typing import Annotated

import typer
from msgspec import structs

from dbctl.cli._support.app import opened, selection
from dbctl.cli._support.emit import emit
from dbctl.config import loader
from dbctl.errors import Exit
from dbctl.model import Findings
from dbctl.services.profiles import inventory

app = typer.Typer(
    name="apps",
    help="Configured apps and what dbctl knows of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(ctx: typer.Context) -> int:
    """List the configured apps and their databases."""
    return emit(ctx, inventory.list_apps(selection(ctx)))


@app.command("show")
def show_(
    ctx: typer.Context,
    profile: Annotated[
        str, typer.Argument(metavar="[PROFILE]", help="A profile by name or file; else that of the app.")
    ] = "",
) -> int:
    """Show what dbctl understood of an app's profile: databases, abilities, searches."""
    if profile:
        return emit(ctx, inventory.show_profile(profile))
    configured = loader.find(selection(ctx))
    return emit(ctx, inventory.show_profile(configured.profile, configured))


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="A profile file; else the whole configuration.")
    ] = "",
) -> int:
    """Check configuration and profiles, every mistake with line and key, and the live databases against them.

    Exit 2 where a file has a mistake, 4 where a live database lacks what its profile names.
    """
    said = selection(ctx)
    if file:
        said = structs.replace(said, profile=file)
    files = inventory.check_files(said, said.profile)
    if files.unsound or (file and not said.urls):
        return emit(ctx, files, status=Exit.USAGE if files.unsound else Exit.OK)
    names = [said.app] if said.app or said.profile else list(loader.load(said).apps)
    live: list[Findings] = []
    for name in names:
        with opened(ctx, structs.replace(said, app=name)) as found:
            live.append(inventory.check_live(found))
    findings = [*files.findings, *(finding for one in live for finding in one.findings)]
    answer = Findings(checked=files.checked + sum(one.checked for one in live), findings=findings)
    return emit(ctx, answer, status=Exit.UNSOUND if answer.unsound else Exit.OK)
